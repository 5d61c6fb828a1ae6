"""What each stored asset's partitions must be: columns, types, and the version of what made them."""

from __future__ import annotations

import hashlib

from primero_ona.io_manager import Stored
from primero_ona.mapping.version import MAPPING_VERSION
from primero_ona.ona.schema import CASES, SERVICES
from primero_ona.primero.fields import EXIT_SCHEMA, RAW_SCHEMA

#: Changes with the allow-list, so that a partition pulled with fewer fields is not taken for one with all of them.
PULL_VERSION = hashlib.sha256(str((RAW_SCHEMA, EXIT_SCHEMA)).encode()).hexdigest()[:12]


def stored_assets() -> dict[str, Stored]:
    """By asset name."""
    return {
        "raw_reintegration_cases": Stored(RAW_SCHEMA, PULL_VERSION),
        "raw_under18_cases": Stored(RAW_SCHEMA, PULL_VERSION),
        "case_exits": Stored(EXIT_SCHEMA, PULL_VERSION),
        "mapped_cases": Stored(CASES.arrow_schema(), MAPPING_VERSION),
        "mapped_services": Stored(SERVICES.arrow_schema(), MAPPING_VERSION),
    }
