"""The indicators' figures: what a computation writes, what is kept of revisions, what the views show."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from primero_ona.errors import DataError, TransientError
from primero_ona.ona.connection import connect, lock_loads
from primero_ona.ona.erasure import erase
from primero_ona.ona.variants import Lists, fingerprint, variants
from primero_ona_tests.harness import NOW
from primero_ona_tests.ona.figures import DEFAULTS, TODAY, computed, frames, stored
from primero_ona_tests.ona.plain_figures import plain_figures
from primero_ona_tests.ona.rows import Q2, SHAPES, case, id_of, left, load, make_tables, read, service

ROWS = (
    [
        case(1, placement_type="kinship care", care_date=date(2024, 2, 1), case_status="open", age_at_placement=4),
        case(2, age=None, date_of_reintegration=date(2024, 3, 31), district_current="Chhloung", case_status="closed"),
        case(3, age=18, age_at_registration=17, protection_concerns="Other, Refugee"),
    ],
    [service(1, 1), service(2, 2, service_subtypes="family_based_care_kinship"), service(3, 2, service_date=None)],
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.proves("figures-right")
def test_the_figures_are_the_same_whatever_the_column_types(empty_ona, shape):
    """ONA's real column types are not known; text would sort and compare otherwise than numbers and dates."""
    make_tables(empty_ona, shape)
    load(empty_ona, *ROWS)
    computed(empty_ona)
    expected = plain_figures(*frames(empty_ona), 2022, TODAY)
    assert stored(empty_ona) == expected
    assert expected["4.8", "event", "quarter", date(2024, 1, 1), "all", "all"] == 2


@pytest.mark.proves("figures-right")
def test_timestamps_numbers_and_short_texts_are_read_as_what_they_hold(empty_ona):
    """A legacy table may have any of them."""
    make_tables(empty_ona, "none")
    load(empty_ona, *ROWS)
    empty_ona.execute("""
        ALTER TABLE cases ALTER registration_date TYPE timestamp, ALTER age TYPE numeric(5, 1), ALTER sex TYPE char(12),
                          ALTER date_closure TYPE timestamptz, ALTER case_status TYPE varchar(20), ALTER primero_id TYPE text;
        ALTER TABLE services ALTER service_date TYPE varchar(30), ALTER age_at_service TYPE smallint
    """)
    computed(empty_ona)
    found = stored(empty_ona)
    assert found["4.11a", "open", "quarter", date(2024, 1, 1), "sex", "Female"] == 2
    assert found["4.11a", "served", "month", date(2024, 2, 1), "service_type", "Counselling"] == 2


def written(url):
    query = "SELECT xmin::text, indicator, variant, period, period_start, dimension, value, children, updated_at FROM indicator_figures"
    return {tuple(row.values())[1:7]: tuple(row.values()) for row in read(url, query)}


@pytest.mark.proves("figures-fresh")
def test_an_unchanged_computation_writes_nothing(ona_url, ona):
    """Rows written for nothing would make everything look revised."""
    load(ona, *ROWS)
    computed(ona)
    before = written(ona_url)
    computed(ona, now=NOW.replace(hour=5))
    assert written(ona_url) == before != {}
    assert read(ona_url, "SELECT FROM primero_sync.indicator_history") == []


def test_only_figures_that_differ_are_written_and_stamped(ona_url, ona):
    """`updated_at` says which figure changed; one case must not touch the others."""
    load(ona, *ROWS)
    computed(ona)
    before, later = written(ona_url), NOW.replace(hour=5)
    ona.execute("UPDATE cases SET sex = 'Male' WHERE case_id = 'case-1'")
    computed(ona, now=later)
    after = written(ona_url)
    changed = {key for key in after if after[key] != before.get(key)}
    assert {key[4] for key in changed} == {"sex", "sex_age", "province_sex"}
    assert {after[key][-1] for key in changed} == {later}
    assert before.keys() - after.keys(), "what no child is left in is removed"


@pytest.mark.proves("figures-fresh")
def test_a_month_that_begins_has_its_figure_at_once(ona):
    """Dashboards show an empty month as 0, and not as a gap."""
    load(ona, *ROWS)
    computed(ona, now=datetime(2024, 3, 31, 16, 59, tzinfo=UTC))
    assert ("4.8", "event", "quarter", date(2024, 4, 1), "all", "all") not in stored(ona)
    computed(ona, now=datetime(2024, 3, 31, 17, 0, tzinfo=UTC))
    assert stored(ona)["4.8", "event", "month", date(2024, 4, 1), "all", "all"] == 0


@pytest.mark.proves("figures-chosen")
def test_the_views_show_the_variants_that_the_settings_choose(ona_url, ona):
    """A dashboard must not have to know which definition is meant, and people must see which one it is."""
    load(ona, *ROWS)
    query = """
        SELECT variant, definition, children FROM indicator_4_11a
         WHERE period = 'quarter' AND period_start = '2024-01-01' AND dimension = 'all'
    """
    for variant, children in (("served", 2), ("open", 2)):
        computed(ona, defaults={"4.8": "event", "4.11a": variant})
        expected = {"variant": variant, "definition": "definition not confirmed by the ministry", "children": children}
        assert read(ona_url, query) == [expected]
    assert read(ona_url, "SELECT DISTINCT indicator, variant FROM indicator_4_8") == [
        {"indicator": "4.8", "variant": "event"}
    ]


LATE = [case(9, sex="Other", registration_date=date(2024, 1, 20))], [service(9, 9)]


def again(conn, *rows, **more):
    return load(conn, *rows, cases_summary={"mapping_version": "old"}, **more)


#: What happens between two computations, and the reasons of what rises and of what falls in the quarter, sex and all.
HAPPENINGS = {
    "a case comes": (lambda conn: again(conn, *LATE), {"late registration"}, set()),
    "a past quarter comes": (lambda conn: again(conn, *LATE, quarter=Q2), {"first load of a past quarter"}, set()),
    "a case changes": (
        lambda conn: again(conn, [ROWS[0][0] | {"sex": "Male"}, *ROWS[0][1:]], ROWS[1]), {"correction"}, {"correction"},
    ),
    "a case leaves": (lambda conn: again(conn, [], [], [left(1)]), set(), {"exit"}),
    "a case comes and one leaves": (
        lambda conn: again(conn, *LATE, [left(1)]), {"late registration"}, {"exit"},
    ),
    "one changes and one leaves": (
        lambda conn: again(conn, [ROWS[0][1] | {"sex": "Male"}], ROWS[1][1:], [left(1)]), {"correction"}, {"correction or exit"},
    ),
    "the mapping changes": (
        lambda conn: load(
            conn, [row | {"sex": "Male"} for row in ROWS[0]], ROWS[1], cases_summary={"mapping_version": "new"},
        ),
        {"correction or mapping changed"}, {"correction or mapping changed"},
    ),
    "a person edits ONA": (lambda conn: conn.execute("UPDATE cases SET sex = 'Male'"), {"unknown"}, {"unknown"}),
    "a repair and a case that comes": (
        lambda conn: (again(conn, *LATE), conn.execute(
            "UPDATE cases SET sex = 'Male', last_updated_date = now() AT TIME ZONE 'UTC' + interval '1 hour' WHERE case_id = 'case-1'"
        )),
        {"late registration or unknown"}, {"unknown"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("happening", HAPPENINGS)
@pytest.mark.proves("figures-revised")
def test_a_revised_figure_is_kept_with_what_may_have_caused_it(ona_url, ona, happening):
    """Who has published a figure is asked why it is another now; a guess would be worse than no answer."""
    happens, rising, falling = HAPPENINGS[happening]
    again(ona, *ROWS)
    computed(ona)
    happens(ona)
    computed(ona, run_id="run-2")
    kept = read(ona_url, "SELECT * FROM primero_sync.indicator_history")
    assert kept
    plain = [row for row in kept if row["dimension"] in ("all", "sex")]
    assert {row["reason"] for row in plain if row["new"] > row["old"]} == rising
    assert {row["reason"] for row in plain if row["new"] < row["old"]} == falling
    assert {row["run_id"] for row in kept} == {"run-2"}
    assert {(row["period"], str(row["period_start"])) for row in kept} <= {("month", "2024-01-01"), ("month", "2024-02-01"),
        ("month", "2024-03-01"), ("quarter", "2024-01-01")}, "periods that still run are not revised"  # fmt: skip


@pytest.mark.proves("figures-revised")
def test_a_changed_definition_is_the_reason_of_what_it_changes(ona_url, ona, monkeypatch):
    """The lists may be edited by people; then no case is to blame."""
    load(ona, *ROWS)
    computed(ona)
    monkeypatch.setattr("primero_ona.ona.figures.lists", lambda: Lists(("foster care",), ()))
    monkeypatch.setattr("primero_ona.ona.variants.lists", lambda: Lists(("foster care",), ()))
    computed(ona)
    query = "SELECT DISTINCT reason FROM primero_sync.indicator_history"
    assert read(ona_url, query) == [{"reason": "definition changed"}]
    gone = read(
        ona_url,
        "SELECT old, new FROM primero_sync.indicator_history WHERE value = '0-4' AND period = 'month' AND variant = 'event'",
    )
    assert gone == [{"old": 1, "new": 0}], "what falls away is kept, too"


@pytest.mark.proves("figures-fresh")
def test_a_figure_is_computed_only_where_something_happened_since(ona):
    """A sync that changes nothing must not pay for it; and nothing that changes a figure may be missed."""
    load(ona, *ROWS)
    ask = {"always": False, "now": datetime.now(UTC)}
    assert computed(ona, **ask), "it was never computed"
    assert not computed(ona, **ask)
    load(ona, *ROWS)
    assert not computed(ona, **ask), "a load that writes nothing changes nothing"
    load(ona, [case(1, age=3), *ROWS[0][1:]], ROWS[1])
    assert computed(ona, **ask)
    assert computed(ona, **ask | {"defaults": DEFAULTS | {"4.8": "registered"}})
    assert computed(ona, **ask | {"first_year": 2021})
    erase(ona, [id_of(1)], NOW)
    assert computed(ona, **ask | {"first_year": 2021})
    assert computed(ona, **ask | {"now": datetime.now(UTC) + timedelta(days=1)}), "periods may have begun"


@pytest.mark.proves("figures-fresh")
def test_figures_wait_for_a_load_and_fail_plainly_without_their_table(ona_url, ona, empty_ona):
    """Half of a load must not be counted; and an upgrade says what to do."""
    with connect(ona_url) as other, other.transaction():
        lock_loads(other)
        with connect(ona_url, lock_timeout=0.2) as conn, pytest.raises(TransientError, match="another sync is loading"):
            computed(conn)
    ona.execute("ALTER TABLE indicator_figures DROP CONSTRAINT indicator_figures_pkey")
    assert computed(ona), "a table that was restored without its key has its figures, too"
    ona.execute("DROP TABLE indicator_figures CASCADE")
    with pytest.raises(DataError, match="run `primero-ona schema apply`"):
        computed(ona)


def test_every_definition_has_words_and_no_query_of_another():
    """People must be able to read what is counted without help."""
    for variant in variants():
        assert f"Indicator {variant.indicator}, variant `{variant.name}`" in variant.words
        assert "A child counts in a period when" in variant.words
        assert "Age: " in variant.words
    assert len({variant.sql for variant in variants()}) == 5
    assert fingerprint() != fingerprint("2021")
