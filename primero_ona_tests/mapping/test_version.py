"""The version of the mapping."""

from __future__ import annotations

from primero_ona.mapping.labels import COLUMNS, MAPPING_VERSION, RULES, Labels, label_source, source, version_of


def test_the_version_changes_with_labels_rules_and_columns():
    """Parts that were mapped by older rules must be recognised; otherwise old and new labels stand side by side."""
    labels = label_source()
    assert version_of(RULES, labels, COLUMNS) == MAPPING_VERSION
    others = [(RULES + 1, labels, COLUMNS), (RULES, labels + b"#", COLUMNS), (RULES, labels, COLUMNS + "#")]
    assert len({MAPPING_VERSION, *(version_of(*other) for other in others)}) == 4


def test_an_accepted_code_changes_no_version(monkeypatch):
    """It changes no row; each quarter of the past would be mapped and loaded again for a warning that went."""
    more = source() + b'  sex:\n    - "unknown"\n'
    monkeypatch.setattr("primero_ona.mapping.labels.source", lambda: more)
    assert version_of(RULES, label_source(), COLUMNS) == MAPPING_VERSION
    assert Labels.load().accepted["sex"] == {"unknown"}
