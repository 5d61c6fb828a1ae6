"""Dagster's partitions against the project's own quarters."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from primero_ona.errors import ConfigError, UsageError
from primero_ona.graph.partitions import quarterly_partitions, require_partition
from primero_ona.quarters import Quarter, quarters_between


@pytest.mark.parametrize(
    ("now", "last"),
    [("2024-12-31T16:59Z", "2024-Q4"), ("2024-12-31T18:00Z", "2025-Q1"), ("2024-03-31T17:30Z", "2024-Q2")],
)
def test_the_partitions_reach_from_the_start_to_the_quarter_that_is_open_in_phnom_penh(now: str, last: str) -> None:
    """The open quarter is synced from its first hour on, while it is still last year in UTC."""
    keys = quarterly_partitions("2023-07-01").get_partition_keys(current_time=datetime.fromisoformat(now))
    assert keys == [quarter.key for quarter in quarters_between(Quarter(2023, 3), Quarter.parse(last))]


def test_a_partition_s_window_is_the_quarter_s() -> None:
    """Two truths about where a quarter begins would lose or double the cases of seven hours."""
    quarters = quarterly_partitions("2023-01-01")
    for quarter in quarters_between(Quarter(2023, 1), Quarter(2025, 1)):
        window = quarters.time_window_for_partition_key(quarter.key)
        assert (window.start.astimezone(UTC), window.end.astimezone(UTC)) == (
            quarter.start.astimezone(UTC),
            quarter.end.astimezone(UTC),
        )


@pytest.mark.parametrize("quarter", [Quarter(2019, 4), Quarter(2190, 1)])
def test_a_quarter_without_a_partition_is_refused_with_those_there_are(quarter: Quarter) -> None:
    """Dagster itself would take another quarter without a word."""
    with pytest.raises(UsageError, match=r"there are 2020-Q1 \(PRIMERO_ONA_START\) to \d{4}-Q\d, which is still"):
        require_partition(quarterly_partitions("2020-01-01"), quarter)


def test_a_start_in_the_future_is_told_as_such() -> None:
    """There is no first quarter to name then."""
    with pytest.raises(ConfigError, match="PRIMERO_ONA_START lies in the future"):
        require_partition(quarterly_partitions("2190-01-01"), Quarter(2024, 1))


def test_no_backfill_policy_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one, the checks of a backfill are recorded without their quarter."""
    from primero_ona.definitions import build_defs
    from primero_ona.settings import GraphSettings

    defs = build_defs(settings=GraphSettings(PRIMERO_ONA_START="2023-Q1"))
    assets = [asset for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition)]
    assert {asset.backfill_policy for asset in assets} == {None}
    require_partition(quarterly_partitions("2023-01-01"), Quarter(2023, 1))
