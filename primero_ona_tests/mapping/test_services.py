"""Services: taking a section apart, column by column, and who is set aside."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

from primero_ona.mapping.rows import map_services
from primero_ona_tests.mapping.helpers import LABELS, found, map_sections, map_service, rows
from primero_ona_tests.raw import raw_frame, uuid_of

TYPES = {
    "unique_id": pa.string(),
    "case_id": pa.string(),
    "service_type": pa.string(),
    "service_date": pa.date32(),
    "primero_case_id": pa.string(),
    "service_subtypes": pa.string(),
    "age_at_service": pa.int32(),
    "place": pa.int32(),
}


def service(key="s-1", **keys):
    return {"unique_id": key, **keys}


def aside(case, reason):
    return {"table": "services", "primero_id": uuid_of(case), "reason": reason}


@pytest.mark.parametrize("sections", [[], [None], [[service()]], [["broken"]]], ids=["none", "null", "one", "aside"])
def test_mapped_services_have_these_columns_and_types_in_this_order(sections):
    """The load copies by position and type, also where a batch has no services at all."""
    frame = map_sections(*sections).frame
    assert dict(frame.dtypes) == {name: pd.ArrowDtype(kind) for name, kind in TYPES.items()}
    assert list(frame.columns) == list(TYPES)


def test_each_element_is_one_row_under_its_own_case():
    """A service under another child's case would be a service that child never had."""
    mapped = map_sections([service("a"), service("b")], None, [], [service("c")])
    assert [(row["unique_id"], row["case_id"], row["primero_case_id"]) for row in rows(mapped.frame)] == [
        ("a", "KRT-0", uuid_of(0)),
        ("b", "KRT-0", uuid_of(0)),
        ("c", "KRT-3", uuid_of(3)),
    ]
    assert mapped.quarantine == []


def test_a_piece_of_a_frame_is_mapped_as_a_frame_of_its_own():
    """Arrow shares memory between a frame and its slices; an offset forgotten would shift services to other cases."""
    sections = [[service(f"{n}-{m}") for m in range(n % 3)] or None for n in range(9)]
    raw = raw_frame(*({"case_id_display": f"KRT-{n}", "services_section": s} for n, s in enumerate(sections)))
    for piece in (raw.iloc[4:8], raw[raw["id"] > uuid_of(3)].iloc[:4], pd.concat([raw.iloc[4:6], raw.iloc[6:8]])):
        assert [(row["case_id"], row["unique_id"]) for row in rows(map_services(piece, LABELS).frame)] == [
            (f"KRT-{n}", f"{n}-{m}") for n in range(4, 8) for m in range(n % 3)
        ]


@pytest.mark.parametrize(
    ("flag", "kept"), [(True, 0), ("true", 0), (" true ", 0), (False, 1), ("false", 1), (None, 1), (1, 1)]
)
def test_an_element_marked_as_destroyed_is_skipped(flag, kept):
    """Primero keeps the mark when the section was created with it; the service does not exist."""
    mapped = map_sections([service(_destroy=flag)])
    assert (len(mapped.frame), mapped.quarantine) == (kept, [])


@pytest.mark.parametrize("key", [None, "", "  ", "\x00", {}, ["s-1"], False])
def test_a_service_without_a_key_goes_to_quarantine(key):
    """A null key fails the load; the other services of the case must not suffer for it."""
    mapped = map_sections([service(key, service_type="x_1"), service()])
    assert list(mapped.frame["unique_id"]) == ["s-1"]
    assert mapped.quarantine == [aside(0, "unique_id missing")]
    assert found(mapped) == []


@pytest.mark.parametrize("section", [["text"], [None], [7], [["s-1"]], "text", {"unique_id": "s-1"}, 7])
def test_what_is_no_service_goes_to_quarantine(section):
    """A section that is no list, or an element that is no object, must be seen and must not stop the run."""
    mapped = map_sections(section, [service()])
    assert mapped.quarantine == [aside(0, "service malformed")]
    assert list(mapped.frame["case_id"]) == ["KRT-1"]


def test_elements_of_a_case_with_one_key_get_places_in_the_order_of_the_section():
    """OSCaR sends one id for all services of a type; each of them was given."""
    section = [service(service_type="counselling"), service("s-2"), service(" s-1 ", service_type="other"), service()]
    mapped = map_sections(section, [service()])
    assert [(row["case_id"], row["unique_id"], row["place"], row["service_type"]) for row in rows(mapped.frame)] == [
        ("KRT-0", "s-1", 1, "Counselling"),
        ("KRT-0", "s-2", 1, None),
        ("KRT-0", "s-1", 2, "Other"),
        ("KRT-0", "s-1", 3, None),
        ("KRT-1", "s-1", 1, None),
    ]
    assert (mapped.quarantine, mapped.repeated) == ([], 0)


def test_elements_that_are_equal_in_all_that_is_kept_are_one_service():
    """A section that was merged twice holds a service twice; it was given once."""
    twice = service(service_type="other", service_implemented_day_time="2024-01-10")
    section = [twice, service(), dict(twice), service("s-2"), dict(twice), service(note="never kept")]
    mapped = map_sections(section, [dict(twice)])
    assert [(row["case_id"], row["unique_id"], row["place"]) for row in rows(mapped.frame)] == [
        ("KRT-0", "s-1", 1),
        ("KRT-0", "s-1", 2),
        ("KRT-0", "s-2", 1),
        ("KRT-1", "s-1", 1),
    ]
    assert (mapped.quarantine, mapped.repeated) == ([], 3)


def test_a_destroyed_element_does_not_take_the_key_from_the_one_that_stands():
    """The mark means that it is gone, so the other one is no repetition."""
    mapped = map_sections([service(_destroy=True), service(service_type="other")])
    assert (list(mapped.frame["service_type"]), mapped.quarantine) == (["Other"], [])


def test_services_without_a_key_are_not_repetitions_of_each_other():
    """The old pipeline took all of them for one."""
    assert map_sections([service(None), service(None)]).quarantine == [aside(0, "unique_id missing")] * 2


def test_services_of_a_case_without_a_key_are_quarantined_with_it():
    """A service needs a `case_id`; the column takes no null."""
    mapped = map_services(raw_frame({"services_section": [service("a"), service(None), "x"]}), LABELS)
    assert (len(mapped.frame), mapped.quarantine) == (0, [aside(0, "case_id missing")] * 3)


@pytest.mark.parametrize(
    ("value", "text", "reported"),
    [
        (["family_based_care_kinship", "x_1"], "family_based_care_kinship, x_1", 0),
        ("family_based_care_kinship", "family_based_care_kinship", 0),
        ([], None, 0),
        (None, None, 0),
        (["", " a "], "a", 0),
        (["a", {}], "a", 1),
        ({}, None, 1),
    ],
)
def test_subtypes_are_kept_as_ids(value, text, reported):
    """Indicator 4.8 looks for ids of subtypes; there are no labels for them here."""
    row, findings = map_service(service_subtype=value)
    assert (row["service_subtypes"], findings) == (text, [("service_subtype", None, 1)] * reported)
