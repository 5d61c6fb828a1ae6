"""Which quarters are due, over all states of a quarter: what changed, what is loaded, and what became of the last run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from primero_ona.graph.due import FOR_GOOD, TOO_SOON, WAITS, Attempt, Change, Cursor, Due, Versions, judge
from primero_ona.ona.bookkeeping import LastLoad
from primero_ona.primero.changes import Changes
from primero_ona.quarters import Quarter

Q = Quarter(2024, 1)
NOW = datetime(2024, 5, 15, 3, 0, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
VERSIONS = Versions("p", "m", NOW - 9 * HOUR)

#: Seen changed five hours ago, when nine pulls had begun; and by a look that could not ask ONA how many had.
CHANGED, UNNUMBERED = Change(NOW - 5 * HOUR, 9), Change(NOW - 5 * HOUR, None)
BEFORE, SINCE = LastLoad("a load", 9, "p", "m"), LastLoad("a load", 10, "p", "m")
OLD_MAPPING, OLD_PULL = LastLoad("a load", 10, "p", "older"), LastLoad("a load", 10, None, "m")


def attempt(
    state: str, created: timedelta = 3 * HOUR, ended: timedelta | None = 2 * HOUR, run_id: str = "a run"
) -> Attempt:
    """A run of so long ago."""
    return Attempt(run_id, state, NOW - created, None if ended is None else NOW - ended)  # type: ignore[arg-type]


WAITING, DONE, FAILED = attempt("waiting", ended=None), attempt("done"), attempt("failed")
LASTING, CANCELLED = attempt("failed for good"), attempt("cancelled")
FRESHLY_FAILED, FRESHLY_CANCELLED = attempt("failed", ended=59 * MINUTE), attempt("cancelled", ended=59 * MINUTE)
AN_HOUR_AGO = attempt("failed", ended=HOUR)
LASTING_BEFORE = attempt("failed for good", created=6 * HOUR)
LASTING_BEFORE_FRESH = attempt("failed for good", created=6 * HOUR, ended=5 * MINUTE)
LASTING_UNDER_OLD_VERSION = attempt("failed for good", created=10 * HOUR, ended=9 * HOUR)
LOADED_AND_FAILED_A_CHECK = attempt("failed for good", ended=5 * MINUTE, run_id="a load")
LOADED_AND_BROKE = attempt("failed", run_id="a load")

VERSION = "version:p:m"


@pytest.mark.parametrize(
    ("change", "load", "tried", "reason", "held"),
    [
        # nothing has changed since the last load
        (None, None, None, None, ""),
        (None, SINCE, None, None, ""),
        (None, SINCE, DONE, None, ""),
        (CHANGED, SINCE, None, None, ""),
        (CHANGED, SINCE, LOADED_AND_FAILED_A_CHECK, None, ""),
        (None, SINCE, WAITING, None, ""),
        (None, SINCE, CANCELLED, None, ""),
        (None, SINCE, LASTING, None, ""),
        (None, SINCE, LOADED_AND_BROKE, None, ""),
        # changed
        (CHANGED, None, None, "changes", ""),
        (CHANGED, BEFORE, None, "changes", ""),
        (UNNUMBERED, SINCE, None, "changes", ""),
        (CHANGED, BEFORE, DONE, "changes", ""),  # it had begun before, or it loaded nothing
        (CHANGED, BEFORE, WAITING, "changes", WAITS),
        (CHANGED, BEFORE, FRESHLY_FAILED, "changes", TOO_SOON),
        (CHANGED, BEFORE, AN_HOUR_AGO, "changes", ""),
        (CHANGED, BEFORE, FAILED, "changes", ""),
        (CHANGED, BEFORE, FRESHLY_CANCELLED, "changes", TOO_SOON),
        (CHANGED, BEFORE, CANCELLED, "changes", ""),
        (CHANGED, BEFORE, LASTING, "changes", FOR_GOOD),
        (CHANGED, BEFORE, LASTING_BEFORE, "changes", ""),
        (CHANGED, BEFORE, LASTING_BEFORE_FRESH, "changes", TOO_SOON),
        (CHANGED, BEFORE, LOADED_AND_FAILED_A_CHECK, "changes", ""),
        # loaded by another version
        (None, OLD_MAPPING, None, VERSION, ""),
        (None, OLD_PULL, None, VERSION, ""),
        (None, OLD_PULL, DONE, VERSION, ""),
        (None, OLD_PULL, WAITING, VERSION, WAITS),
        (None, OLD_PULL, FRESHLY_FAILED, VERSION, TOO_SOON),
        (None, OLD_PULL, FAILED, VERSION, ""),
        (None, OLD_PULL, CANCELLED, VERSION, ""),
        (None, OLD_PULL, LASTING, VERSION, FOR_GOOD),
        (None, OLD_PULL, LASTING_UNDER_OLD_VERSION, VERSION, ""),
        (CHANGED, OLD_PULL, None, VERSION, ""),
        (CHANGED, LastLoad("a load", 9, None, "m"), None, "changes", ""),
        # neither, but a sync of it was wanted, and what kept it away may pass
        (None, SINCE, FAILED, "failed", ""),
        (None, None, FAILED, "failed", ""),
        (None, None, FRESHLY_FAILED, "failed", TOO_SOON),
        (None, None, CANCELLED, None, ""),
        (None, None, LASTING, None, ""),
    ],
)  # fmt: skip
@pytest.mark.proves("due")
def test_when_a_quarter_is_due_and_why_it_is_not_asked_for(
    change: Change | None, load: LastLoad | None, tried: Attempt | None, reason: str | None, held: str
) -> None:
    """A permanent failure was asked for hourly for ever, and a cancelled run's quarter never again."""
    found = judge({Q: change} if change else {}, {Q: load} if load else {}, {Q: tried} if tried else {}, VERSIONS, NOW)
    assert found == ({Q: Due(reason, held)} if reason else {})


@pytest.mark.parametrize(
    ("tried", "whole"),
    [
        (FAILED, True),
        (LASTING_BEFORE, True),
        (CANCELLED, True),
        (WAITING, True),
        (DONE, False),
        (LOADED_AND_BROKE, False),
    ],
)
@pytest.mark.proves("due")
def test_a_whole_walk_that_did_not_end_well_is_asked_for_as_a_whole_walk(tried: Attempt, whole: bool) -> None:
    """A repair, or `sync --full`, would come back as a pull of changes, which carries over what was to be walked."""
    for wanted in (True, False):
        found = judge({Q: CHANGED}, {Q: BEFORE}, {Q: replace(tried, whole=wanted)}, VERSIONS, NOW)
        assert found[Q].whole is (whole and wanted)


LOOK = Changes("2024-05-15T03:00:00.000Z", 7)


@pytest.mark.proves("due")
def test_a_change_is_remembered_until_a_pull_that_began_later_is_loaded() -> None:
    """A load alone proves nothing: its pull may have been over before the change was made."""
    cursor = Cursor().after(LOOK, [Q], ("p", "m"), NOW)
    assert cursor.unnumbered
    cursor = cursor.known(9, {Q: BEFORE})
    assert (cursor.unnumbered, cursor.changes) == (False, {Q: Change(NOW, 9)})
    cursor = Cursor.read(cursor.write())
    assert cursor.changes == {Q: Change(NOW, 9)}
    later = cursor.after(LOOK, [], ("p", "m"), NOW + HOUR)
    assert (later.changes, later.versions.since) == (cursor.changes, NOW)
    assert later.known(None, {Q: SINCE}).changes == {}
    again = cursor.after(LOOK, [Q], ("p", "newer"), NOW + HOUR)
    assert (again.changes, again.versions.since) == ({Q: Change(NOW + HOUR, None)}, NOW + HOUR)


def test_a_cursor_of_the_version_before_knows_the_look() -> None:
    """An update must neither stop the sensor nor have every unsettled quarter pulled."""
    text = '{"version": 2, "newest": "2024-05-15T03:00:00.000Z", "total": 7, "ahead": ""}'
    before = Cursor.read(text)
    assert (before.look, before.changes) == (LOOK, {})
    assert before.after(LOOK, [], ("p", "m"), NOW).versions.since == NOW
