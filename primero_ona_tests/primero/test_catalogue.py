"""Understanding Primero's lists: districts by walking, fields by form, options by lookup."""

from __future__ import annotations

from typing import Any

import pytest

from primero_ona.failures import DataFailure
from primero_ona.primero.catalogue import catalogue, districts


def place(code: str, kind: str, *above: str, en: str = "", km: str = "", **more: Any) -> dict[str, Any]:
    """A location as `hierarchy=true` gives it."""
    return {"code": code, "type": kind, "placename": {"en": en, "km": km}, "hierarchy": [*above, code], **more}


TREE = [
    place("KHM", "country", en="Cambodia"),
    place("10", "province", "KHM", en="Kratie", km="ក្រចេះ"),
    place("1006", "district", "KHM", "10", en=" Chetr\u200b Borei ", km="ចិត្រ\u200bបុរី"),
    place("505", "district", "KHM", "5", en="Odongk", disabled=True),
    place("5", "province", "KHM", en="Kampong Speu"),
]


def test_a_province_is_found_by_walking_whatever_the_codes_look_like():
    """Codes of other lengths, or a country above or not, must not give a district to a wrong province."""
    found = districts([place("77", "district", "A", "12345", en="X"), place("12345", "province", "A", en="Y")])
    assert [(d.code, d.province, d.province_code) for d in found] == [("77", "Y", "12345")]


def test_names_are_plain_in_english_and_as_they_are_in_khmer():
    """Dashboards compare English names; Khmer needs its marks to break lines."""
    found = {district.code: district for district in districts(TREE)}
    assert found["1006"] == ("1006", "Chetr Borei", "Kratie", "10", "ចិត្រ\u200bបុរី", "ក្រចេះ", True)
    assert (found["505"].current, found["505"].district_km) == (False, "")


@pytest.mark.parametrize("tree", [TREE[:2], [TREE[2]]], ids=["no district", "no province"])
def test_a_tree_that_cannot_be_right_is_refused(tree):
    """All districts would be marked as retired, or a district would have no province."""
    with pytest.raises(DataFailure, match="administrators"):
        districts(tree)


LOOKUPS = [
    {
        "unique_id": "lookup-gender",
        "values": [
            {"id": "male", "display_text": {"en": "Male", "km": "ប្រុស"}},
            {"id": "old", "disabled": True, "display_text": {"en": "Old", "km": ""}},
        ],
    },
]


def form(name: str, *fields: dict[str, Any], number: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": number, "unique_id": name, "order": number, "fields": list(fields), **more}


def named(name: str, en: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "select_box", "display_name": {"en": en, "km": ""}, **more}


def test_options_come_from_the_lookup_disabled_ones_included():
    """Old cases still carry a retired option; without it they would show a code."""
    fields = catalogue(LOOKUPS, [form("identity", named("sex", "Sex", option_strings_source="lookup lookup-gender"))])
    assert [(o.id, o.en, o.km) for o in fields[None, "sex"].options.values()] == [
        ("male", "Male", "ប្រុស"),
        ("old", "Old", ""),
    ]


def test_a_field_that_people_see_gives_the_labels():
    """Names are unique per form only: a hidden copy on an old form must not give its label to the dictionary."""
    hidden = form("a_hidden", named("sex", "Hidden form"), visible=False)
    unseen = form("b_first", named("sex", "Hidden field", visible=False), number=2)
    shown = form("c_last", named("sex", "Sex"), number=3)
    fields = catalogue(LOOKUPS, [hidden, unseen, shown])
    assert (fields[None, "sex"].form, fields[None, "sex"].en) == ("c_last", "Sex")


def test_a_second_form_only_adds_options():
    """The same field may offer fewer options on one form than on another."""
    inline = {"option_strings_text": [{"id": "male", "display_text": {"en": "M"}}, {"id": "x", "display_text": {}}]}
    fields = catalogue(
        LOOKUPS,
        [
            form("one", named("sex", "Sex", option_strings_source="lookup lookup-gender")),
            form("two", named("sex", "Sex", **inline), number=2),
        ],
    )
    assert {option.id: option.en for option in fields[None, "sex"].options.values()} == {
        "male": "Male",
        "x": "",
        "old": "Old",
    }


def test_fields_of_a_subform_are_kept_apart():
    """`service_type` of a service is not a field of the case, even where a case has one of that name."""
    nested = form("nested_services", named("status", "Status of the service"), number=7, is_nested=True, visible=False)
    holder = form("services", {"name": "services_section", "type": "subform", "subform_section_id": 7}, number=2)
    own = form("identity", named("status", "Status of the case"), number=3)
    fields = catalogue([], [nested, holder, own])
    assert fields["services_section", "status"].en == "Status of the service"
    assert fields[None, "status"].en == "Status of the case"


def test_null_texts_and_missing_lists_are_untranslated():
    """The whole value of a translated text may be null."""
    fields = catalogue([], [form("f", {"name": "age", "type": "numeric_field", "display_name": None}), {"id": 9}])
    assert (fields[None, "age"].en, dict(fields[None, "age"].options)) == ("", {})
