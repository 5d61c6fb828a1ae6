"""Pulls against the sandbox's Primero over real HTTP: whatever it does, a walk is complete or fails.

The truth is read from the sandbox's own store, never from its answers.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from primero_ona.failures import DataFailure, RefusedFailure, SyncFailure, TransientFailure
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.fields import CASE_FIELDS
from primero_ona.primero.pull import PullReport, pull_cases
from primero_ona.primero.walk import Window
from primero_ona.quarters import Quarter
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero

CLOSED, OPEN = Quarter(2026, 3), Quarter(2026, 4)
NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)


class Kept:
    """A sink that keeps all frames."""

    def restart(self) -> None:
        self.frames: list[pd.DataFrame] = []

    def write(self, frame: pd.DataFrame) -> None:
        self.frames.append(frame)

    @property
    def ids(self) -> list[str]:
        return [case for frame in self.frames for case in frame["id"]]


@pytest.fixture
def primero() -> Iterator[SandboxPrimero]:
    """3,200 cases in two quarters, so that each takes more than one page."""
    with SandboxPrimero(Wish(3_200, seed=3, now=NOW, quarters=2)).serve() as server:
        yield server


def window(quarter: Quarter) -> Window:
    return Window(quarter.start, quarter.end, quarter is OPEN)


def pull(primero: SandboxPrimero, quarter: Quarter = CLOSED, sink: Kept | None = None) -> tuple[PullReport, Kept]:
    sink = sink or Kept()
    with PrimeroClient(primero.url, primero.username, primero.password, pause=0) as client:
        return pull_cases(client, window(quarter), sink, empty_pause=0), sink


def truth(primero: SandboxPrimero, quarter: Quarter = CLOSED) -> set[str]:
    """The cases that lie in the window now."""
    stamps = {case["id"]: datetime.fromisoformat(case["last_updated_at"]) for case in primero.cases.records()}
    return {case for case, stamp in stamps.items() if quarter.start <= stamp < quarter.end}


@pytest.mark.parametrize("quarter", [CLOSED, OPEN], ids=["closed", "open"])
@pytest.mark.parametrize("version", ["2.10.3", "2.11.0", "2.12.0", "2.13.0", "2.15.2.1"])
def test_each_case_of_the_window_comes_once_from_every_version(primero, version, quarter):
    """Without it, a version's way of comparing stamps could lose or double the cases at a page's border."""
    primero.switches.version = version
    _, sink = pull(primero, quarter)
    assert len(sink.ids) == len(set(sink.ids)) > 1_000
    assert set(sink.ids) == truth(primero, quarter)


@pytest.mark.parametrize("version", ["2.11.0", "2.15.2.1"])
def test_an_import_of_more_cases_than_a_page_with_one_creation_stamp_is_walked(version):
    """An import gives thousands of cases one `created_at`; a walk by `created_at` alone would stand still there."""
    wish = Wish(4_000, seed=5, now=NOW, quarter=CLOSED, import_block=2_500)
    with SandboxPrimero(wish).serve() as primero:
        primero.switches.version = version
        _, sink = pull(primero)
        assert sorted(sink.ids) == sorted(truth(primero))


def test_more_cases_without_a_creation_stamp_than_a_page_are_walked():
    """Such cases are in no range of `created_at`, so only the first, unbounded page can show them."""
    with SandboxPrimero(Wish(1_500, seed=6, now=NOW, quarter=CLOSED)).serve() as primero:
        for case in [record["id"] for record in primero.cases.records()][:1_200]:
            row = primero.cases.row_of(case)
            stamp = datetime.fromisoformat(primero.cases.record(row)["last_updated_at"])
            primero.update(case, created_at=None, last_updated_at=stamp)
        _, sink = pull(primero)
        assert sorted(sink.ids) == sorted(truth(primero))


def test_cases_edited_between_two_pages_of_a_closed_quarter_cost_no_other_case(primero):
    """Paging by offset lost nine cases when twenty were edited between two pages."""
    page_one = sorted(primero.cases.records(), key=lambda case: case["created_at"] or "", reverse=True)
    before = truth(primero)
    edited = [case["id"] for case in page_one if case["id"] in before][:20]
    primero.after(5, lambda server: [server.update(case, status="closed") for case in edited])
    _, sink = pull(primero)
    assert truth(primero) == before - set(edited)
    assert set(sink.ids) >= truth(primero)


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


def test_a_dropped_filter_is_noticed_and_nothing_is_kept_silently(primero):
    """Where the role may not filter, Primero sends every case of all time with status 200."""
    primero.switches.dropped = {"last_updated_at"}
    with pytest.raises(DataFailure):
        pull(primero)


def test_a_swallowed_error_on_the_first_page_is_not_taken_for_an_empty_quarter(primero):
    """A database time-out inside Primero is answered with status 200 and total 0."""
    primero.fail("swallow", after=4, times=1)
    report, sink = pull(primero)
    assert set(sink.ids) == truth(primero)
    assert report.kept == len(sink.ids)


def test_a_short_page_in_the_middle_is_found_by_the_final_count_and_healed_by_a_second_walk(primero):
    """A page that lost its last rows looks like the end of the walk."""
    primero.fail("short page", after=4, times=1, by=100)
    report, sink = pull(primero)
    assert report.walks == 2
    assert set(sink.ids) == truth(primero)


def test_a_total_that_stays_wrong_fails_the_pull_after_three_walks(primero):
    """A server that counts more than it gives has cases that nobody would miss."""
    primero.fail("wrong total", times=None, by=5)
    with pytest.raises(TransientFailure, match="3 times"):
        pull(primero)


def test_a_smaller_page_than_asked_for_is_walked_on(primero):
    """`per` is cut without a word; a page of 250 where 1,000 were asked for is not the last one."""
    primero.switches.per_cap = 250
    _, sink = pull(primero)
    assert set(sink.ids) == truth(primero)


@pytest.mark.parametrize("hours", [7, -5])
def test_a_server_that_keeps_its_stamps_in_another_zone_gives_the_exact_quarter(primero, hours):
    """Its answers are in UTC as always, but its windows are off by hours at both ends of the quarter."""
    primero.switches.server_offset = hours
    report, sink = pull(primero)
    assert report.zone_hours == hours
    assert set(sink.ids) == truth(primero)


def test_fields_that_the_role_may_not_read_are_named_all_at_once(primero):
    """Primero leaves them out of the rows with status 200; indicator 4.8 would count nobody."""
    primero.role.withheld = {"type_of_case", "location_caregiver"}
    with pytest.raises(RefusedFailure, match=r"type_of_case.*location_caregiver"):
        pull(primero)


def test_the_three_dates_and_that_of_birth_are_optional_and_reported(primero):
    """Not every role may read them; the sync goes on without, and says so."""
    primero.role.withheld = {"care_date", "date_closure", "date_of_birth"}
    report, sink = pull(primero)
    assert report.missing_optional == ["date_of_birth", "care_date", "date_closure"]
    assert set(sink.ids) == truth(primero)


def test_an_account_that_sees_no_case_at_all_is_refused_not_taken_for_an_empty_country(primero):
    """A role with the scope `self` sees nothing, with status 200."""
    primero.role.owner = "nobody"
    with pytest.raises(RefusedFailure, match="scope"):
        pull(primero)


def test_an_empty_quarter_is_an_answer_after_it_was_asked_again(primero):
    """A quarter before the first case has no rows, and that is no fault."""
    report, sink = pull(primero, Quarter(2019, 1))
    assert (report.received, sink.ids) == (0, [])


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
        ("too many", {}),
        ("reset", {}),
        ("cut", {}),
        ("truncated", {}),
        ("broken gzip", {}),
    ],
    ids=str,
)
def test_a_fault_that_passes_does_not_disturb_the_pull(primero, kind, details):
    """One 502 lost 172 cases in the old pipeline."""
    primero.fail(kind, after=4, times=1, **details)
    _, sink = pull(primero)
    assert set(sink.ids) == truth(primero)


def test_a_wrong_password_is_asked_exactly_once(primero):
    """Six failed logins lock the account for everybody who uses it."""
    with (
        PrimeroClient(primero.url, primero.username, "wrong", pause=0) as client,
        pytest.raises(RefusedFailure, match="login"),
    ):
        pull_cases(client, window(CLOSED), Kept())
    assert len(primero.log) == 1


def test_no_message_holds_a_query_or_a_body(primero):
    """Messages are shown in the UI; a query can hold ids, a body can hold everything."""
    primero.fail("status", status=500, times=None)
    with pytest.raises(SyncFailure) as raised:
        pull(primero)
    assert "last_updated_at" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
