"""Keeping `data_dictionary`: what people reviewed stays, no translation is lost, and what it lacks is told."""

from __future__ import annotations

import pytest

from primero_ona.ona.migrations import apply, plan
from primero_ona.ona.reference import count_label, read_dictionary, sync_dictionary, undescribed_options
from primero_ona_tests.ona.rows import case, load, read, service


def entry(option="male", value="Male", km="ប្រុស", column="sex", **more):
    """A row as the dictionary is made of; `km` None stands for untranslated."""
    return {
        "table_name": "cases",
        "column_name": column,
        "primero_form": "identity",
        "primero_field": column,
        "field_label_en": "Sex",
        "field_label_km": "ភេទ",
        "option_id": option,
        "option_value": value,
        "option_value_km": km or value,
        "sort_order": "1",
        "reviewed": "false",
        **more,
    }


def kept(conn, *rows):
    upkeep = sync_dictionary(conn, rows)
    return (upkeep.inserted, upkeep.updated, upkeep.unchanged)


def stored(conn):
    return {row["option_id"]: row for row in read_dictionary(conn)}


def test_a_second_refresh_writes_nothing(ona):
    """The dashboards must not see a change that there is not."""
    assert kept(ona, entry(), entry("female", "Female", None)) == (2, 0, 0)
    assert kept(ona, entry(), entry("female", "Female", None)) == (0, 0, 2)


@pytest.mark.proves("reviewed-text")
def test_a_reviewed_text_stays_while_the_english_stays(ona):
    """A reviewer's work must not be undone each week."""
    kept(ona, entry("female", "Female", None), entry())
    ona.execute("UPDATE data_dictionary SET option_value_km = 'ស្រី', reviewed = true WHERE option_id = 'female'")
    assert kept(ona, entry("female", "Female", "other khmer"), entry()) == (0, 0, 2)
    assert stored(ona)["female"]["option_value_km"] == "ស្រី"
    assert kept(ona, entry("female", "Woman", "other khmer"), entry()) == (0, 1, 1)
    assert (stored(ona)["female"]["option_value_km"], stored(ona)["female"]["reviewed"]) == ("other khmer", "false")


@pytest.mark.proves("reviewed-text")
def test_a_translation_never_gives_way_to_the_lack_of_one(ona):
    """A refused list comes without Khmer; the dashboards would turn English over night."""
    kept(ona, entry())
    assert kept(ona, entry(km=None)) == (0, 0, 1)
    assert stored(ona)["male"]["option_value_km"] == "ប្រុស"
    ona.execute(
        "UPDATE data_dictionary SET option_value_km = E'\\u200B\\u2060'"
    )  # shows nothing, so it translates nothing
    assert kept(ona, entry()) == (0, 1, 0)
    assert stored(ona)["male"]["option_value_km"] == "ប្រុស"
    kept(ona, entry(value="Man", km=None))
    assert stored(ona)["male"]["option_value_km"] == "Man"


def test_khmer_is_stored_as_primero_has_it(ona):
    """U+200B tells the browser where a line may break."""
    kept(ona, entry(km="ប្រុស"))
    assert kept(ona, entry(km="ប្រុ\u200bស")) == (0, 1, 0)
    assert stored(ona)["male"]["option_value_km"] == "ប្រុ\u200bស"


@pytest.mark.proves("dictionary-grows")
def test_a_row_that_nobody_makes_any_more_stays(ona):
    """Old cases still show the option."""
    kept(ona, entry(), entry("female", "Female"))
    assert kept(ona, entry()) == (0, 0, 1)
    assert set(stored(ona)) == {"male", "female"}


@pytest.mark.proves("dictionary-grows")
def test_a_dictionary_made_by_hand_keeps_its_rows(ona_url, empty_ona):
    """Its columns and their types are unknown; its rows are no part of ours."""
    empty_ona.execute("CREATE TABLE data_dictionary (field text, reviewed text, sort_order text)")
    empty_ona.execute("INSERT INTO data_dictionary VALUES ('sex', 'ok', 'x')")
    apply(empty_ona, plan(empty_ona))
    assert kept(empty_ona, entry()) == (1, 0, 0)
    assert kept(empty_ona, entry()) == (0, 0, 1)
    assert read(ona_url, "SELECT count(*) AS n FROM data_dictionary") == [{"n": 2}]
    assert len(read_dictionary(empty_ona)) == 1


def test_rows_come_in_the_order_of_the_table(ona):
    """People read the export from top to bottom."""
    columns = [("age", "8"), ("sex", "7")]
    head = [entry("", None, None, name, sort_order=place) for name, place in columns]
    sync_dictionary(ona, [*head, entry("b", "B", sort_order="2"), entry("a", "A", sort_order="10")])
    assert [(row["column_name"], row["option_id"]) for row in read_dictionary(ona)] == [
        ("sex", ""),
        ("sex", "b"),
        ("sex", "a"),
        ("age", ""),
    ]


def test_options_without_a_row_are_counted_and_never_shown(ona):
    """A text where an option is due may be anything that somebody wrote."""
    load(ona, [case(1, sex="Male"), case(2, sex="Secret"), case(3, sex="Secret, Hidden")], [service(1, 1)])
    sync_dictionary(ona, [entry()])
    found = undescribed_options(ona)
    assert found["cases.sex"] == 2
    assert "Secret" not in str(found)


@pytest.mark.parametrize("value", ["Food, water", "Male, Food, water", ""], ids=["alone", "among others", "empty"])
def test_a_label_may_hold_a_comma_itself(ona, value):
    """Primero's labels are free text; a comma in one must not make a finding of it."""
    load(ona, [case(1, sex=value)], [])
    sync_dictionary(ona, [entry(), entry("x", "Food, water")])
    assert "cases.sex" not in undescribed_options(ona)


def test_rows_with_a_label_are_counted_whole(ona):
    """`Other` is no part of `Mother`, and a concern may stand among others."""
    concerns = ["Other", "Mother", "Separated, Other", "Other, Separated", ""]
    load(ona, [case(n, protection_concerns=text) for n, text in enumerate(concerns, 1)], [])
    field = "protection_concerns"
    assert count_label(ona, {(field, "o"): "Other", (field, "m"): "Mother"}) == {(field, "o"): 3, (field, "m"): 1}
