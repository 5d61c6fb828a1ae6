"""Calendar dates in Phnom Penh, from bare dates and timestamps, and what columns allow beside a date."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.mapping.columns import Rule, parse_column
from primero_ona.mapping.result import UnmappedCodes
from primero_ona.mapping.values import Parsed, clean
from primero_ona.quarters import PHNOM_PENH

DAY = pa.date32()

#: Dates as Primero writes them, and as its first version did: `2020/02/11`, `2020/09/30 00:00:00 +0000`.
_DAY = r"(?P<year>[0-9]{4})(?P<between>[-/])(?P<month>[0-9]{2})(?P=between)(?P<day>[0-9]{2})"
_DATE = re.compile(_DAY)
_STAMP = re.compile(
    _DAY + r"[T ](?P<time>[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)( ?(?P<zone>Z|[+-][0-9]{2}(:?[0-9]{2})?))?"
)

#: The JSON text of a stamp as Primero writes nearly all of them. Only of this century, in which the offset is constant.
_PLAIN_STAMP = r'^"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z"$'
OFFSET = timedelta(hours=7)

_NOT_IMPLEMENTED = frozenset({"not implemented", "not_implemented"})


def parse_date(value: Any) -> Parsed:  # noqa: ANN401
    """A bare date, or the date in Phnom Penh of a time stamp; what cannot be read is null and reported.

    A stamp without a zone is UTC. Primero's first version wrote slashes, and a blank before the zone.
    """
    if isinstance(value, str):
        text = clean(value)
        return Parsed(None) if text is None else _or_reported(_parse(text))
    return Parsed(None) if value is None else _or_reported(None)


def _or_reported(day: date | None) -> Parsed:
    return Parsed(day, () if day else (None,))


def parse_service_date(value: Any) -> Parsed:  # noqa: ANN401
    """As parse_date; a service that was not implemented has no date, which is nothing to report."""
    if isinstance(value, str) and (clean(value) or "").lower() in _NOT_IMPLEMENTED:
        return Parsed(None)
    return parse_date(value)


def _parse(text: str) -> date | None:
    try:
        if match := _DATE.fullmatch(text):
            return date(int(match["year"]), int(match["month"]), int(match["day"]))
        if match := _STAMP.fullmatch(text):
            iso = f"{match['year']}-{match['month']}-{match['day']}T{match['time']}{match['zone'] or ''}"
            return _local_day(datetime.fromisoformat(iso))
    except (ValueError, OverflowError):  # no such day or hour, or beyond the years that Python knows
        pass
    return None


def _local_day(moment: datetime) -> date:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(PHNOM_PENH).date()


def parse_dates(texts: pa.Array, rule: Rule, field: str, findings: UnmappedCodes) -> pa.Array:
    """A column of dates; stamps in Primero's usual form are read all at once, since hardly two of them are equal."""
    plain = pc.fill_null(pc.match_substring_regex(texts, _PLAIN_STAMP), fill_value=False)
    try:
        quick = _local_days(pc.if_else(plain, texts, None))
    except pa.ArrowInvalid:  # one of them is no real time, such as 30 February: judge them one by one
        return parse_column(texts, rule, DAY, field, findings)
    return pc.coalesce(quick, parse_column(pc.if_else(plain, None, texts), rule, DAY, field, findings))


def _local_days(stamps: pa.Array) -> pa.Array:
    seconds = pc.utf8_slice_codeunits(stamps, 1, 20).cast(pa.timestamp("s"))
    return pc.add(seconds, pa.scalar(OFFSET, pa.duration("s"))).cast(DAY)
