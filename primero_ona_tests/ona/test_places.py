"""Reading and filling `locations_lookup`, and who holds a contested key."""

from __future__ import annotations

import pandas as pd
import pytest

from primero_ona.failures import DataFailure
from primero_ona.ona.places import fill_places, holders, read_places, service_holders
from primero_ona.ona.schema import LOCATIONS_LOOKUP
from primero_ona_tests.ona.rows import SHAPES, case, frame, id_of, load, make_tables, read, service

DISTRICTS = [
    {"code": "1006", "district": "Chetr Borei", "province": "Kratie", "province_code": "10"},
    {"code": "601", "district": "Baray", "province": "Kampong Thom", "province_code": "6"},
]


def places(*rows: dict[str, str | None]) -> pd.DataFrame:
    return frame(list(rows), LOCATIONS_LOOKUP.arrow_schema())


def test_an_empty_lookup_is_filled_once(ona_url, ona):
    """ONA may have put its names right by hand; a second filling must not touch them."""
    assert fill_places(ona, places(*DISTRICTS)) == 2
    assert fill_places(ona, places({**DISTRICTS[0], "code": "1007"})) == 0
    assert read(ona_url, "SELECT count(*) AS n FROM locations_lookup") == [{"n": 2}]


def test_what_was_filled_is_read_as_text(ona):
    """Codes are no numbers; the mapping compares them as text."""
    fill_places(ona, places(*DISTRICTS, {**dict.fromkeys(DISTRICTS[0]), "code": "602"}))
    found = read_places(ona)
    assert found.to_dict("records")[:2] == DISTRICTS
    assert {str(dtype) for dtype in found.dtypes} == {"string[pyarrow]"}
    assert found["district"].isna().tolist() == [False, False, True]


def test_codes_kept_as_numbers_are_read_as_text(empty_ona):
    """Nobody knows the types in ONA's own table."""
    empty_ona.execute(
        "CREATE TABLE locations_lookup (code integer, district text, province text, province_code integer)"
    )
    empty_ona.execute("INSERT INTO locations_lookup VALUES (601, 'Baray', 'Kampong Thom', 6)")
    assert read_places(empty_ona).to_dict("records") == [DISTRICTS[1]]


def test_an_empty_lookup_reads_as_an_empty_frame(ona):
    """The mapping asks by this whether it has to be filled."""
    assert read_places(ona).empty
    assert list(read_places(ona).columns) == LOCATIONS_LOOKUP.mapped_names


@pytest.mark.parametrize("rows", [[DISTRICTS[0]] * 2, [{**DISTRICTS[0], "code": None}]], ids=["twice", "no code"])
def test_places_without_a_key_are_refused(ona, rows):
    """A district twice would double every case that lives there."""
    with pytest.raises(DataFailure, match="was not filled"):
        fill_places(ona, places(*rows))
    assert read_places(ona).empty


@pytest.mark.parametrize("shape", SHAPES)
def test_holders_are_told_by_primero_id(empty_ona, shape):
    """Who already holds a key in ONA keeps it; rows of the old pipeline hold nothing against anybody."""
    make_tables(empty_ona, shape)
    load(empty_ona, [case(1)], [service(1, 1)])
    empty_ona.execute("INSERT INTO cases (case_id) VALUES ('old')")
    empty_ona.execute("INSERT INTO services (unique_id, case_id) VALUES ('old', 'old')")
    assert holders(empty_ona, {"case-1", "old", "case-9"}) == {"case-1": id_of(1)}
    assert service_holders(empty_ona, ["service-1", "old"]) == {"service-1": id_of(1)}


def test_no_question_needs_no_answer(empty_ona):
    """Most quarters have no clash; they should not wait for ONA."""
    assert holders(empty_ona, []) == {}
