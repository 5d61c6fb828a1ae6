"""Labels: every option id, and how codes are looked up."""

from __future__ import annotations

import dataclasses

import pytest

from primero_ona.mapping.labels import Labels, source
from primero_ona_tests.mapping.expected_labels import EXPECTED
from primero_ona_tests.mapping.helpers import LABELS, map_one, map_service

COLUMN_OF = {"disability_type": "disabled", "sex": "sex", "protection_concerns": "protection_concerns"}


@pytest.mark.parametrize(("field", "code", "label"), EXPECTED)
def test_every_option_id_becomes_exactly_its_label(field, code, label):
    """The dashboards filter on these strings: one letter off, and a filter finds nothing."""
    row, findings = map_service(service_type=code) if field == "service_type" else map_one(**{field: code})
    assert row[COLUMN_OF.get(field, field)] == label
    assert findings == []


def test_the_tables_hold_these_ids_and_no_others():
    """An id that slipped in twice, or under a wrong field, would change labels unseen: YAML keeps the last silently."""
    stored = [(field, code, label) for field, table in LABELS.tables.items() for code, label in table.items()]
    assert sorted(stored) == sorted(EXPECTED)
    assert len(stored) == sum(line.startswith(b'  "') for line in source().splitlines())


def test_labels_cannot_be_changed_once_loaded():
    """A run that changed a label would map the rest of the country differently."""
    labels = Labels.load()
    with pytest.raises(dataclasses.FrozenInstanceError):
        labels.tables = {}
    with pytest.raises(TypeError):
        labels.tables["sex"]["male"] = "M"


@pytest.mark.parametrize(
    ("field", "value", "label", "reported"),
    [
        ("disability_type", None, None, []),
        ("disability_type", "", None, []),
        ("disability_type", " \t", None, []),
        ("disability_type", "\x00", None, []),
        ("disability_type", [], None, []),
        ("disability_type", ["", None], None, []),
        ("disability_type", " both ", "Hearing or Speech Disability", []),
        ("disability_type", "bo\x00th", "Hearing or Speech Disability", []),
        ("disability_type", "Both", None, ["Both"]),
        ("disability_type", "new_option_12345", None, ["new_option_12345"]),
        ("disability_type", 5, None, ["5"]),
        ("disability_type", True, None, ["true"]),
        ("disability_type", {"id": "both"}, None, [None]),
        (
            "disability_type",
            ["vision_disability_33985", "x_1", "other_28672"],
            "Vision Disability, Other",
            ["x_1"],
        ),
        ("disability_type", ["x_1", "x_2"], None, ["x_1", "x_2"]),
        ("disability_type", ["both", {"id": "both"}, ["both"]], "Hearing or Speech Disability", [None, None]),
        ("sex", None, None, []),
        ("sex", " ", None, []),
        ("sex", "unknown_1", "unknown_1", ["unknown_1"]),
        ("sex", "Male", "Male", ["Male"]),
        ("sex", " x\x00y ", "xy", ["xy"]),
        ("sex", "not yet known", "not yet known", [None]),
        ("sex", 3, "3", ["3"]),
        ("sex", {"id": "male"}, None, [None]),
        ("sex", ["male", "female"], "Male, Female", []),
        ("sex", ["male", "x_1"], "Male", ["x_1"]),
        ("sex", ["x_1"], None, ["x_1"]),
        ("protection_concerns", None, "", []),
        ("protection_concerns", [], "", []),
        ("protection_concerns", " ", "", []),
        ("protection_concerns", "refugee", "Separated", []),
        ("protection_concerns", ["refugee", "caafag"], "Separated, Orphaned", []),
        ("protection_concerns", ["caafag", "refugee", "caafag"], "Orphaned, Separated, Orphaned", []),
        ("protection_concerns", ["refugee", "gbv_survivor", "caafag"], "Separated, Orphaned", ["gbv_survivor"]),
        ("protection_concerns", ["gbv_survivor"], "", ["gbv_survivor"]),
        ("protection_concerns", ["", None, " refugee "], "Separated", []),
        ("protection_concerns", "[]", "", []),
        ("protection_concerns", {"id": "refugee"}, "", [None]),
        ("protection_concerns", ["refugee", {"id": "refugee"}], "Separated", [None]),
        ("protection_concerns", ["x_1", "x_1"], "", ["x_1", "x_1"]),
    ],
)
def test_a_code_gives_its_label_or_is_reported(field, value, label, reported):
    """An unknown code that became another value, or vanished uncounted, would be a silent error in the figures."""
    row, findings = map_one(**{field: value})
    assert row[COLUMN_OF[field]] == label
    assert findings == [
        (field, code, reported.count(code)) for code in sorted(set(reported), key=lambda code: code or "")
    ]


@pytest.mark.parametrize(
    ("value", "label", "reported"),
    [
        ("Other", "Other", []),
        ("other", "Other", []),
        ("OTHER", None, ["OTHER"]),
        ("Counselling", None, ["Counselling"]),
        (["counselling", "legal_support"], "Counselling, Legal Support", []),
        (["x_1"], None, ["x_1"]),
        ({}, None, [None]),
        (None, None, []),
    ],
)
def test_a_service_type_gives_its_label_or_is_reported(value, label, reported):
    """`Other` with a capital is an id of its own, from OSCaR; all other ids are compared with regard to case."""
    row, findings = map_service(service_type=value)
    assert row["service_type"] == label
    assert findings == [("service_type", code, 1) for code in reported]
