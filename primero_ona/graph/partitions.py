"""Dagster's partitions: one for each quarter in Phnom Penh time, the open quarter included.

A key is the quarter's first day (2024-04-01 is 2024-Q2), because only Dagster's own time windows grow by themselves.
"""

from __future__ import annotations

import dagster as dg

from primero_ona.errors import ConfigError, UsageError
from primero_ona.quarters import TIME_ZONE, Quarter

#: Run tag with the quarter as people write it, so that runs can be found by it.
QUARTER_TAG = "quarter"

#: Run tag, with any value, by which the whole quarter is walked where its changes would do.
WHOLE_TAG = "whole"


def quarterly_partitions(start: str) -> dg.TimeWindowPartitionsDefinition:
    """Partitions from the quarter with the key `start` to the open one."""
    return dg.TimeWindowPartitionsDefinition(
        start=start, fmt="%Y-%m-%d", cron_schedule="0 0 1 1,4,7,10 *", timezone=TIME_ZONE, end_offset=1
    )


def require_partition(quarters: dg.TimeWindowPartitionsDefinition, quarter: Quarter) -> None:
    """Raise UsageError where a quarter has no partition: Dagster itself would take the next one without a word.

    Raises ConfigError where there is no quarter at all.
    """
    there = [Quarter.parse(key) for key in quarters.get_partition_keys()]
    if not there:
        raise ConfigError("there is no quarter yet: PRIMERO_ONA_START lies in the future")
    if quarter not in there:
        raise UsageError(
            f"there is no quarter {quarter}; there are {there[0]} (PRIMERO_ONA_START) to {there[-1]}, which is still open"
        )
