"""Reading `locations_lookup`."""

from __future__ import annotations

from primero_ona.ona.reference import read_places

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
