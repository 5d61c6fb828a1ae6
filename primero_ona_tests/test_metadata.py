"""What the UI shows: counts and codes, in tables that stay small, without cells so small that they point at a child."""

from __future__ import annotations

import dagster as dg
import pandas as pd
import pyarrow as pa

from primero_ona.frames import Frames
from primero_ona.metadata import TABLE_ROWS, count_table, findings_table, stored_metadata
from primero_ona.quarter_mapping import counting
from primero_ona.quarters import Quarter


def shown(table: dg.TableMetadataValue) -> list[tuple[str, str]]:
    return [tuple(str(value) for value in record.data.values()) for record in table.records]  # type: ignore[misc]


def test_small_cells_hide_their_exact_number() -> None:
    """One refugee girl of 16 in a quarter is a child that people may know."""
    table = count_table({"a": 5, "b": 4, "c": 1, "d": 0, "e": 12_345}, "sex", small_cells=True)
    assert dict(shown(table)) == {"e": "12,345", "a": "5", "b": "<5", "c": "<5", "d": "0"}


def test_reasons_are_counted_exactly() -> None:
    """Who looks for two quarantined cases must not be told fewer than five."""
    assert shown(count_table({"case_id missing": 2}, "reason")) == [("case_id missing", "2")]


def test_tables_stay_short_and_the_commonest_come_first() -> None:
    """A form filled with free text makes thousands of codes; the event log must not hold them all."""
    codes = [{"field": "sex", "code": f"c{number}", "count": number} for number in range(1, 3 * TABLE_ROWS)]
    found = shown(findings_table(codes))
    assert len(found) == TABLE_ROWS
    assert found[0] == ("sex", f"c{3 * TABLE_ROWS - 1}", f"{3 * TABLE_ROWS - 1}")
    assert len(shown(count_table({str(number): number for number in range(200)}, "code"))) == TABLE_ROWS


def test_a_code_that_may_not_be_shown_is_not() -> None:
    """It may be a sentence that somebody wrote."""
    assert shown(findings_table([{"field": "age", "code": None, "count": 3}])) == [("age", "(not shown)", "3")]


def test_a_stored_partition_shows_its_reasons_and_aggregates() -> None:
    """The quarter's page answers what was left out and why."""
    summary = {
        "findings": [{"field": "sex", "code": "x", "count": 3}, {"field": "age", "code": None, "count": 2}],
        "quarantine": [{"reason": "case_id missing"}, {"reason": "case_id missing"}, {"reason": "case quarantined"}],
        "aggregates": {"sex": {"Female": 9, "Male": 3}},
    }
    metadata = stored_metadata(Quarter(2024, 1), 12, summary)
    assert (metadata["dagster/row_count"], metadata["quarantined"], metadata["unmapped"]) == (12, 3, 5)
    assert shown(metadata["quarantine by reason"]) == [("case_id missing", "2"), ("case quarantined", "1")]
    assert shown(metadata["by sex"]) == [("Female", "9"), ("Male", "<5")]


def test_texts_that_no_list_knows_are_counted_together() -> None:
    """Sex passes through as it is: where somebody wrote a name there, or often the same words, the aggregate would show it."""
    often = ["not_asked", "lives behind the market", "ភូមិ", "x" * 101]
    sexes = ["Female"] * 3 + ["Female, Male", "sokha", None] + [text for text in often for _ in range(5)]
    frame = pd.DataFrame({"sex": pd.array(sexes, pd.ArrowDtype(pa.string()))})
    counted = counting(Frames.of(frame, frame.iloc[:1]), {"sex": {"Female", "Male"}})
    for _ in range(2):
        assert sum(len(piece) for piece in counted) == 27
    expected = {"Female": 4, "Female, Male": 1, "(other values)": 16, "not_asked": 5, "(empty)": 1}
    assert counted.summary["aggregates"] == {"sex": expected}
