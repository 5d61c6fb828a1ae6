"""Primero without a `Date` header, as Puma answers: its newest stamp is the measure of its time, and our clock is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.pull import primero_now, pull_cases
from primero_ona.primero.walk import Window
from primero_ona.quarters import current_quarter
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.primero.pulling import Kept

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def undated(behind: timedelta = timedelta()) -> SandboxPrimero:
    """A Primero without cases whose clock is behind ours, and which does not say so."""
    primero = SandboxPrimero(0, clock=lambda: datetime.now(UTC) - behind)
    primero.switches.dated = False
    return primero


def asking(primero: SandboxPrimero) -> PrimeroClient:
    return PrimeroClient(primero.url, primero.username, primero.password, pause=0)


@pytest.mark.parametrize(
    ("stamps", "now"),
    [
        ([-HOUR, -MINUTE], -MINUTE),
        ([-9 * DAY, -3 * DAY], -3 * DAY),  # nobody has worked since
        ([-HOUR, 59 * MINUTE], 59 * MINUTE),  # its clock is ahead of ours
        ([-HOUR, 61 * MINUTE], -HOUR),
        ([-3 * DAY, 999 * DAY], -3 * DAY),
        ([999 * DAY], None),
    ],
)
@pytest.mark.parametrize("zone", [0, -9])
@pytest.mark.proves("server-clock")
def test_the_newest_stamp_that_can_be_is_primeros_now(
    stamps: list[timedelta], now: timedelta | None, zone: int
) -> None:
    """Where every case is stamped ahead, ours is all there is."""
    ours = datetime.now(UTC).replace(microsecond=0)
    with undated().serve() as primero, asking(primero) as client:
        primero.switches.server_offset = zone
        for stamp in stamps:
            primero.create(last_updated_at=ours + stamp)
        found = primero_now(client, timedelta(hours=zone))
        assert found == ours + now if now is not None else ours <= found <= datetime.now(UTC)
        primero.switches.dated = True
        client.page("cases", {"per": 0})
        assert abs(primero_now(client, timedelta()) - ours) < 2 * MINUTE, "what answers say of themselves goes before"


def pulled(primero: SandboxPrimero) -> tuple[list[str], list[str]]:
    """The ids that a pull of the open quarter brings, and those that it calls stamped ahead."""
    quarter, sink = current_quarter(), Kept()
    with asking(primero) as client:
        report = pull_cases(client, Window(quarter.start, quarter.end, is_open=True), sink)
    assert report.walks == 1
    return sink.ids, report.ahead


@pytest.mark.proves("server-clock")
def test_a_clock_of_ours_that_is_two_minutes_ahead_spoils_no_pull_of_a_busy_day() -> None:
    """Cases saved while the walk goes on were counted as settled, and lacking, three times over."""
    with undated(behind=2 * MINUTE).serve() as primero:
        before = [primero.create(age=9, last_updated_at=datetime.now(UTC) - 3 * MINUTE) for _ in range(9)]
        for request in range(1, 12):
            primero.after(request, lambda server: server.create(age=9))
        ids, ahead = pulled(primero)
    assert (set(before) <= set(ids), ahead) == (True, [])


@pytest.mark.proves("server-clock")
def test_an_edit_after_a_quiet_week_is_no_stamp_ahead() -> None:
    """The newest stamp is old then; a case saved in mid-walk is newer by a week, and by nothing that cannot be."""
    with undated().serve() as primero:
        primero.create(age=9, last_updated_at=datetime.now(UTC) - 7 * DAY, created_at=datetime.now(UTC) - 8 * DAY)
        primero.after(4, lambda server: server.create(age=9))
        ids, ahead = pulled(primero)
    assert (len(ids), ahead) == (2, [])
