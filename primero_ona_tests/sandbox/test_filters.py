"""The tables of what a filter returns: every line was seen on Primero's own search code."""

from __future__ import annotations

import uuid

import pytest

from primero_ona.sandbox.casting import Range, cast
from primero_ona_tests.sandbox.conftest import Client

EVERYBODY = "ABCDE"
NOBODY = ""


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("age=0..18", "ABE"),
        ("age=5", "E"),
        ("age=0,5", "AE"),
        ("age=0..5,18..19", "ABCE"),
        ("age[0]=0..5&age[1]=18..18", "ABE"),
        ("age[from]=0&age[to]=18", "ABE"),
        ("age=0..", NOBODY),
        ("age=..18", EVERYBODY),
        ("age=0.5..18", EVERYBODY),
        ("age=-1..18", EVERYBODY),
        ("age=18..0", NOBODY),
        ("age=abc", NOBODY),
        ("age=", NOBODY),
        ("record_state=true", "ABCE"),
        ("record_state=True", "ABCE"),
        ("record_state=t", "ABCE"),
        ("record_state=true,false", EVERYBODY),
        ("record_state=1", NOBODY),
        ("status=open", "ABCE"),
        ("status=OPEN", NOBODY),
        ("type_of_case=x_1", "AB"),
        ("type_of_case=x_1,y_2", "ABC"),
        ("protection_concerns=disabled,zzz", "AB"),
        ("consent_reporting=true", "AB"),
        ("consent_reporting=false", "CE"),
        ("location_current=1006", NOBODY),
        ("location_current=KH10", NOBODY),
        ("location_caregiver=10060802", "A"),
        ("loc:location_current=1006", "AB"),
        ("unknown_field=1", EVERYBODY),
        ("remote=true", EVERYBODY),
        ("id=not-a-uuid", NOBODY),
        ("not[record_state]=false", "ABCE"),
        ("or[age]=5&or[sex]=female", "BDE"),
        ("age=0..18&sex=male", "AE"),
        ("case_id_display=A", "A"),
        ("case_id_display=A,B", NOBODY),
        ("type_of_case=x%22", NOBODY),
        ("age[]=5", EVERYBODY),
        ("not[age][]=5", EVERYBODY),
        ("query=ZZZ", NOBODY),
        ("query=", EVERYBODY),
    ],
)  # fmt: skip
def test_a_filter_selects_what_primero_selects(five: Client, query: str, names: str) -> None:
    """Without it a client could be proved against a server kinder than the real one."""
    assert five.names(query) == names


def test_a_list_of_ids_selects_those_cases(five: Client) -> None:
    """`id` is no identifier in Primero's sense: it takes a list, and an id that nobody has is no error."""
    ids = {row["case_id_display"]: row["id"] for row in five.rows()}
    assert five.names(f"id={ids['A']},{ids['D']},{uuid.uuid4()}") == "AD"


def test_a_query_finds_identifiers_by_any_part_and_no_names(five: Client) -> None:
    """It is no way to a child by its name, and none to all of them."""
    case = five.rows("case_id_display=C")[0]
    assert five.names(f"query={case['id'][3:20].upper()}") == "C"
    assert five.names(f"query={case['id'][3:20]}&sex=female") == NOBODY


def test_a_swallowed_filter_looks_like_an_honest_empty_list(five: Client) -> None:
    """The silent outcome that a client must suspect: status 200, total 0."""
    answer = five.get("age=abc")
    assert (answer.status_code, answer.json()) == (200, {"data": [], "metadata": {"total": 0, "per": 20, "page": 1}})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("true", True),
        ("True", "True"),
        ("018", 18),
        ("a,1", ["a", 1]),
        ("1..2", Range(1, 2)),
        ("2024-02-30", "2024-02-30"),
        ("2024-1-4 3:45", "2024-1-4 3:45"),
    ],
)
def test_a_parameter_is_cast_by_its_text(text: str, value: object) -> None:
    """The cast decides which comparison is made, so it decides between everybody and nobody."""
    assert cast(text) == value


def test_in_2_12_an_open_range_of_ages_has_no_end(five: Client) -> None:
    """`age=0..` stopped working with the columns of 2.13 only."""
    five.server.switches.version = "2.12.0"
    try:
        assert five.names("age=5..") == "BCE"
    finally:
        five.server.switches.version = "2.15.2.1"


def test_before_the_swallow_a_database_error_was_a_500(five: Client) -> None:
    """2.11.0 did not have the rescue yet."""
    five.server.switches.version = "2.11.0"
    try:
        assert five.get("id=not-a-uuid").status_code == 500
    finally:
        five.server.switches.version = "2.15.2.1"
