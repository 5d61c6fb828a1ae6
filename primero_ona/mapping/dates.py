"""Calendar dates in Phnom Penh, from bare dates and timestamps, and what columns allow beside a date."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.contract.tables import BIRTH_FIELD, CASES, SERVICES
from primero_ona.mapping.columns import WHOLE, Rule, column, parse_column
from primero_ona.mapping.result import UnmappedCodes
from primero_ona.mapping.values import OLDEST, Parsed, clean
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


def parse_date(value: Any) -> Parsed:  # noqa: ANN401
    """A bare date, or the date in Phnom Penh of a stamp, UTC where it has no zone; what cannot be read is null and reported."""
    text = clean(value) if isinstance(value, str) else value
    if text is None:
        return Parsed(None)
    day = _parse(text) if isinstance(text, str) else None
    return Parsed(day, () if day else (None,))


def parse_service_date(value: Any) -> Parsed:  # noqa: ANN401
    """As parse_date; a service that was not implemented has no date, which is nothing to report."""
    if isinstance(value, str) and (clean(value) or "").lower() in {"not implemented", "not_implemented"}:
        return Parsed(None)
    return parse_date(value)


def _parse(text: str) -> date | None:
    try:
        if match := _DATE.fullmatch(text):
            return date(int(match["year"]), int(match["month"]), int(match["day"]))
        if match := _STAMP.fullmatch(text):
            iso = f"{match['year']}-{match['month']}-{match['day']}T{match['time']}{match['zone'] or ''}"
            moment = datetime.fromisoformat(iso)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(PHNOM_PENH).date()
    except (ValueError, OverflowError):  # no such day or hour, or beyond the years that Python knows
        pass
    return None


def parse_dates(
    texts: pa.Array, rule: Rule = parse_date, field: str = "", findings: UnmappedCodes | None = None
) -> pa.Array:
    """A column of dates; stamps in Primero's usual form are read all at once, since hardly two of them are equal."""
    plain = pc.fill_null(pc.match_substring_regex(texts, _PLAIN_STAMP), fill_value=False)
    try:
        seconds = pc.utf8_slice_codeunits(pc.if_else(plain, texts, None), 1, 20).cast(pa.timestamp("s"))
        quick = pc.add(seconds, pa.scalar(OFFSET, pa.duration("s"))).cast(DAY)
    except pa.ArrowInvalid:  # one of them is no real time, such as 30 February: judge them one by one
        return parse_column(texts, rule, DAY, field, findings)
    return pc.coalesce(quick, parse_column(pc.if_else(plain, None, texts), rule, DAY, field, findings))


_SERVICES = "services_section"
#: The day that is replaced by that of the creation where it cannot be.
_REGISTRATION = "registration_date"

#: By column of ages, the field with its day.
_DAYS = {column.name: str(column.day) for column in CASES.ages}


def with_ages(pulled: pd.DataFrame, today: date) -> pd.DataFrame:
    """Turn a frame as pulled into one that may be stored: ages in completed years in place of the date of birth.

    `today` is the day in Phnom Penh: a registration in the future counts as none. An age is null where the day or a usable
    date of birth is unknown. The index stays.
    """
    births = parse_dates(column(pulled, BIRTH_FIELD))
    days = {field: parse_dates(column(pulled, field)) for field in _DAYS.values()}
    registered = (days[_REGISTRATION], _created(pulled))
    days[_REGISTRATION] = pc.coalesce(*(_possible(each, births, today) for each in registered))
    made = {name: _ages(births, days[field]) for name, field in _DAYS.items()}
    made[_SERVICES] = _services(column(pulled, _SERVICES), births)
    stored = pulled.drop(columns=BIRTH_FIELD)
    return stored.assign(**{name: pd.arrays.ArrowExtensionArray(pa.chunked_array([made[name]])) for name in made})


def next_registration(pulled: pd.DataFrame, today: date) -> date | None:
    """The first registration after `today`, on which its age is made otherwise, stated or by the creation; None without one."""
    every = (parse_dates(column(pulled, _REGISTRATION)), _created(pulled))
    first = [pc.min(days.filter(pc.greater(days, pa.scalar(today, DAY)))).as_py() for days in every]
    return min((day for day in first if day), default=None)


def _created(pulled: pd.DataFrame) -> pa.Array:
    """The day of the creation, in Phnom Penh."""
    return pc.add(column(pulled, "created_at").cast(pa.timestamp("ms")), pa.scalar(OFFSET, pa.duration("ms"))).cast(DAY)


def _possible(days: pa.Array, births: pa.Array, today: date) -> pa.Array:
    """Days of registration; one in the future or before birth counts as none."""
    born = pc.fill_null(pc.less_equal(births, days), fill_value=True)
    return pc.if_else(pc.and_(born, pc.less_equal(days, pa.scalar(today, DAY))), days, None)


def _ages(births: pa.Array, days: pa.Array) -> pa.Array:
    """The completed years from birth to each day; null before birth, and beyond the oldest age that is believed."""
    years = pc.divide(pc.subtract(_digits(days), _digits(births)), 10_000)
    usable = pc.and_(pc.less_equal(births, days), pc.less_equal(years, OLDEST))
    return pc.if_else(usable, years, None).cast(WHOLE)


def _digits(days: pa.Array) -> pa.Array:
    """Each day as a number of the digits YYYYMMDD: of two such numbers the difference has the completed years in front."""
    return pc.add(pc.multiply(pc.year(days), 10_000), pc.add(pc.multiply(pc.month(days), 100), pc.day(days)))


def _services(section: pa.ListArray, births: pa.Array) -> pa.ListArray:
    """The sections of services, each element with the age on its day."""
    parts = section.flatten()
    born = births.take(pc.list_parent_indices(section))
    arrays = {field.name: pc.struct_field(parts, [field.name]) for field in parts.type}
    ages = {each.name: _ages(born, parse_dates(arrays[str(each.day)], parse_service_date)) for each in SERVICES.ages}
    aged = pa.StructArray.from_arrays([*arrays.values(), *ages.values()], [*arrays, *ages], mask=parts.is_null())
    lengths = pc.fill_null(pc.list_value_length(section), 0)
    ends = pc.cumulative_sum(pa.concat_arrays([pa.array([0], lengths.type), lengths]))
    return pa.ListArray.from_arrays(ends, aged, mask=section.is_null())
