"""UnmappedCodes: what may be shown of a code that no table knows."""

from __future__ import annotations

import pytest

from primero_ona.mapping.labels import Labels
from primero_ona.mapping.result import UnmappedCodes, to_decide
from primero_ona_tests.mapping.helpers import found, map_all, map_one


@pytest.mark.parametrize("code", ["a", "new_option_12345", "NaN", "1299", "-5", "x" * 100])
def test_a_code_is_reported_by_its_text(code):
    """Nobody could add a missing label without knowing the code."""
    assert found_after(code) == [{"field": "sex", "code": code, "count": 1}]


@pytest.mark.parametrize(
    "text",
    [
        "x" * 101,
        "two words",
        "line\nbreak",
        "tab\there",
        "bell\x07",
        "a\u00a0b",
        "ឈ្មោះកុមារ",
        "someone@example.org",
        "",
        None,
    ],
)
def test_free_text_is_reported_by_field_and_count_only(text):
    """Somebody may have written a name where a code belongs, and many read reports; Khmer needs no blanks."""
    assert found_after(text) == [{"field": "sex", "code": None, "count": 1}]


def found_after(code):
    findings = UnmappedCodes()
    findings.add("sex", code)
    return findings.as_list()


def test_every_row_counts_and_different_hidden_texts_count_together():
    """A report that counts texts rather than rows would make a wide-spread fault look small."""
    mapped = map_all(*[{"sex": "x_1"}] * 3, {"sex": "some text"}, {"sex": "other text"}, {"sex": ["x_1", "x_1"]})
    assert found(mapped) == [("sex", None, 2), ("sex", "x_1", 5)]


def test_findings_of_batches_add_up():
    """A quarter is many batches; the report is one."""
    first, second = UnmappedCodes(), UnmappedCodes()
    first.add("sex", "b", 2)
    second.add("sex", "b")
    second.add("age", None)
    first.update(second)
    assert first.as_list() == [
        {"field": "age", "code": None, "count": 1},
        {"field": "sex", "code": "b", "count": 3},
    ]


@pytest.mark.parametrize("field", ["age", "registration_date", "care_date", "date_of_reintegration", "date_closure"])
def test_what_stands_for_an_age_or_a_date_is_never_shown(field):
    """These fields hold no codes, so whatever stands there is a child's datum."""
    _, findings = map_one(**{field: "secret"})
    assert findings == [(field, None, 1)]


ACCEPTED = {"sex": {"unknown"}, "location_current": {"NaN"}}


def entry(field, code, count):
    return {"field": field, "code": code, "count": count}


@pytest.mark.parametrize(
    ("findings", "decide"),
    [
        ([], {}),
        ([entry("sex", "unknown", 5), entry("age", None, 5), entry("location_current", "NaN", 1)], {}),
        ([entry("sex", "x_1", 1)], {"code of sex that is not accepted (x_1)": 1}),
        ([entry("status", "unknown", 1)], {"code of status that is not accepted (unknown)": 1}),
        (
            [entry("sex", f"x_{number}", 1) for number in range(7)],
            {"code of sex that is not accepted (x_0, x_1, x_2, x_3, x_4, …)": 7},
        ),
        ([entry("location_current", "1299", 1)], {"code of location_current that is not accepted": 1}),
        ([entry("age", None, 6)], {"age unreadable or accepted in more than 5% of the rows": 1}),
        (
            [entry("sex", "unknown", 4), entry("sex", None, 2), entry("age", None, 5)],
            {"sex unreadable or accepted in more than 5% of the rows": 1},
        ),
    ],
)
@pytest.mark.proves("unknown-code")
def test_what_people_have_to_decide_is_told_once_by_field(findings, decide):
    """A check that warns of what everybody knows, in each quarter, is read by nobody when a new option appears."""
    assert to_decide(findings, ACCEPTED, 100) == decide


def test_accepted_codes_have_no_label_and_stand_for_fields_that_are_mapped():
    """A code with a label needs no acceptance, and one under a misspelt field would go on to warn."""
    labels = Labels.load()
    fields = {*labels.tables, "location_current", "location_caregiver", "type_of_case", "type_of_placement", "status"}
    assert labels.accepted.keys() <= fields
    for field, codes in labels.accepted.items():
        assert codes
        assert not codes & labels.tables.get(field, {}).keys()
