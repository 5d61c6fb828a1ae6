"""Decide on the rows received which cases count for which indicator, and which have to leave ONA.

The pull sorts by it, and the mapping uses it again so that a case that is in both sets is mapped once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from primero_ona.mapping.columns import WHOLE, column, flags, holds, parse_column
from primero_ona.mapping.values import Parsed, codes_of, is_true, parse_age, parse_consent
from primero_ona.storage.frames import Frames
from primero_ona.texts import json_text

REINTEGRATION = "children_undergoing_reintegration_55427"

#: Indicator 4.11a counts children who were below this age on the day of registration: 18 is out.
ADULT = 18

#: What has to be read of a raw frame to decide membership.
MEMBERSHIP_FIELDS = ("type_of_case", "age_at_registration", "age", "record_state", "enabled")


def membership(raw: pd.DataFrame) -> pd.DataFrame:
    """For each raw case four booleans: `reintegration`, `under18`, `exit`, `age_missing`; the index is the frame's.

    `under18`: by the age on the day of registration; where that is unknown, by the present one. Primero raises present ages
    by itself, so by these alone children would leave ONA, and past figures, as they grow up. `exit`: disabled, or in
    neither set. `age_missing`: not disabled, but with neither of these ages, so that the case cannot be in under18.
    """
    # `record_state` decides; where it is absent, `enabled`, which is the same thing under another name.
    state = column(raw, "record_state")
    absent = holds(state, lambda value: codes_of(value) == [])
    enabled = np.where(absent, holds(column(raw, "enabled"), is_true), holds(state, is_true))
    reintegration = enabled & holds(column(raw, "type_of_case"), lambda value: REINTEGRATION in codes_of(value))
    present = parse_column(column(raw, "age"), lambda value: Parsed(parse_age(value).value[0]), WHOLE)
    age = pc.coalesce(column(raw, "age_at_registration"), present)
    under18 = enabled & flags(pc.less(age, ADULT))
    return pd.DataFrame(
        {
            "reintegration": reintegration,
            "under18": under18,
            "exit": ~(reintegration | under18),
            "age_missing": enabled & flags(pc.is_null(age)),
        },
        index=raw.index,
    )


#: By consent policy, the states of the consent to share for reporting with which a case may stand in ONA.
_ACCEPTED = {
    "include": ("given", "refused", "not recorded"),
    "exclude_refused": ("given", "not recorded"),
    "given_only": ("given",),
}


def sort_cases(raw: pd.DataFrame, consent: str, modules: Sequence[str]) -> pd.DataFrame:
    """The booleans of `membership` under a policy (see `PullPolicy`), and `excluded`: an exit by consent or module alone."""
    sets = membership(raw)
    accepted = _ACCEPTED[consent]
    unwanted = holds(column(raw, "consent_reporting"), lambda value: parse_consent(value).value[1] not in accepted)
    if modules:
        unwanted = unwanted | ~raw["module_id"].isin(map(json_text, modules)).to_numpy(bool)
    sets["excluded"] = unwanted & ~sets["exit"].to_numpy()
    sets.loc[unwanted, ["reintegration", "under18"]] = False
    sets.loc[unwanted, "exit"] = True
    return sets


def without_under18(raw: pd.DataFrame) -> pd.DataFrame:
    """The cases of a raw frame that are not in the set under18."""
    return raw[~membership(raw)["under18"].to_numpy()]


def quarter_cases(reintegration: Frames, under18: Frames) -> Frames:
    """Both raw streams of a quarter as one, each case once: one that is in both is taken from under18."""

    def read(columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        needed = None if columns is None else tuple(dict.fromkeys((*columns, *MEMBERSHIP_FIELDS)))
        yield from under18.read(columns)
        yield from map(without_under18, reintegration.read(needed))

    return Frames(read)
