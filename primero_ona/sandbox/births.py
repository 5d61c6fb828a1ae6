"""Dates of birth and ages in the sandbox, as Primero has them: the browser's birthday of a typed age, and the nightly job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from primero_ona.sandbox.columns import ABSENT, CANARY_BIRTH, Coded, Codes

Days = npt.NDArray[np.int64]

#: Share of the cases with a known age whose date of birth is recorded, and of these, of those whose age alone was typed.
_RECORDED = 0.9
_TYPED = 0.4
#: Share of the cases without an age that have a date of birth all the same: an import wrote them.
_IMPORTED = 0.4
#: Dates of birth that are none, impossible or of another form, and how rare they are.
_ODD: tuple[Any, ...] = (
    None, "", "31/03/2012", "2012-03-31T20:00:00.000Z", "2099-01-01", "2012-02-30", 20_120_331, CANARY_BIRTH,
)  # fmt: skip
_ODD_SHARE = 0.008


def draw(
    rng: np.random.Generator,
    *,
    ages: Sequence[Any],
    codes: Codes,
    created: Days,
    saved: Days,
    unknown: npt.NDArray[np.bool_],
    odd: bool,
) -> Coded:
    """Draw the column `date_of_birth`: of most cases, fitting the age that was right when the case was last saved.

    `ages` and `codes` are the values of `age` and each row's position among them; `created` and `saved` days since 1970;
    `unknown` marks cases whose age stands for none. No child is born after its case was created.
    """
    count = len(codes)
    plain = np.array([age if type(age) is int and 0 <= age < 100 else -1 for age in ages])[codes]
    missing = np.array([age is None or age is ABSENT for age in ages])[codes]
    years = np.where(missing, rng.integers(0, 18, size=count), plain)
    births = saved - (years * 365.25).astype(np.int64) - rng.integers(1, 360, size=count)
    this_year = saved.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64)
    first_days = (this_year - years).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    births = np.where(~missing & (rng.random(count) < _TYPED), first_days, births)
    recorded = rng.random(count) < np.where(missing, _IMPORTED, _RECORDED)
    given = recorded & (years >= 0) & ~unknown & (births <= created - 5)
    return _column(rng, births, given, odd=odd)


def _column(rng: np.random.Generator, births: Days, given: npt.NDArray[np.bool_], *, odd: bool) -> Coded:
    found, places = np.unique(births[given], return_inverse=True)
    values: list[Any] = np.datetime_as_string(found.astype("datetime64[D]")).tolist()
    absent = len(values)
    codes = np.full(len(births), absent)
    codes[given] = places
    if odd:
        strange = rng.random(len(births)) < _ODD_SHARE
        codes[strange] = absent + 1 + rng.integers(len(_ODD), size=int(strange.sum()))
        if len(births) >= 4 * len(_ODD):
            codes[rng.permutation(len(births))[: len(_ODD)]] = absent + 1 + np.arange(len(_ODD))
    return Coded("date_of_birth", [*values, ABSENT, *_ODD], codes.astype(np.uint16))


def birthday_of(age: int, today: date) -> str:
    """The date of birth that Primero's browser fills in when an age is typed: 1 January."""
    return date(today.year - age, 1, 1).isoformat()


def raised_age(birth: Any, today: date) -> int | None:  # noqa: ANN401
    """The age that Primero's nightly job gives a case in the night to `today`; None where the job does not see it.

    The job looks for birthdays of yesterday and today by the day of the year; on 1 January that span is empty, so children
    born on 1 January grow older on the 2nd.
    """
    try:
        born = date.fromisoformat(birth)
    except (TypeError, ValueError):
        return None
    yesterday = today - timedelta(days=1)
    on_day = (yesterday.month, yesterday.day) <= (born.month, born.day) <= (today.month, today.day)
    if born > today or not on_day:
        return None
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))
