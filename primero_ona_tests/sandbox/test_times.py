"""Windows on `last_updated_at` and `created_at`: whole seconds here, milliseconds there, and the traps between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.sandbox.conftest import Client, client_of

STAMPS = {
    "A": "2024-01-04T03:45:24.999Z",
    "B": "2024-01-04T03:45:25.100Z",
    "C": "2024-01-04T03:45:25.900Z",
    "D": "2024-01-31T23:59:59.999Z",
    "E": "2024-02-01T00:00:00.000Z",
}
EVERYBODY = "ABCDE"
NOBODY = ""


@pytest.fixture(scope="module")
def stamped() -> Iterator[Client]:
    with SandboxPrimero(0).serve() as server:
        for name, stamp in STAMPS.items():
            server.create(case_id_display=name, created_at=stamp, last_updated_at=stamp)
        yield client_of(server)


@pytest.mark.parametrize(
    ("window", "names"),
    [
        ("2024-01-04T03:45:25.209Z..2024-01-04T03:45:25.500Z", "BC"),
        ("2024-01-04T03:45:25Z..2024-01-04T03:45:25Z", "BC"),
        ("2024-01-04T03:45:25.209Z..", "BCDE"),
        ("..2024-01-04T03:45:25Z", EVERYBODY),
        ("2024-01-04T03:45:25..2024-01-04T03:45:25", "BC"),
        ("2024-01-04 03:45:25..2024-01-04 03:45:25Z", "BC"),
        ("2024-01-04T10:45:25%2B07:00..2024-01-04T10:45:25%2B07:00", "BC"),
        ("2024-01-04T10:45:25%2B07..2024-01-04T10:45:25%2B07", "BC"),
        ("2024-01-04T10:45:25+07:00..2024-01-04T10:45:25+07:00", EVERYBODY),
        ("2024-01-04T10:45:25%2B0700..", EVERYBODY),
        ("2024-01-04T03:45Z..", EVERYBODY),
        ("2024-01-04T03:45:25z..", EVERYBODY),
        ("2024-01-04T24:45:25Z..", EVERYBODY),
        ("1704339925..1704339926", NOBODY),
        ("2024-01-04..2024-01-31", "ABCD"),
        ("2024-01-04T00:00:00Z..2024-01-31", "ABC"),
        ("2024-01-04..2024-01-31T00:00:00Z", "ABCD"),
        ("2024-01-04", NOBODY),
        ("2024-01-04T03:45:25Z", NOBODY),
        ("", NOBODY),
    ],
)
def test_last_updated_at_is_compared_by_whole_seconds_of_its_text(stamped: Client, window: str, names: str) -> None:
    """A client that trusts the milliseconds of its window keeps rows outside it, or loses some."""
    assert stamped.names(f"last_updated_at={window}") == names


@pytest.mark.parametrize(
    ("window", "names"),
    [
        ("2024-01-04T03:45:25.100Z..2024-01-04T03:45:25.899Z", "B"),
        ("1970-01-01T00:00:00Z..2024-01-04T03:45:25.100Z", "AB"),
        ("2024-01-04T03:45:25.100Z", "B"),
        ("2024-01-31..", "DE"),
        ("2024-01-31..5", NOBODY),
        ("2024-01-01..2024-01-31", "ABC"),
        ("2024-01-01..garbage", NOBODY),
        ("garbage..2024-01-31", EVERYBODY),
        ("..2024-01-31", EVERYBODY),
    ],
)
def test_created_at_is_compared_exactly_and_a_date_is_its_first_instant(
    stamped: Client, window: str, names: str
) -> None:
    """The walk relies on it: the bound of the next page is a `created_at` to the millisecond."""
    assert stamped.names(f"created_at={window}") == names


@pytest.mark.parametrize("end", ["garbage", "5", "true"])
def test_an_upper_end_of_last_updated_at_that_is_no_time_breaks_primero(stamped: Client, end: str) -> None:
    """There is a third outcome beside dropped and swallowed, and it is honest."""
    assert stamped.get(f"last_updated_at=2024-01-01..{end}").status_code == 500
    assert stamped.names(f"last_updated_at={end}..2024-01-31") == (NOBODY if end == "5" else EVERYBODY)


@pytest.mark.parametrize("version", ["2.11.0", "2.12.0"])
def test_before_2_13_created_at_is_compared_by_whole_seconds_too(stamped: Client, version: str) -> None:
    """A tie of created_at lasts a whole second there, and a walk must not stand still in it."""
    stamped.server.switches.version = version
    try:
        assert stamped.names("created_at=1970-01-01T00:00:00Z..2024-01-04T03:45:25.000Z") == "ABC"
    finally:
        stamped.server.switches.version = "2.15.2.1"


def test_a_server_in_another_time_zone_misses_its_own_rows(stamped: Client) -> None:
    """The trap that a pull must look for once per instance: answers say Z all the same."""
    stamped.server.switches.server_offset = 7
    try:
        assert stamped.names("last_updated_at=2024-01-04T03:45:24Z..2024-01-04T03:45:26Z") == NOBODY
        assert stamped.names("last_updated_at=2024-01-04T10:45:24Z..2024-01-04T10:45:26Z") == "ABC"
        assert {row["last_updated_at"] for row in stamped.rows()} == set(STAMPS.values())
    finally:
        stamped.server.switches.server_offset = 0
