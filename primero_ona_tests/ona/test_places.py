"""Reading `locations_lookup`, and who holds a contested key."""

from __future__ import annotations

import pytest

from primero_ona.ona.places import holders, read_places, service_holders
from primero_ona_tests.ona.rows import SHAPES, case, id_of, load, make_tables, service

DISTRICTS = [
    {"code": "1006", "district": "Chetr Borei", "province": "Kratie", "province_code": "10"},
    {"code": "601", "district": "Baray", "province": "Kampong Thom", "province_code": "6"},
]


def test_codes_kept_as_numbers_are_read_as_text(empty_ona):
    """Nobody knows the types in ONA's own table, nor whether it has the columns that were added since."""
    empty_ona.execute(
        "CREATE TABLE locations_lookup (code integer, district text, province text, province_code integer)"
    )
    empty_ona.execute("INSERT INTO locations_lookup VALUES (601, 'Baray', 'Kampong Thom', 6)")
    found = read_places(empty_ona)
    assert found.to_dict("records") == [DISTRICTS[1]]
    assert {str(dtype) for dtype in found.dtypes} == {"string[pyarrow]"}


def test_an_empty_lookup_reads_as_an_empty_frame(ona):
    """The mapping asks by this whether it has to be filled."""
    assert read_places(ona).empty
    assert list(read_places(ona).columns) == list(DISTRICTS[0])


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
