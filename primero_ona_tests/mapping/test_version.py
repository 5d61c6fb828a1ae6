"""The version of the mapping."""

from __future__ import annotations

from primero_ona.mapping.labels import source
from primero_ona.mapping.version import MAPPING_VERSION, RULES, version_of


def test_the_version_changes_with_labels_and_with_rules():
    """Parts that were mapped by older rules must be recognised; otherwise old and new labels stand side by side."""
    assert version_of(RULES, source()) == MAPPING_VERSION
    assert len({MAPPING_VERSION, version_of(RULES + 1, source()), version_of(RULES, source() + b"#")}) == 3
