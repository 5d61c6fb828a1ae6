"""Quarters in Phnom Penh time, and the seven hours in which UTC has another one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primero_ona.errors import UsageError
from primero_ona.quarters import Quarter, current_quarter, last_quarters, quarters_between

QUARTERS = st.builds(Quarter, st.integers(1990, 2100), st.integers(1, 4))
MOMENTS = st.datetimes(datetime(1990, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 hypothesis adds the zone itself


@pytest.mark.parametrize("text", ["2024-Q2", "2024-q2", "2024Q2", " 2024-Q2 ", "2024-04-01"])
def test_a_quarter_is_read_as_people_and_as_dagster_write_it(text: str) -> None:
    """The command line takes both."""
    assert Quarter.parse(text) == Quarter(2024, 2)


@pytest.mark.parametrize("text", ["", "2024", "2024-Q5", "2024-Q0", "2024-05-01", "2024-04-02", "24-Q1", "Q1-2024"])
def test_what_is_no_quarter_is_refused_with_an_example(text: str) -> None:
    """Dagster itself would take the next quarter for a day in the middle of one."""
    with pytest.raises(UsageError, match="is not a quarter; write it like 2024-Q1"):
        Quarter.parse(text)


@pytest.mark.parametrize(
    ("moment", "quarter"),
    [
        ("2024-12-31T16:59:59.999+00:00", "2024-Q4"),
        ("2024-12-31T17:00:00+00:00", "2025-Q1"),
        ("2024-12-31T18:00:00+00:00", "2025-Q1"),
        ("2024-03-31T16:59:59+00:00", "2024-Q1"),
        ("2024-03-31T17:30:00+00:00", "2024-Q2"),
        ("2024-04-01T00:00:00+07:00", "2024-Q2"),
    ],
)
def test_a_moment_belongs_to_the_quarter_of_phnom_penh(moment: str, quarter: str) -> None:
    """A case that is saved on New Year's morning belongs to the new year, though UTC still has the old one."""
    assert Quarter.of(datetime.fromisoformat(moment)).name == quarter


@given(MOMENTS)
def test_every_moment_lies_in_exactly_one_quarter(moment: datetime) -> None:
    """A gap between two quarters would lose cases, an overlap would count them twice."""
    quarter = Quarter.of(moment)
    assert quarter.start <= moment < quarter.end
    assert quarter.end == quarter.next().start


@given(QUARTERS)
def test_names_and_keys_lead_back_to_the_quarter(quarter: Quarter) -> None:
    """Partition keys, run tags and the command line name the same thing."""
    assert Quarter.parse(quarter.key) == Quarter.parse(quarter.name) == quarter
    assert quarter.next().previous() == quarter == quarter.previous().next()
    assert quarter.previous() < quarter < quarter.next()


def test_the_texts_for_people() -> None:
    """They are read in the UI and compared with a calendar."""
    quarter = Quarter(2024, 4)
    assert (str(quarter), quarter.label) == ("2024-Q4", "2024-Q4 (Oct–Dec)")
    assert quarter.window_text() == "2024-10-01 00:00 to 2025-01-01 00:00, Phnom Penh (end excluded)"
    assert not quarter.is_open(quarter.end)
    assert quarter.is_open(quarter.start)


def test_lists_of_quarters_are_oldest_first_and_whole() -> None:
    """A backfill that left one out would leave a hole in the dashboards."""
    assert [q.name for q in quarters_between(Quarter(2023, 3), Quarter(2024, 2))] == [
        "2023-Q3", "2023-Q4", "2024-Q1", "2024-Q2",
    ]  # fmt: skip
    last = last_quarters(8)
    assert last == quarters_between(last[0], current_quarter())
    assert len(last) == 8
