"""What each stored asset's partitions must be: columns, types, and the version of what made them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.mapping.labels import MAPPING_VERSION
from primero_ona.primero.fields import EXIT_COLUMNS, RAW_COLUMNS
from primero_ona.settings import GraphSettings, read_one

if TYPE_CHECKING:
    from primero_ona.storage.partitions import Stored

#: Changes with the allow-list, so that a partition pulled with fewer fields is not taken for one with all of them.
PULL_VERSION = hashlib.sha256(str((RAW_COLUMNS, EXIT_COLUMNS)).encode()).hexdigest()[:12]


def current_versions(rules: str) -> tuple[str, str]:
    """The versions of the pull, under a policy (its `suffix`), and of the mapping, as a load records them."""
    return PULL_VERSION + rules, MAPPING_VERSION


def stored_assets(rules: str | None = None) -> dict[str, Stored]:
    """By asset name, for what was pulled under a policy (its `suffix`); default: that of the settings."""
    from primero_ona.pipeline.reference import ASSET, STORED
    from primero_ona.primero.raw_schema import EXIT_SCHEMA, RAW_SCHEMA
    from primero_ona.storage.partitions import Stored

    rules = read_one(GraphSettings).policy.suffix if rules is None else rules
    pulled, _ = current_versions(rules)
    # With the pull's version, so that rows mapped from an older pull are not loaded beside the exits of a newer one.
    mapped = f"{MAPPING_VERSION}/{pulled}"
    return {
        ASSET: STORED,
        "raw_reintegration_cases": Stored(RAW_SCHEMA, pulled),
        "raw_under18_cases": Stored(RAW_SCHEMA, pulled),
        "case_exits": Stored(EXIT_SCHEMA, pulled),
        "mapped_cases": Stored(CASES.arrow_schema(), mapped),
        "mapped_services": Stored(SERVICES.arrow_schema(), mapped),
    }
