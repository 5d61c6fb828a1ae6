"""What ONA is to hold of what Primero has. Light, since the graph names the scope of its audit when it is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from primero_ona.mapping.labels import Labels
from primero_ona.primero.fields import json_text
from primero_ona.primero.policy import PullPolicy
from primero_ona.quarters import Quarter

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Scope:
    """What ONA is to hold: cases that the policy lets come, last changed since the first quarter, under these labels."""

    first: Quarter
    policy: PullPolicy = field(default_factory=PullPolicy)
    labels: Labels = field(default_factory=Labels.load, repr=False)

    def sets(self, raw: pd.DataFrame) -> pd.DataFrame:
        """The membership of raw cases under the policy: booleans `reintegration`, `under18` and `exit`."""
        from primero_ona.mapping.membership import keep_out, membership, without_consent  # noqa: PLC0415  see above

        sets = membership(raw)
        kept_out = without_consent(raw, self.policy.consent)
        if self.policy.modules:
            wanted = [json_text(module) for module in self.policy.modules]
            kept_out = kept_out | ~raw["module_id"].isin(wanted).to_numpy(bool)
        keep_out(sets, kept_out)
        return sets
