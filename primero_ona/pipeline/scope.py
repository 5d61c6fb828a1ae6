"""Which cases belong in ONA. Imported by definitions.py, so it must stay cheap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from primero_ona.mapping.labels import Labels
from primero_ona.primero.fields import PullPolicy, json_text
from primero_ona.quarters import Quarter

if TYPE_CHECKING:
    import pandas as pd


def sort_cases(raw: pd.DataFrame, policy: PullPolicy) -> pd.DataFrame:
    """Decide where raw cases belong under the policy: the booleans of `membership`, and `excluded`.

    `excluded`: in a set but for the consent or the module; such a case is in no set, and an `exit`.
    """
    from primero_ona.mapping.membership import exclude, membership, without_consent  # noqa: PLC0415  see above

    sets = membership(raw)
    unwanted = without_consent(raw, policy.consent)
    if policy.modules:
        wanted = [json_text(module) for module in policy.modules]
        unwanted = unwanted | ~raw["module_id"].isin(wanted).to_numpy(bool)
    sets["excluded"] = unwanted & ~sets["exit"].to_numpy()
    exclude(sets, unwanted)
    return sets


@dataclass(frozen=True)
class Scope:
    """What ONA is to hold: cases that the policy lets come, last changed since the first quarter, under these labels."""

    first: Quarter
    policy: PullPolicy = field(default_factory=PullPolicy)
    labels: Labels = field(default_factory=Labels.load, repr=False)
