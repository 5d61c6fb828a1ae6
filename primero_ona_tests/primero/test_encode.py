"""Raw cases in Arrow: whole columns at once must give what one value after the other gives."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primero_ona.primero.fields import SERVICE_FIELDS
from primero_ona.primero.raw import PULLED_SCHEMA, PULLED_SERVICE_TYPE, raw_columns, sections, texts
from primero_ona.texts import json_text
from primero_ona_tests.raw import cut_services

#: Texts that look like what stands between values, or like null.
TRAPS = st.sampled_from(
    [
        "[]",
        '[{"unique_id": "a", "notes": 1}]',
        "[a",
        "null",
        ",\n  ",
        "a,\n  b",
        "\n  ]",
        '"',
        "\\n",
        "ខ្មែរ",
        "\u2028",
        "",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TRAPS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TRAPS, inner, max_size=2))
ELEMENTS = st.none() | SCALARS | st.dictionaries(st.sampled_from([*SERVICE_FIELDS, "notes"]), VALUES, max_size=4)


@given(st.lists(SCALARS, max_size=6) | st.lists(VALUES, max_size=6))
def test_each_value_becomes_its_own_json_text(values: list[Any]) -> None:
    """Without it a value could slip to the child beside it."""
    assert texts(values).to_pylist() == [json_text(value) for value in values]


@given(st.lists(SCALARS | st.lists(ELEMENTS, max_size=3), max_size=5))
def test_each_case_keeps_its_own_services_and_only_the_allowed_keys(values: list[Any]) -> None:
    """Without it services could move to another child, or notes be stored."""
    made = sections(values)
    made.validate(full=True)
    assert made.equals(pa.array([cut_services(value) for value in values], PULLED_SERVICE_TYPE))


@pytest.mark.parametrize("value", [2**70, "\ud800"], ids=["beyond 64 bits", "half a character"])
def test_a_value_that_orjson_does_not_write_is_kept(value: Any) -> None:
    """Valid JSON must not stop a country's pull."""
    assert texts(["x", value]).to_pylist() == ['"x"', json_text(value)]


def test_a_value_nested_deeper_than_can_be_written_is_as_good_as_an_object() -> None:
    """It can be read, up to another depth, so one such value stopped a country's pull."""
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    assert texts(["x", deep]).to_pylist() == ['"x"', "{}"]


@pytest.mark.proves("only-asked-fields")
def test_what_is_not_on_the_list_is_cut() -> None:
    """A name that comes though nobody asked must not be stored."""
    columns = raw_columns([{"id": "a", "name": "SECRET", "sex": "male"}], "village")
    assert set(columns) == set(PULLED_SCHEMA.names) - {"last_updated_at", "created_at"}
    assert "SECRET" not in str(columns)
