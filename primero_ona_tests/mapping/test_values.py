"""Values: what lies below all rules."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primero_ona.mapping.columns import parse_keys
from primero_ona.mapping.values import codes_of, decode, key_text
from primero_ona.texts import json_text
from primero_ona_tests.mapping.helpers import framewise, map_one

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=5,
)
FIELDS = (
    "case_id_display",
    "registration_date",
    "oscar_number",
    "disability_type",
    "type_of_case",
    "sex",
    "age",
    "protection_concerns",
    "type_of_placement",
    "consent_reporting",
    "location_current",
    "status",
)


@pytest.mark.parametrize("text", ["{", "NaN", '"\\ud800"', "", "no json"])
def test_a_text_that_is_no_json_is_a_value_of_no_use(text):
    """The error of the parser quotes the text; it must neither stop the run nor be shown."""
    assert codes_of(decode(text)) == [None]


@pytest.mark.parametrize(
    ("field", "text", "column", "value", "reported"),
    [
        ("protection_concerns", "[]", "protection_concerns", "", []),
        ("protection_concerns", " [ ] ", "protection_concerns", "", []),
        ("protection_concerns", ["[]"], "protection_concerns", "", []),
        (
            "protection_concerns",
            '["living_with_vulnerable_person"]',
            "protection_concerns",
            "At risk of sexual exploitation",
            [],
        ),
        ("protection_concerns", ['["refugee"]', "caafag"], "protection_concerns", "Separated, Orphaned", []),
        ("protection_concerns", '["refugee", "unheard"]', "protection_concerns", "Separated", ["unheard"]),
        ("protection_concerns", '[["refugee"]]', "protection_concerns", "", [None]),
        ("protection_concerns", [["refugee"]], "protection_concerns", "", [None]),
        ("protection_concerns", "[refugee]", "protection_concerns", "", ["[refugee]"]),
        ("protection_concerns", '["\\ud800"]', "protection_concerns", "", ['["\\ud800"]']),
        ("protection_concerns", "[NaN]", "protection_concerns", "", ["[NaN]"]),
        ("protection_concerns", "[" * 100_000, "protection_concerns", "", [None]),
        ("disability_type", '["both"]', "disabled", "Hearing or Speech Disability", []),
        ("disability_type", "[]", "disabled", None, []),
        ("sex", '["male"]', "sex", "Male", []),
        ("sex", '["x"]', "sex", None, ["x"]),
        ("type_of_case", '["children_undergoing_reintegration_55427"]', "type_of_case", "children undergoing reintegration", []),
        ("type_of_placement", "[]", "placement_type", None, []),
        ("location_current", '["10060802"]', "district_current", "Chetr Borei", []),
        ("location_current", "[10060802]", "location_code", "10060802", []),
        ("status", '["open"]', "case_status", "open", []),
        ("consent_reporting", "[]", "consent_status", "not recorded", []),
        ("consent_reporting", '["true"]', "consent_status", "not recorded", [None]),
        ("age", "[7]", "age", None, [None]),
    ],
)  # fmt: skip
@pytest.mark.proves("odd-value")
def test_a_text_that_is_a_json_list_is_that_list(field, text, column, value, reported):
    """Cases that came from Primero's first version hold them; taken for a code, they would be unknown ones."""
    row, findings = map_one(**{field: text})
    assert (row[column], [(name, code) for name, code, _ in findings]) == (value, [(field, code) for code in reported])


def test_a_key_is_a_text_whatever_it_looks_like():
    """A child must not be left out for its brackets."""
    assert map_one(case_id_display='["1"]')[0]["case_id"] == '["1"]'


@framewise
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS[1:], JSON)))
def test_no_value_whatsoever_stops_the_run(fields):
    """One odd record among a hundred thousand must not cost the country its quarter."""
    row, _ = map_one(**fields)
    assert not any("\x00" in value for value in row.values() if isinstance(value, str))
    assert row["consent_for_reporting"] in {"true", "false"}
    assert row["case_source"] in {"oscar", "primero"}
    assert isinstance(row["protection_concerns"], str)
    assert row["age"] is None or 0 <= row["age"] <= 130


@framewise
@given(st.lists(JSON))
def test_keys_read_all_at_once_are_the_keys_read_one_by_one(values):
    """The quick way for plain ids and the careful way must agree, or a clash would be overlooked."""
    texts = pa.array([json_text(value) for value in values], pa.string())
    assert parse_keys(texts).to_pylist() == [key_text(decode(text)) for text in texts.to_pylist()]
