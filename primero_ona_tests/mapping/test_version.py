"""The version of the mapping."""

from __future__ import annotations

from primero_ona.mapping.labels import MAPPING_VERSION, RULES, Labels, label_source, source, version_of


def test_the_version_changes_with_labels_and_with_rules():
    """Parts that were mapped by older rules must be recognised; otherwise old and new labels stand side by side."""
    labels = label_source()
    assert version_of(RULES, labels) == MAPPING_VERSION
    assert len({MAPPING_VERSION, version_of(RULES + 1, labels), version_of(RULES, labels + b"#")}) == 3


def test_an_accepted_code_changes_no_version(monkeypatch):
    """It changes no row; each quarter of the past would be mapped and loaded again for a warning that went."""
    more = source() + b'  sex:\n    - "unknown"\n'
    monkeypatch.setattr("primero_ona.mapping.labels.source", lambda: more)
    assert version_of(RULES, label_source()) == MAPPING_VERSION
    assert Labels.load().accepted["sex"] == {"unknown"}
