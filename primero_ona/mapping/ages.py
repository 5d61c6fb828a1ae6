"""Ages on the days that count, made of the date of birth while a case is in memory; the date itself goes no further.

Days are read by the rules of the mapping, so that an age fits the date beside it.
"""

from __future__ import annotations

from datetime import date

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from primero_ona.contract.tables import BIRTH_FIELD, CASES, SERVICES
from primero_ona.mapping.columns import WHOLE, Rule, column, to_arrow
from primero_ona.mapping.dates import DAY, OFFSET, parse_date, parse_dates, parse_service_date
from primero_ona.mapping.result import UnmappedCodes
from primero_ona.mapping.values import OLDEST

_SERVICES = "services_section"
#: The day that is replaced by that of the creation where it cannot be.
_REGISTRATION = "registration_date"

#: By column of ages, the field with its day.
_DAYS = {column.name: str(column.day) for column in CASES.ages}

#: What is read of a pulled frame.
_FIELDS = tuple(dict.fromkeys((BIRTH_FIELD, "created_at", _SERVICES, *_DAYS.values())))


def with_ages(pulled: pd.DataFrame, today: date) -> pd.DataFrame:
    """Turn a frame as pulled into one that may be stored: ages in completed years in place of the date of birth.

    `today` is the day in Phnom Penh: a registration in the future counts as none. An age is null where the day or a usable
    date of birth is unknown. The index stays.
    """
    table = to_arrow(pulled, _FIELDS)
    births = _days(column(table, BIRTH_FIELD), parse_date)
    days = {field: _days(column(table, field), parse_date) for field in _DAYS.values()}
    days[_REGISTRATION] = _registered(days[_REGISTRATION], column(table, "created_at"), births, today)
    made = {name: _ages(births, days[field]) for name, field in _DAYS.items()}
    made[_SERVICES] = _services(column(table, _SERVICES), births)
    stored = pulled.drop(columns=BIRTH_FIELD)
    return stored.assign(**{name: pd.arrays.ArrowExtensionArray(pa.chunked_array([made[name]])) for name in made})


def _days(texts: pa.Array, rule: Rule) -> pa.Array:
    """A column of dates; what cannot be read is reported where the mapping reads the same field."""
    return parse_dates(texts, rule, "", UnmappedCodes())


def _registered(stated: pa.Array, created: pa.Array, births: pa.Array, today: date) -> pa.Array:
    """The day of registration: as stated, else that of the creation; a day in the future or before birth counts as none."""
    in_phnom_penh = pc.add(created.cast(pa.timestamp("ms")), pa.scalar(OFFSET, pa.duration("ms"))).cast(DAY)
    return pc.coalesce(*(_possible(days, births, today) for days in (stated, in_phnom_penh)))


def _possible(days: pa.Array, births: pa.Array, today: date) -> pa.Array:
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
    ages = {each.name: _ages(born, _days(arrays[str(each.day)], parse_service_date)) for each in SERVICES.ages}
    aged = pa.StructArray.from_arrays([*arrays.values(), *ages.values()], [*arrays, *ages], mask=parts.is_null())
    lengths = pc.fill_null(pc.list_value_length(section), 0)
    ends = pc.cumulative_sum(pa.concat_arrays([pa.array([0], lengths.type), lengths]))
    return pa.ListArray.from_arrays(ends, aged, mask=section.is_null())
