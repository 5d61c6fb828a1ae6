"""Dagster's partitions: one for each quarter in Phnom Penh time, the open quarter included.

A key is the quarter's first day (2024-04-01 is 2024-Q2, April to June), because only Dagster's own time windows grow by
themselves. What a quarter is, its label and its window, stands in `quarters.py`, which knows nothing of Dagster.
"""

from __future__ import annotations

import dagster as dg

from primero_ona.errors import ConfigError, UsageError
from primero_ona.quarters import TIME_ZONE, Quarter

#: Midnight of the first day of January, April, July and October.
QUARTER_CRON = "0 0 1 1,4,7,10 *"

#: Run tag with the quarter as people write it, so that runs can be found by it.
QUARTER_TAG = "quarter"

#: Run tag, with any value, by which the whole quarter is walked where its changes would do.
WHOLE_TAG = "whole"


def quarterly_partitions(start: str) -> dg.TimeWindowPartitionsDefinition:
    """Partitions from the quarter with the key `start` to the open one."""
    return dg.TimeWindowPartitionsDefinition(
        start=start, fmt="%Y-%m-%d", cron_schedule=QUARTER_CRON, timezone=TIME_ZONE, end_offset=1
    )


def require_partition(quarters: dg.TimeWindowPartitionsDefinition, quarter: Quarter) -> str:
    """The key of a quarter that has a partition.

    Raises UsageError where there is none, for Dagster itself would take the next quarter without a word; ConfigError where
    there is no quarter at all.
    """
    if quarters.has_partition_key(quarter.key):
        return quarter.key
    first_key, last_key = quarters.get_first_partition_key(), quarters.get_last_partition_key()
    if first_key is None or last_key is None:
        raise ConfigError("there is no quarter yet: PRIMERO_ONA_START lies in the future")
    first, last = Quarter.parse(first_key), Quarter.parse(last_key)
    raise UsageError(
        f"there is no quarter {quarter}; there are {first} (PRIMERO_ONA_START) to {last}, which is still open"
    )
