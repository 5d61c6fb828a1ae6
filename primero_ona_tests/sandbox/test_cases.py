"""The synthetic cases: the same by seed, of every odd shape, and with every code."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from primero_ona.quarters import Quarter
from primero_ona.sandbox.cases import Wish, generate
from primero_ona.sandbox.columns import CANARY, CANARY_BIRTH
from primero_ona.sandbox.reference import option_ids

NOW = datetime(2024, 5, 20, 3, tzinfo=UTC)
Record = dict[str, Any]


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return list(generate(Wish(seed=3, now=NOW)).records())


@pytest.fixture(scope="module")
def services(records: list[Record]) -> list[Any]:
    return list(
        itertools.chain.from_iterable(
            row["services_section"] for row in records if isinstance(row.get("services_section"), list)
        )
    )


def test_the_same_seed_gives_the_same_cases_and_another_one_others() -> None:
    """A failure that cannot be repeated cannot be mended."""
    first, again, other = (list(generate(Wish(200, seed, NOW)).records()) for seed in (1, 1, 2))
    assert first == again
    assert not {row["id"] for row in first} & {row["id"] for row in other}


@pytest.mark.parametrize("count", [0, 1, 2, 39, 41, 500])
def test_any_number_of_cases_can_be_had(count: int) -> None:
    """Small stores are what tests are made of."""
    found = list(generate(Wish(count, now=NOW)).records())
    assert len({row["id"] for row in found}) == count


def test_the_cases_lie_in_the_last_eight_quarters_the_open_one_included(records: list[Record]) -> None:
    """The demo shows a history and something that still moves."""
    quarters = Counter(Quarter.of(datetime.fromisoformat(row["last_updated_at"])).name for row in records)
    assert sorted(quarters) == ["2022-Q3", "2022-Q4", "2023-Q1", "2023-Q2", "2023-Q3", "2023-Q4", "2024-Q1", "2024-Q2"]
    assert max(row["last_updated_at"] for row in records) < "2024-05-20T03"


def test_all_cases_can_lie_in_one_quarter() -> None:
    """What a benchmark asks for."""
    found = generate(Wish(300, now=NOW, quarter=Quarter(2023, 1))).records()
    assert {Quarter.of(datetime.fromisoformat(row["last_updated_at"])).name for row in found} == {"2023-Q1"}


def test_last_updates_lie_on_both_sides_of_every_border(records: list[Record]) -> None:
    """Start in, end out, in Phnom Penh: 17:00 UTC of the last day before."""
    stamps = {row["last_updated_at"] for row in records}
    assert {
        "2024-03-31T16:59:59.999Z",
        "2024-03-31T17:00:00.000Z",
        "2024-03-31T16:59:59.000Z",
        "2024-03-31T17:00:00.999Z",
    } <= stamps


def test_every_code_of_the_mapping_occurs(records: list[Record], services: list[Any]) -> None:
    """A label that no case has is never proved."""
    concerns = {
        code
        for row in records
        if isinstance(row.get("protection_concerns"), list)
        for code in map(str, row["protection_concerns"])
    }
    assert concerns >= set(option_ids("lookup-protection-concerns"))
    assert {row.get("disability_type") for row in records if isinstance(row.get("disability_type"), str)} >= set(
        option_ids("lookup-disability-type-with-no")
    )
    types = {
        row.get("service_type")
        for row in services
        if isinstance(row, dict) and isinstance(row.get("service_type"), str)
    }
    assert types >= {*option_ids("lookup-service-type"), "Other", "food_parcels_83310"}
    assert "statelessness" in concerns, "a retired code, which the mapping does not know"


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("age", [0, "7", "12.0", 12.0, "", None, "absent", -1, True]),
        ("consent_reporting", [True, "true", False, "false", None, "absent"]),
        ("type_of_case", ["children_undergoing_reintegration_55427", None, "absent", "other"]),
        ("location_current", [10_060_802, "01020304", "KHM", "NaN", "1299", "", None, "absent"]),
        ("oscar_number", ["absent", None, "", False, 0]),
        ("services_section", [None, "absent", []]),
        ("case_id_display", [None, "", "   ", "absent"]),
        ("created_at", [None]),
        ("registration_date", ["31/03/2024", "2024-03-31T20:00:00.000Z", None, "absent"]),
        ("date_of_birth", [None, "absent", "", "2099-01-01", "2012-02-30"]),
        ("record_state", [True, False]),
        ("module_id", ["primeromodule-cp", "primeromodule-gbv"]),
    ],
)
def test_the_odd_shapes_of_a_field_occur(records: list[Record], name: str, shapes: list[Any]) -> None:
    """A shape that the sandbox does not have is first met in production."""
    found = {(type(value), str(value)) for value in (row.get(name, "absent") for row in records)}
    assert [shape for shape in shapes if (type(shape), str(shape)) not in found] == []


def test_options_of_several_choices_and_long_and_short_location_codes_occur(records: list[Record]) -> None:
    """Provinces 1 to 9 have codes of odd length, and a field made multi-select comes as a list."""
    assert {
        type(row.get(name)) for row in records for name in ("type_of_case", "disability_type", "type_of_placement")
    } >= {list, str}
    lengths = {
        len(row["location_current"])
        for row in records
        if str(row.get("location_current")).isdigit() and isinstance(row["location_current"], str)
    }
    assert lengths >= {1, 2, 3, 4, 5, 6, 7, 8}


def test_cases_are_in_both_sets_in_one_and_in_none(records: list[Record]) -> None:
    """Exits, overlaps and both indicators need cases to count."""

    def sets(row: Record) -> tuple[bool, bool]:
        returning = row.get("type_of_case") == "children_undergoing_reintegration_55427"
        return returning, isinstance(row.get("age"), int) and row["age"] < 18

    assert len(Counter(map(sets, records))) == 4


def test_most_have_a_date_of_birth_that_fits_their_age_and_many_were_born_on_1_january(records: list[Record]) -> None:
    """Ages grow by themselves where there is a birthday, and a typed age has that of 1 January."""
    named = {row["id"]: row.get("date_of_birth") for row in records}
    births = {case: birth for case, birth in named.items() if isinstance(birth, str) and birth[:2] in {"19", "20"}}
    assert 0.6 < len(births) / len(records) < 0.9
    assert 0.3 < sum(birth.endswith("-01-01") for birth in births.values()) / len(births) < 0.5
    fitting = [
        row for row in records if row["id"] in births and type(row.get("age")) is int and len(births[row["id"]]) == 10
    ]
    wrong = [row for row in fitting if row["age"] != _age_when_saved(row)]
    assert len(fitting) > 1_500
    assert len(wrong) < 0.01 * len(fitting)


def _age_when_saved(row: Record) -> int | None:
    try:
        born = date.fromisoformat(row["date_of_birth"])
    except ValueError:
        return None
    saved = (datetime.fromisoformat(row["last_updated_at"]) + timedelta(hours=7)).date()
    return saved.year - born.year - ((saved.month, saved.day) < (born.month, born.day))


def test_services_have_their_odd_shapes(services: list[Any]) -> None:
    """Missing and shared identities, deleted ones, times that are none, elements that are no objects."""
    objects = [row for row in services if isinstance(row, dict)]
    assert len(objects) < len(services)
    assert {row.get("_destroy", "absent") for row in objects} == {"absent", False, True}
    assert {row.get("unique_id", "absent") for row in objects} >= {"absent", None, "", "  "}
    ids = Counter(row["unique_id"] for row in objects if row.get("unique_id") and row["unique_id"].strip())
    assert max(ids.values()) == 2
    times = [row.get("service_implemented_day_time", "absent") for row in objects]
    assert {"absent", None, "", "not implemented"} <= set(times)
    assert {len(time) for time in times if time} >= {10, 19, 20, 24}
    assert any("T16:" in str(time) or "T17:" in str(time) for time in times), "near midnight in Phnom Penh"
    assert all(
        (row["service_implemented"] == "implemented") == str(row.get("service_implemented_day_time"))[:2].isdigit()
        for row in objects
    )


def test_there_are_three_services_a_case(records: list[Record], services: list[Any]) -> None:
    """The sizes in the documentation rest on it."""
    assert 2.7 < len(services) / len(records) < 3.3


def test_a_few_children_share_a_display_id_and_many_a_creation_time(records: list[Record]) -> None:
    """Clashing keys and imports."""
    shown = Counter(row.get("case_id_display") for row in records)
    assert sum(count == 2 for count in shown.values()) >= 3
    stamps = Counter(row["created_at"] for row in records if row["created_at"])
    assert stamps.most_common(1)[0][1] >= 50


def test_nothing_personal_is_without_its_canary(records: list[Record]) -> None:
    """Tests look for the canary in logs and files; a name without one would slip through."""
    row = records[0]
    for name in ("name", "address_current", "telephone_current", "name_caregiver", "notes_section"):
        assert row[name].startswith(CANARY)
    assert any(row.get("date_of_birth") == CANARY_BIRTH for row in records)


def test_odd_shapes_can_be_left_out() -> None:
    """For a test that wants numbers to come out even."""
    found = list(generate(Wish(400, now=NOW, odd=False)).records())
    assert all(isinstance(row["services_section"], list) for row in found)
    assert all(type(row.get("age", 1)) in {int, type(None)} for row in found)
    assert len({row["case_id_display"] for row in found}) == 400
