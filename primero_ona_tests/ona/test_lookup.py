"""Keeping `locations_lookup`: names in use do not change by themselves, codes never vanish."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from primero_ona.errors import DataError, UsageError
from primero_ona.ona.migrations import apply, plan
from primero_ona.ona.reference import ChangedName, accept_names, changed_names, sync_lookup
from primero_ona_tests.ona.rows import read

NOW = datetime(2024, 5, 1, tzinfo=UTC)


class District(NamedTuple):
    code: str
    district: str
    province: str
    province_code: str
    district_km: str = ""
    province_km: str = ""
    current: bool = True


BARAY = District("601", "Baray", "Kampong Thom", "6", "បារាយណ៍", "កំពង់ធំ")
CHETR = District("1006", "Chetr Borei", "Kratie", "10", "ចិត្រ\u200bបុរី", "ក្រចេះ")


def counts(result):
    return (result.rows.inserted, result.rows.updated, result.rows.unchanged)


def rows(url):
    return {row.pop("code"): row for row in read(url, "SELECT * FROM locations_lookup")}


def test_an_empty_lookup_is_filled_and_then_left_alone(ona_url, ona):
    """A second refresh that writes would tell the dashboards of changes that there are not."""
    assert counts(sync_lookup(ona, [BARAY, CHETR], NOW)) == (2, 0, 0)
    assert counts(sync_lookup(ona, [CHETR, BARAY], NOW)) == (0, 0, 2)
    assert rows(ona_url)["601"] == {
        "district": "Baray",
        "province": "Kampong Thom",
        "province_code": "6",
        "district_km": "បារាយណ៍",
        "province_km": "កំពង់ធំ",
        "gazetteer_code": "0601",
        "status": "current",
    }


@pytest.mark.proves("names-wait")
def test_names_in_use_stay_until_somebody_accepts(ona_url, ona):
    """Dashboards group by these names: a silent change would tear a province's series in two."""
    sync_lookup(ona, [BARAY, CHETR], NOW)
    renamed = [BARAY._replace(district="Baray Thmei"), CHETR]
    found = sync_lookup(ona, renamed, NOW)
    assert found.changed_names == changed_names(ona) == [ChangedName("601", "district", "Baray", "Baray Thmei")]
    assert counts(sync_lookup(ona, renamed, NOW)) == (0, 0, 2)
    assert rows(ona_url)["601"]["district"] == "Baray"
    assert accept_names(ona, ["601"], NOW) == found.changed_names
    assert rows(ona_url)["601"]["district"] == "Baray Thmei"
    assert changed_names(ona) == sync_lookup(ona, renamed, NOW).changed_names == []


def test_a_province_is_accepted_for_all_its_districts(ona_url, ona):
    """One name in use for a province, or its cases fall into two."""
    baray, stoung = BARAY._replace(province="Thom"), District("606", "Stoung", "Thom", "6")
    sync_lookup(ona, [BARAY, stoung._replace(province="Kampong Thom"), CHETR], NOW)
    sync_lookup(ona, [baray, stoung, CHETR._replace(district="Other")], NOW)
    assert len(accept_names(ona, ["6"], NOW)) == 2
    assert {row["province"] for row in rows(ona_url).values()} == {"Thom", "Kratie"}
    assert [name.code for name in changed_names(ona)] == ["1006"]
    assert len(accept_names(ona, None, NOW)) == 1


def test_a_name_that_primero_takes_back_is_no_finding_any_more(ona_url, ona):
    """Somebody would accept a name that is nobody's."""
    sync_lookup(ona, [BARAY], NOW)
    sync_lookup(ona, [BARAY._replace(district="A")], NOW)
    sync_lookup(ona, [BARAY._replace(district="B")], NOW + timedelta(days=7))
    assert [name.primeros for name in changed_names(ona)] == ["B"]
    sync_lookup(ona, [BARAY], NOW)
    assert changed_names(ona) == []
    told = read(ona_url, "SELECT primeros, accepted, resolved_at IS NULL AS open FROM primero_sync.place_names")
    assert [tuple(row.values()) for row in told] == [("A", False, False), ("B", False, False)]


def test_a_new_district_takes_the_name_that_its_province_has_in_use(ona_url, ona):
    """Otherwise one province would have two names from that day on."""
    sync_lookup(ona, [BARAY], NOW)
    new = District("606", "Stoung", "Thom", "6", "ស្ទោង", "ធំ")
    sync_lookup(ona, [BARAY, new], NOW)
    assert rows(ona_url)["606"]["province"] == "Kampong Thom"
    assert rows(ona_url)["606"]["province_km"] == "កំពង់ធំ"
    assert {(n.code, n.column_name) for n in changed_names(ona)} == {("606", "province"), ("606", "province_km")}


def test_a_code_that_vanished_stays_and_is_marked(ona_url, ona):
    """Old cases lie in districts that are gone; they must keep a name."""
    sync_lookup(ona, [BARAY, CHETR], NOW)
    result = sync_lookup(ona, [CHETR], NOW)
    assert (counts(result), result.retired) == ((0, 1, 1), ["601"])
    assert rows(ona_url)["601"]["status"] == "retired"
    assert counts(sync_lookup(ona, [CHETR], NOW)) == (0, 0, 2)
    assert sync_lookup(ona, [BARAY, CHETR._replace(current=False)], NOW).retired == ["1006"]
    assert (rows(ona_url)["601"]["status"], rows(ona_url)["1006"]["status"]) == ("current", "retired")


def test_a_district_of_which_primero_does_not_say_where_it_lies_stays_as_it_is(ona_url, ona):
    """Primero has it, so it is not retired; and where it lies is not guessed."""
    sync_lookup(ona, [BARAY, CHETR], NOW)
    result = sync_lookup(ona, [CHETR], NOW, odd={"601", "901"})
    assert (counts(result), result.retired, result.odd) == ((0, 0, 2), [], ["601", "901"])
    assert (rows(ona_url)["601"]["status"], sorted(rows(ona_url))) == ("current", ["1006", "601"])


def test_a_province_name_of_marks_alone_is_no_name_for_a_new_district(ona_url, ona):
    """It would be handed on to each district that comes."""
    sync_lookup(ona, [BARAY], NOW)
    ona.execute("UPDATE locations_lookup SET province_km = E'\\u200B\\u200C'")
    sync_lookup(ona, [District("606", "Stoung", "Kampong Thom", "6", "", "កំពង់ធំ")], NOW)
    assert rows(ona_url)["606"]["province_km"] == "កំពង់ធំ"


@pytest.mark.proves("invisible-marks")
def test_khmer_that_differs_by_line_breaks_only_is_the_same_name(ona):
    """Primero's texts are full of them."""
    sync_lookup(ona, [CHETR], NOW)
    other = CHETR._replace(district_km="ចិត្រ\u200cបុរី\ufeff", province_km="\u200d")
    result = sync_lookup(ona, [other], NOW)
    assert (counts(result), result.changed_names) == ((0, 0, 1), [])


def test_a_lookup_made_by_hand_is_filled_up_and_not_doubled(ona_url, empty_ona):
    """ONA's own table may have padded codes, numbers, and names that people have put right."""
    empty_ona.execute("CREATE TABLE locations_lookup (code text, district text, province text, province_code integer)")
    empty_ona.execute("INSERT INTO locations_lookup VALUES ('0601', 'Baray!', '', 6), ('9901', 'Old', 'Gone', 99)")
    apply(empty_ona, plan(empty_ona))
    assert counts(sync_lookup(empty_ona, [BARAY, CHETR], NOW)) == (1, 2, 0)
    found = rows(ona_url)
    assert found["0601"]["district"] == "Baray!"
    assert (found["0601"]["province"], found["0601"]["district_km"]) == ("Kampong Thom", "បារាយណ៍")
    assert (found["9901"]["status"], found["9901"]["gazetteer_code"]) == ("retired", "9901")
    assert accept_names(empty_ona, ["0601"], NOW) == [ChangedName("0601", "district", "Baray!", "Baray")]
    assert counts(sync_lookup(empty_ona, [BARAY, CHETR], NOW)) == (0, 0, 3)


@pytest.mark.parametrize("districts", [[], [BARAY, BARAY]], ids=["none", "twice"])
def test_districts_that_cannot_be_right_change_nothing(ona_url, ona, districts):
    """An empty list would retire the whole country."""
    sync_lookup(ona, [BARAY], NOW)
    with pytest.raises(DataError, match="left as it is"):
        sync_lookup(ona, districts, NOW)
    assert rows(ona_url)["601"]["status"] == "current"


def test_accepting_what_has_not_changed_is_told(ona):
    """A mistyped code must not look accepted."""
    sync_lookup(ona, [BARAY], NOW)
    with pytest.raises(UsageError, match="602"):
        accept_names(ona, ["602"], NOW)
