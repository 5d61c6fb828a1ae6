"""Lookups, forms, locations and settings, in the shapes of Primero's lists."""

from __future__ import annotations

from primero_ona_tests.sandbox.conftest import Client


def test_lookups_come_twenty_at_a_time_with_both_languages(empty: Client) -> None:
    """A Khmer label may be empty, and may hold marks for breaking lines."""
    answer = empty.get("per=1000&order_by=unique_id", path="/api/v2/lookups").json()
    names = [row["unique_id"] for row in answer["data"]]
    assert names == sorted(names)
    assert answer["metadata"] == {"total": len(names), "per": 1000, "page": 1}
    labels = {value["id"]: value for row in answer["data"] for value in row["values"]}
    assert labels["female"]["display_text"] == {"en": "Female", "km": "ស្រី"}
    assert labels["gambling_issues_31174"]["display_text"]["km"] == ""
    assert "\u200b" in labels["closed"]["display_text"]["km"]
    assert labels["statelessness"]["disabled"] is True
    assert empty.get(path="/api/v2/lookups").json()["metadata"]["per"] == 20
    assert empty.get("per=5000", path="/api/v2/lookups").json()["metadata"]["per"] == 1000


def test_locations_are_primeros_of_2022(empty: Client) -> None:
    """25 provinces and 197 districts: newer ones are missing, Odongk is there, three khans have Primero's codes."""
    rows = empty.get("per=100000&hierarchy=true&order_by=code", path="/api/v2/locations").json()["data"]
    types = [row["type"] for row in rows]
    counts = [types.count(kind) for kind in ("country", "province", "district", "commune", "village")]
    assert counts == [1, 25, 197, 1_646, 14_365]
    known = {row["code"]: row for row in rows}
    assert known["1006"]["name"]["en"] == "Cambodia::Kratie::Chetr Borei"
    assert (known["1006"]["hierarchy"], known["1006"]["admin_level"]) == (["KHM", "10", "1006"], 2)
    assert known["1210"]["placename"]["en"] == "Chrouy Changvar"
    assert known["505"]["disabled"] is True
    assert not known.keys() & {"509", "1213", "0102"}
    assert known["101"]["hierarchy"] == ["KHM", "1", "101"] if "101" in known else "102" in known


def test_locations_without_order_come_differently_at_every_request(empty: Client) -> None:
    """Pages of an unordered list lose and repeat places."""
    first, second = ([row["code"] for row in empty.get(path="/api/v2/locations").json()["data"]] for _ in range(2))
    assert len(first) == 100
    assert first != second
    assert empty.get("order_by=nonsense", path="/api/v2/locations").status_code == 500
    enabled = empty.get("per=100000&disabled[0]=false", path="/api/v2/locations").json()["data"]
    assert "505" not in {row["code"] for row in enabled}
    assert "hierarchy" not in enabled[0]


def test_forms_hold_fields_options_and_the_nested_services(empty: Client) -> None:
    """What a data dictionary is made of; null attributes are left out."""
    forms = {row["unique_id"]: row for row in empty.get("record_type=case", path="/api/v2/forms").json()["data"]}
    fields = {field["name"]: field for row in forms.values() for field in row["fields"]}
    assert fields["sex"]["option_strings_source"] == "lookup lookup-gender"
    assert fields["location_current"]["option_strings_source"] == "Location"
    assert fields["type_of_placement"]["option_strings_text"][1]["display_text"]["km"] == "គ្រួសារសាច់ញាតិ"
    assert fields["services_section"]["subform_section_id"] == forms["services_section"]["id"]
    assert forms["services_section"]["is_nested"] is True
    assert fields["consent_reporting"]["type"] == "radio_button"
    assert fields["service_status_referred"]["tick_box_label"]["en"] == "Yes"
    assert "option_strings_source" not in fields["age"]
    bare = empty.get("exclude_subforms=true", path="/api/v2/forms").json()["data"]
    assert "services_section" not in {row["unique_id"] for row in bare}


def test_settings_tell_the_version_and_modules_when_extended(empty: Client) -> None:
    """How a client learns which Primero it talks to."""
    empty.server.switches.version = "2.12.0"
    assert empty.get(path="/api/v2/system_settings").json()["data"]["primero_version"] == "2.12.0"
    extended = empty.get("extended=true", path="/api/v2/system_settings").json()["data"]
    assert [module["unique_id"] for module in extended["modules"]] == ["primeromodule-cp", "primeromodule-gbv"]
