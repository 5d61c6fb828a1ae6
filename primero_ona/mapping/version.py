"""The version of the mapping, recorded with every stored partition, so that a reader sees that other rules made it."""

from __future__ import annotations

import hashlib

from primero_ona.mapping.labels import label_source

#: Add one whenever a rule in this package changes what a case becomes; a changed label in `labels.yaml` counts by itself.
RULES = 3


def version_of(rules: int, labels: bytes) -> str:
    """A short text that differs when the rules or the labels differ."""
    return hashlib.sha256(f"{rules}\n".encode() + labels).hexdigest()[:12]


MAPPING_VERSION = version_of(RULES, label_source())
