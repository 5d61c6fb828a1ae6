"""Pulls against the sandbox's Primero over real HTTP: whatever it does, a walk is complete or fails.

The truth is read from the sandbox's own store, never from its answers.
"""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from primero_ona.errors import DataError, RefusedError, SyncError, TransientError
from primero_ona.primero.fields import CASE_FIELDS, KnownFields
from primero_ona.quarters import Quarter
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests import quick
from primero_ona_tests.primero.pulling import CLOSED, NOW, OPEN, primero, pull, truth

__all__ = ["primero"]  # fixture


@pytest.mark.parametrize("quarter", [CLOSED, OPEN], ids=["closed", "open"])
@pytest.mark.parametrize("version", quick(("2.10.3", "2.11.0", "2.12.0", "2.13.0", "2.15.2.1"), "2.10.3", "2.15.2.1"))
@pytest.mark.proves("versions")
def test_each_case_of_the_window_comes_once_from_every_version(primero, version, quarter):
    """Without it, a version's way of comparing stamps could lose or double the cases at a page's border."""
    primero.switches.version = version
    _, sink = pull(primero, quarter)
    assert len(sink.ids) == len(set(sink.ids)) > 1_000
    assert set(sink.ids) == truth(primero, quarter)


@pytest.mark.parametrize("version", quick(("2.11.0", "2.15.2.1"), "2.11.0"))
@pytest.mark.proves("paging")
def test_an_import_of_more_cases_than_a_page_with_one_creation_stamp_is_walked(version):
    """An import gives thousands of cases one `created_at`; a walk by `created_at` alone would stand still there."""
    wish = Wish(4_000, seed=5, now=NOW, quarter=CLOSED, import_block=2_500)
    with SandboxPrimero(wish).serve() as primero:
        primero.switches.version = version
        _, sink = pull(primero)
        assert sorted(sink.ids) == sorted(truth(primero))


@pytest.mark.proves("paging")
def test_more_cases_without_a_creation_stamp_than_a_page_are_walked():
    """Such cases are in no range of `created_at`, so only the first, unbounded page can show them."""
    with SandboxPrimero(Wish(1_500, seed=6, now=NOW, quarter=CLOSED)).serve() as primero:
        for case in [record["id"] for record in primero.cases.records()][:1_200]:
            row = primero.cases.row_of(case)
            stamp = datetime.fromisoformat(primero.cases.record(row)["last_updated_at"])
            primero.update(case, created_at=None, last_updated_at=stamp)
        _, sink = pull(primero)
        assert sorted(sink.ids) == sorted(truth(primero))


@pytest.mark.proves("edits-during-pull")
def test_cases_edited_between_two_pages_of_a_closed_quarter_cost_no_other_case(primero):
    """Paging by offset lost nine cases when twenty were edited between two pages."""
    page_one = sorted(primero.cases.records(), key=lambda case: case["created_at"] or "", reverse=True)
    before = truth(primero)
    edited = [case["id"] for case in page_one if case["id"] in before][:20]
    primero.after(5, lambda server: [server.update(case, status="closed") for case in edited])
    _, sink = pull(primero)
    assert truth(primero) == before - set(edited)
    assert set(sink.ids) >= truth(primero)


@pytest.mark.proves("edits-during-pull")
def test_cases_created_and_edited_while_the_open_quarter_is_walked_cost_no_other_case(primero):
    """The open quarter is where people work; the walk must neither lose cases nor fail for it."""
    before = truth(primero, OPEN)
    edited = sorted(before)[:50]

    def work(server: SandboxPrimero) -> None:
        for case in edited:
            server.update(case, status="closed")
        server.create(age=7)

    primero.clock = lambda: datetime.now(UTC)
    primero.after(5, work)
    _, sink = pull(primero, OPEN)
    assert set(sink.ids) >= before


@pytest.mark.proves("dropped-filter")
def test_a_dropped_filter_is_noticed_and_nothing_is_kept_silently(primero):
    """Where the role may not filter, Primero sends every case of all time with status 200."""
    primero.switches.dropped = {"last_updated_at"}
    with pytest.raises(DataError):
        pull(primero)


@pytest.mark.proves("swallowed-error")
def test_a_swallowed_error_on_the_first_page_is_not_taken_for_an_empty_quarter(primero):
    """A database time-out inside Primero is answered with status 200 and total 0."""
    primero.fail("swallow", after=4, times=1)
    report, sink = pull(primero)
    assert set(sink.ids) == truth(primero)
    assert report.kept == len(sink.ids)


@pytest.mark.proves("wrong-total")
def test_a_short_page_in_the_middle_is_found_by_the_final_count_and_healed_by_a_second_walk(primero):
    """A page that lost its last rows looks like the end of the walk."""
    primero.fail("short page", after=4, times=1, by=100)
    report, sink = pull(primero)
    assert report.walks == 2
    assert set(sink.ids) == truth(primero)


@pytest.mark.proves("wrong-total")
def test_a_total_that_stays_wrong_fails_the_pull_after_three_walks(primero):
    """A server that counts more than it gives has cases that nobody would miss."""
    primero.fail("wrong total", times=None, by=5)
    with pytest.raises(TransientError, match="3 times"):
        pull(primero)


@pytest.mark.proves("paging")
def test_a_smaller_page_than_asked_for_is_walked_on(primero):
    """`per` is cut without a word; a page of 250 where 1,000 were asked for is not the last one."""
    primero.switches.per_cap = 250
    _, sink = pull(primero)
    assert set(sink.ids) == truth(primero)


@pytest.mark.parametrize("hours", [7, -5])
@pytest.mark.proves("time-zone")
def test_a_server_that_keeps_its_stamps_in_another_zone_gives_the_exact_quarter(primero, hours):
    """Its answers are in UTC as always, but its windows are off by hours at both ends of the quarter."""
    primero.switches.server_offset = hours
    report, sink = pull(primero)
    assert report.zone_hours == hours
    assert set(sink.ids) == truth(primero)


@pytest.mark.proves("missing-field")
def test_fields_that_the_role_may_not_read_are_named_all_at_once(primero):
    """Primero leaves them out of the rows with status 200; indicator 4.8 would count nobody."""
    primero.role.withheld = {"type_of_case", "services_section", "location_caregiver"}
    with pytest.raises(RefusedError, match=r"fields type_of_case, services_section;"):
        pull(primero)


@pytest.mark.proves("young-primero")
def test_any_other_field_that_no_case_has_is_reported(primero):
    """Not every role may read them, and in a young Primero no case has them; the sync goes on without, and says so."""
    primero.role.withheld = {"care_date", "location_caregiver"}
    report, sink = pull(primero)
    assert report.fields.missing == ("location_caregiver", "care_date")
    assert set(report.fields.shown) == set(CASE_FIELDS) - set(report.fields.missing)
    assert set(sink.ids) == truth(primero)


@pytest.mark.parametrize(("cases", "refused"), [(1, False), (5, False), (19, False), (20, True)])
@pytest.mark.proves("young-primero")
def test_a_young_primero_is_not_refused_for_fields_that_no_case_has_yet(cases, refused):
    """Primero gives only keys that are stored: five cases without a type or services are no fault of the role."""
    with SandboxPrimero(0, clock=lambda: NOW).serve() as primero:
        for _ in range(cases):
            primero.create(age=9)
        if refused:
            with pytest.raises(RefusedError, match=r"fields type_of_case, services_section;"):
                pull(primero, OPEN)
        else:
            report, sink = pull(primero, OPEN)
            assert {"type_of_case", "services_section", "oscar_number"} <= set(report.fields.missing)
            assert len(sink.ids) == cases


LOST = KnownFields(frozenset({"oscar_number", "care_date", "sex"}))


@pytest.mark.proves("lost-field")
def test_a_field_that_comes_no_more_fails_the_pull_until_its_loss_is_accepted(primero):
    """A role changed by mistake would empty the column of every case, quarter by quarter."""
    primero.role.withheld = {"oscar_number", "care_date", "location_caregiver"}
    with pytest.raises(RefusedError, match=r"oscar_number, care_date, and none of Primero's newest 1,000") as raised:
        pull(primero, known=LOST)
    assert "`primero-ona fields accept oscar_number care_date`" in str(raised.value)
    accepted = KnownFields(LOST.shown, frozenset({"oscar_number", "care_date"}))
    report, sink = pull(primero, known=accepted)
    assert set(sink.ids) == truth(primero)
    assert report.fields.missing == ("oscar_number", "location_caregiver", "care_date")
    assert report.fields.returned == ()


@pytest.mark.proves("lost-field")
def test_an_accepted_field_is_back_only_when_the_newest_cases_have_it():
    """Cases of an old quarter go on having a field that was taken out of the forms: its loss stays accepted."""
    accepted = KnownFields(LOST.shown, frozenset({"oscar_number"}))
    with SandboxPrimero(Wish(300, seed=6, now=NOW, quarter=CLOSED, odd=False), clock=lambda: NOW).serve() as primero:
        assert pull(primero, known=accepted)[0].fields.returned == ("oscar_number",)
        for _ in range(1_000):
            primero.create(age=9)
        report, _ = pull(primero, known=accepted)
    assert (report.fields.returned, "oscar_number" in report.fields.shown) == ((), True)


@pytest.mark.proves("swallowed-error")
def test_a_swallowed_error_is_not_taken_for_fields_that_nobody_has(primero):
    """Primero's own errors look like emptiness."""
    primero.role.withheld = {"care_date"}
    pull(primero)
    asked = sum(entry.path == "/api/v2/cases" for entry in primero.log)
    primero.fail("swallow", after=asked - 1, times=None)
    with pytest.raises(TransientError, match="shows no case where it has just shown some"):
        pull(primero)


@pytest.mark.parametrize("ahead", [timedelta(days=3_650), timedelta(days=20), timedelta(hours=1, minutes=1)], ids=str)
@pytest.mark.proves("stamped-ahead")
def test_a_case_stamped_ahead_comes_with_the_open_quarter_as_its_oldest(primero, ahead):
    """One case stamped 2031 was in no quarter for five years; with its stamp, it would be newer than each state to come."""
    primero.clock = lambda: NOW
    case = primero.create(age=9, last_updated_at=NOW + ahead)
    report, sink = pull(primero, OPEN)
    stamps = dict(pair for frame in sink.frames for pair in zip(frame["id"], frame["last_updated_at"], strict=True))
    assert set(stamps) == {*truth(primero, OPEN), case}
    assert (stamps[case], report.ahead, report.kept) == (OPEN.start, [case], len(stamps))
    report, sink = pull(primero, CLOSED)
    assert (case in sink.ids, report.ahead) == (False, [])


def test_a_stamp_a_little_ahead_is_a_clock_that_goes_wrong_a_little(primero):
    """Clocks differ by seconds, in bad cases by minutes."""
    primero.clock = lambda: NOW
    case = primero.create(age=9, last_updated_at=NOW + timedelta(minutes=59))
    report, sink = pull(primero, OPEN)
    assert case in sink.ids
    assert report.ahead == []


@pytest.mark.proves("stamped-ahead")
def test_a_case_stamped_ahead_does_not_stand_in_for_one_that_is_lacking(primero):
    """It is in no count of what is settled, so it must not be counted among what came."""
    primero.clock = lambda: NOW
    for number in range(5):
        primero.create(age=9, last_updated_at=NOW + timedelta(days=3_000 + number))
    primero.fail("wrong total", times=None, by=3)
    with pytest.raises(TransientError, match="3 times"):
        pull(primero, OPEN)


@pytest.mark.proves("stamped-ahead")
def test_cases_of_a_server_whose_own_clock_is_years_ahead_come_with_the_open_quarter(primero):
    """Its stamps agree with its clock, and lie in quarters that have not begun."""
    primero.clock = lambda: NOW + timedelta(days=900)
    case = primero.create(age=9)
    report, sink = pull(primero, OPEN)
    assert case in sink.ids
    assert report.ahead == [case]


@pytest.mark.parametrize("version", quick(("2.11.0", "2.15.2.1"), "2.11.0"))
@pytest.mark.parametrize(
    "created",
    ["1899-12-30T00:00:00.000Z", "0001-01-01T00:00:00.000Z", "2031-05-05T00:00:00.000Z", None],
)
@pytest.mark.proves("paging")
def test_a_case_with_an_odd_creation_stamp_does_not_keep_its_quarter_out(created, version):
    """A spreadsheet's zero on one of 1,200 cases blocked its quarter for ever: it was counted, and no page held it."""
    with SandboxPrimero(Wish(1_200, seed=6, now=NOW, quarter=CLOSED, odd=False)).serve() as primero:
        primero.switches.version = version
        record = next(primero.cases.records())
        stamp = datetime.fromisoformat(record["last_updated_at"])
        primero.update(record["id"], created_at=created, last_updated_at=stamp)
        report, sink = pull(primero)
        assert sorted(sink.ids) == sorted(truth(primero))
        assert report.walks == 1


@pytest.mark.proves("paging")
def test_more_cases_of_the_first_instant_of_all_than_a_page_are_walked():
    """Nothing is older than the year 1, and to ask for it would be an error of its own."""
    with SandboxPrimero(Wish(1_150, seed=6, now=NOW, quarter=CLOSED, odd=False)).serve() as primero:
        for record in list(primero.cases.records())[:1_100]:
            stamp = datetime.fromisoformat(record["last_updated_at"])
            primero.update(record["id"], created_at="0001-01-01T00:00:00.000Z", last_updated_at=stamp)
        _, sink = pull(primero)
        assert sorted(sink.ids) == sorted(truth(primero))


@pytest.mark.proves("lost-scope")
def test_an_account_that_sees_no_case_at_all_is_refused_not_taken_for_an_empty_country(primero):
    """A role with the scope `self` sees nothing, with status 200."""
    primero.role.owner = "nobody"
    with pytest.raises(RefusedError, match="scope"):
        pull(primero)


@pytest.mark.parametrize("quarter", [CLOSED, Quarter(2019, 1)], ids=["full", "empty"])
@pytest.mark.proves("primero-gave-up")
def test_a_database_that_gives_up_is_named_and_no_quarter_is_taken_for_empty(primero, quarter):
    """It looks like an account that sees nothing; but it passes, and no administrator of roles can help."""
    primero.switches.scans_time_out = True
    with pytest.raises(TransientError, match="Primero's database gave up a question"):
        pull(primero, quarter)


@pytest.mark.proves("primero-gave-up")
def test_a_database_that_recovers_in_mid_pull_costs_a_walk_and_no_case(primero):
    """The walk and its count came back empty, and the proof of the windows did not."""

    def recovers(server: SandboxPrimero) -> None:
        server.switches.scans_time_out = False

    primero.switches.scans_time_out = True
    primero.after(6, recovers)
    report, sink = pull(primero)
    assert report.walks == 2
    assert set(sink.ids) == truth(primero)


def test_the_first_question_of_a_pull_reads_no_json(primero):
    """A range over the stamps of all cases costs a second of a server on which people wait."""
    pull(primero)
    first = next(entry for entry in primero.log if entry.path == "/api/v2/cases")
    assert "last_updated_at" not in first.query


def test_an_empty_quarter_is_an_answer_after_it_was_asked_again(primero):
    """A quarter before the first case has no rows, and that is no fault."""
    report, sink = pull(primero, Quarter(2019, 1))
    assert (report.kept, sink.ids) == (0, [])


def test_rows_outside_the_exact_window_are_cut_though_primero_sends_them(primero):
    """Primero compares whole seconds and includes both ends, so the window is asked a second wider."""
    start = CLOSED.start
    just_before = primero.create(last_updated_at=start - timedelta(milliseconds=1))
    first = primero.create(last_updated_at=start)
    last = primero.create(last_updated_at=CLOSED.end - timedelta(milliseconds=1))
    just_after = primero.create(last_updated_at=CLOSED.end)
    _, sink = pull(primero)
    assert {first, last} <= set(sink.ids)
    assert not {just_before, just_after} & set(sink.ids)


@pytest.mark.proves("only-asked-fields")
def test_only_allowed_fields_are_kept_even_where_primero_sends_more(primero):
    """Notes in services come unasked; they must not reach a file."""
    _, sink = pull(primero)
    text = pd.concat(sink.frames).to_csv()
    assert "CANARY" not in text
    assert set(sink.frames[0].columns) == {"id", "enabled", "last_updated_at", *CASE_FIELDS}


@pytest.mark.parametrize(
    ("kind", "details"),
    [
        ("status", {"status": 500}),
        ("status", {"status": 502}),
        ("html", {"status": 503}),
        *(pytest.param(kind, {}, marks=pytest.mark.ci) for kind in ("too many", "reset", "cut", "broken gzip")),
        ("truncated", {}),
    ],
    ids=str,
)
@pytest.mark.proves("retries")
def test_a_fault_that_passes_does_not_disturb_the_pull(primero, kind, details):
    """One 502 lost 172 cases in the old pipeline."""
    primero.fail(kind, after=4, times=1, **details)
    _, sink = pull(primero)
    assert set(sink.ids) == truth(primero)


def test_no_message_holds_a_query_or_a_body(primero):
    """Messages are shown in the UI; a query can hold ids, a body can hold everything."""
    primero.fail("status", status=500, times=None)
    with pytest.raises(SyncError) as raised:
        pull(primero)
    assert "last_updated_at" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
