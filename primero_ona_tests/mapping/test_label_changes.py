"""Where labels part, and the text of labels.yaml once they agree."""

from __future__ import annotations

import pytest
import yaml

from primero_ona.errors import DataError
from primero_ona.mapping.label_changes import Kind, LabelChange, accepted, label_changes
from primero_ona.mapping.labels import Labels, source
from primero_ona.mapping.values import Reading


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
    assert labels.read_single("sex", ["male", "x", "y"]) == Reading("Male, Diverse", ("x", "y"))
    assert labels.read_passing("sex", "x") == Reading("Diverse", ("x",))
    assert labels.read_passing("sex", "y") == Reading("y", ("y",))


def test_the_version_changes_with_primeros_labels_but_not_with_those_that_are_not_used():
    """A reader sees that rows were mapped by other labels; a label that ours overrides changes no row."""
    labels = Labels({"sex": {"male": "Male"}})
    assert labels.version == labels.beside({"sex": {"male": "Man"}}).version
    assert labels.version != labels.beside({"sex": {"x": "X"}}).version


def test_accepting_changes_just_those_lines():
    """labels.yaml is read by people: its comments are why the labels are right."""
    changes = [
        LabelChange(Kind.DIFFERENT, "disability_type", "no", "Physical Disability (Hand Disability)", 'Hand "H"'),
        LabelChange(Kind.ONLY_PRIMERO, "sex", "x", "", "Diverse, ភេទ"),
        LabelChange(Kind.UNKNOWN, "sex", "y", "", ""),
    ]
    before = source().decode()
    after = accepted(before, changes)
    assert len(set(after.splitlines()) - set(before.splitlines())) == 2
    assert [line for line in after.splitlines() if "#" in line] == [line for line in before.splitlines() if "#" in line]
    tables = yaml.safe_load(after)
    assert tables["disability_type"]["no"] == 'Hand "H"'
    assert tables["sex"] == {"male": "Male", "female": "Female", "other": "Other", "x": "Diverse, ភេទ"}


def test_accepting_into_the_last_section_and_accepting_nothing():
    """The file ends with a section that has no blank line after it."""
    before = source().decode()
    assert accepted(before, []) == before
    change = LabelChange(Kind.ONLY_PRIMERO, "protection_concerns", "new_1", "", "New")
    assert accepted(before, [change]) == before.replace("\n\naccepted:", '\n  "new_1": "New"\n\naccepted:')


def test_a_field_without_a_section_is_refused():
    """A label that is silently dropped would be asked for again and again."""
    with pytest.raises(DataError, match="no section status"):
        accepted(source().decode(), [LabelChange(Kind.ONLY_PRIMERO, "status", "x", "", "X")])
