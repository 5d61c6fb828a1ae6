"""The version of the mapping."""

from __future__ import annotations

import pytest

from primero_ona.mapping.labels import COLUMNS, MAPPING_VERSION, Labels, label_source, rule_sources, source, version_of

RULE = b"""
LIMIT = 17

def rule(age: int) -> str:
    return "child" if age <= LIMIT else f"{age:>3} years"
"""

SAME = {
    "comment": RULE.replace(b"LIMIT = 17", b"# the law\nLIMIT = 17  # years"),
    "docstrings": RULE.replace(b"str:\n", b'str:\n    """Tell."""\n').replace(b"\nLIMIT", b'\n"""Ages."""\nLIMIT'),
    "layout": RULE.replace(b'"child" if', b"(\n        'ch' 'ild'\n        if").replace(b'years"', b'years")'),
}
OTHER = {
    "constant": RULE.replace(b"17", b"18"),
    "text": RULE.replace(b"child", b"Child"),
    "blank in a text": RULE.replace(b" years", b"  years"),
    "format": RULE.replace(b">3", b">4"),
    "operator": RULE.replace(b"<=", b"<"),
    "name": RULE.replace(b"LIMIT else", b"age else"),
}


@pytest.mark.parametrize("rule", SAME.values(), ids=SAME)
@pytest.mark.proves("other-version")
def test_what_is_said_about_a_rule_does_not_count(rule: bytes):
    """A comment put right would have every quarter of the past synced again."""
    assert version_of(b"", [rule]) == version_of(b"", [RULE]) != version_of(b"", [])


@pytest.mark.parametrize("rule", OTHER.values(), ids=OTHER)
@pytest.mark.proves("other-version")
def test_a_changed_rule_changes_the_version(rule: bytes):
    """Rows that were mapped by older rules must be recognised; otherwise old and new labels stand side by side."""
    assert version_of(b"", [rule]) != version_of(b"", [RULE])


def test_the_version_is_that_of_the_labels_and_of_each_module_of_the_rules():
    """A number that people have to raise is forgotten."""
    labels, rules = label_source(), rule_sources()
    assert version_of(labels, rules.values()) == MAPPING_VERSION
    assert {"columns.py", "dates.py", "labels.py", "rows.py", "texts.py", "values.py"} <= set(rules)
    changed = [{**rules, name: code + b"\nADDED = 1\n"}.values() for name, code in rules.items()]
    versions = {version_of(labels, modules) for modules in changed}
    assert len(versions | {MAPPING_VERSION}) == len(rules) + 1
    assert version_of(labels, rules.values(), COLUMNS + "#") != MAPPING_VERSION
    assert version_of(labels.replace(b'"Male"', b'"Boy"'), rules.values()) != MAPPING_VERSION
    assert version_of(labels.replace(b"\nsex:", b"\n# why\n\nsex:"), rules.values()) == MAPPING_VERSION


def test_an_accepted_code_changes_no_version(monkeypatch):
    """It changes no row; each quarter of the past would be mapped and loaded again for a warning that went."""
    more = source() + b'  sex:\n    - "unknown"\n'
    monkeypatch.setattr("primero_ona.mapping.labels.source", lambda: more)
    assert version_of(label_source(), rule_sources().values()) == MAPPING_VERSION
    assert Labels.load().accepted["sex"] == {"unknown"}
