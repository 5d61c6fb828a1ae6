"""Where labels differ, and the lines that would make them agree."""

from __future__ import annotations

import pytest
import yaml

from primero_ona.mapping.labels import Labels, source
from primero_ona.mapping.values import Parsed
from primero_ona.pipeline.reference import Kind, LabelChange, as_lines, label_changes


def test_the_three_findings_are_told_apart():
    """A person has to see at once whether a label changed, an option is new, or a code is nobody's."""
    ours = Labels({"sex": {"male": "Male", "female": "Female"}}, {"sex": {"male": "Man", "female": "Female", "x": "X"}})
    assert label_changes(ours, [("sex", "y"), ("sex", "x"), ("age", "y")]) == [
        LabelChange(Kind.DIFFERENT, "sex", "male", "Male", "Man"),
        LabelChange(Kind.ONLY_PRIMERO, "sex", "x", "", "X"),
        LabelChange(Kind.UNKNOWN, "sex", "y", "", ""),
    ]


@pytest.mark.parametrize(
    "theirs", ["Ma\u200ble", "Ma\u200cle\ufeff", "\u00a0Male ", "Male"], ids=["break", "joiner", "blanks", "equal"]
)
def test_marks_that_nobody_sees_are_no_difference(theirs):
    """Otherwise the finding would stand for ever, and people would stop reading it."""
    assert label_changes(Labels({"sex": {"male": "Male"}}, {"sex": {"male": theirs}})) == []


def test_a_code_that_only_primero_knows_gets_its_label_and_is_reported():
    """The option is shown with a text that people know, and somebody learns that the mapping lacks it."""
    labels = Labels({"sex": {"male": "Male"}}, {"sex": {"male": "Man", "x": "Diverse"}})
    assert labels.parse_single("sex", ["male", "x", "y"]) == Parsed("Male, Diverse", ("x", "y"))
    assert labels.parse_passing("sex", "x") == Parsed("Diverse", ("x",))
    assert labels.parse_passing("sex", "y") == Parsed("y", ("y",))


def test_the_version_changes_with_primeros_labels_but_not_with_those_that_are_not_used():
    """A reader sees that rows were mapped by other labels; a label that ours overrides changes no row."""
    labels = Labels({"sex": {"male": "Male"}})
    assert labels.version == labels.beside({"sex": {"male": "Man"}}).version
    assert labels.version != labels.beside({"sex": {"x": "X"}}).version


def test_the_lines_for_labels_yaml_are_the_labels_that_primero_has():
    """They are copied into the file as they are: quotes, Khmer and a code that YAML reads as false have to survive."""
    changes = [
        LabelChange(Kind.DIFFERENT, "disability_type", "no", "Physical Disability (Hand Disability)", 'Hand "H"'),
        LabelChange(Kind.ONLY_PRIMERO, "sex", "x", "", "Diverse, ភេទ"),
        LabelChange(Kind.UNKNOWN, "sex", "y", "", ""),
        LabelChange(Kind.DIFFERENT, "sex", "male", "Male", "Boy"),
    ]
    lines = as_lines(changes)
    assert yaml.safe_load(lines) == {"disability_type": {"no": 'Hand "H"'}, "sex": {"x": "Diverse, ភេទ", "male": "Boy"}}
    written = source().decode().splitlines()
    assert all(
        line in written for line in as_lines([LabelChange(Kind.DIFFERENT, "sex", "male", "", "Male")]).splitlines()
    )
    assert as_lines([changes[2]]) == ""
