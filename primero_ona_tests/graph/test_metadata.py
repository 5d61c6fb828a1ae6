"""What the UI shows: outcomes and sizes, in tables that stay small; what else there is to know stays out of it."""

from __future__ import annotations

import dagster as dg
import pytest

from primero_ona.graph.metadata import (
    TABLE_ROWS,
    codes_table,
    count_table,
    roughly,
    stored_metadata,
    totals_metadata,
    traffic_metadata,
)
from primero_ona.primero.client import Traffic
from primero_ona.quarters import Quarter


def shown(table: dg.TableMetadataValue) -> list[tuple[str, str]]:
    return [tuple(str(value) for value in record.data.values()) for record in table.records]  # type: ignore[misc]


def test_outcomes_are_counted_exactly() -> None:
    """Who looks for two rows must not be told fewer than five."""
    assert shown(count_table({"inserted": 2, "updated": 12_345}, "outcome")) == [
        ("updated", "12,345"),
        ("inserted", "2"),
    ]


def test_tables_stay_short_and_the_commonest_come_first() -> None:
    """The event log must not hold thousands of lines for one cause."""
    found = shown(count_table({str(number): number for number in range(200)}, "fault"))
    assert (len(found), found[0]) == (TABLE_ROWS, ("199", "199"))


def test_unmapped_codes_are_fields_with_the_number_of_distinct_codes() -> None:
    """A code may be a word that somebody wrote about a child, and how often it occurs is a count by value."""
    codes = [("sex", "b"), ("age", "a"), ("sex", "a"), ("sex", "a")]
    assert shown(codes_table(codes)) == [("age", "1"), ("sex", "2")]


@pytest.mark.proves("logs")
def test_a_stored_partition_shows_no_code_no_reason_and_no_count_by_value() -> None:
    """Two syncs that are one case apart would show what this case says."""
    summary = {
        "findings": [{"field": "location_current", "code": "16990101", "count": 1}],
        "quarantine": [{"reason": "case_id missing"}, {"reason": "service malformed"}],
        "reasons": {"kept out by the consent policy": 1},
        "labels_version": "v",
    }
    quarter = Quarter(2024, 1)
    assert stored_metadata(quarter, 12, summary) == {
        "dagster/partition_row_count": 12,
        "quarter": quarter.label,
        "window": quarter.window_text(),
        "quarantined": 2,
        "labels version": "v",
    }


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "fewer than 10"), (9, "fewer than 10"), (10, "about 10"), (19, "about 10"), (1_234, "about 1,230")],
)
def test_a_rough_number_changes_once_in_ten_cases(count: int, text: str) -> None:
    """That the case which just came is of a survivor must not be read from the number."""
    assert roughly(count) == text


def test_traffic_does_not_tell_how_long_a_case_is() -> None:
    """The bytes of one answer less those of another are the length of one case, and of its words."""
    few = traffic_metadata(Traffic(21, 3 * 2**20 + 10, 0.123))
    assert few == {"requests (about)": 30, "received (MB, about)": 4, "waited for Primero (s)": 0.12}
    assert traffic_metadata(Traffic(30, 3 * 2**20 + 500, 0.123)) == few


def test_national_totals_are_shown_of_the_quarter_that_has_ended_and_of_eight() -> None:
    """They are plotted run by run; an open quarter would always look like a fall."""
    now, ended = Quarter(2024, 2), Quarter(2024, 1)
    children = {("4.8", now): 3, ("4.8", ended): 12, ("4.11a", ended): 1_234, ("4.8", Quarter(2021, 1)): 9}
    found = totals_metadata(children, now, {"4.8": "event", "4.11a": "open"})
    assert (found["children in 4.8"], found["children in 4.11a"], found["quarter"]) == (12, 1_234, "2024-Q1 (Jan–Mar)")
    assert found["definition"] == "4.8 by `event`, 4.11a by `open`; definition not confirmed by the ministry"
    assert shown(found["last quarters"]) == [("2024-Q2 (Apr–Jun)", "3", ""), ("2024-Q1 (Jan–Mar)", "12", "1,234")]
    young = totals_metadata({}, now, {"4.8": "event", "4.11a": "open"})
    assert "children in 4.8" not in young
