"""Understanding Primero's lists: districts by walking, fields by form, options by lookup."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from primero_ona.errors import DataError
from primero_ona.primero.reference import catalogue, content_of, districts


def place(code: str, kind: str, *above: str, en: str = "", km: str = "", **more: Any) -> dict[str, Any]:
    """A location as `hierarchy=true` gives it."""
    return {"code": code, "type": kind, "placename": {"en": en, "km": km}, "hierarchy": [*above, code], **more}


TREE = [
    place("KHM", "country", en="Cambodia"),
    place("10", "province", "KHM", en="Kratie", km="ក្រចេះ"),
    place("1006", "district", "KHM", "10", en=" Chetr\u200b Borei ", km="ចិត្រ\u200bបុរី"),
    place("505", "district", "KHM", "5", en="Odongk", km="\u200b\u200c", disabled=True),
    place("5", "province", "KHM", en="Kampong Speu"),
]


def test_a_province_is_found_by_walking_whatever_the_codes_look_like():
    """Codes of other lengths, or a country above or not, must not give a district to a wrong province."""
    found, odd = districts([place("77", "district", "A", "12345", en="X"), place("12345", "province", "A", en="Y")])
    assert odd == {}
    assert [(d.code, d.province, d.province_code) for d in found] == [("77", "Y", "12345")]


def test_names_are_plain_in_english_and_as_they_are_in_khmer():
    """Dashboards compare English names; Khmer needs its marks to break lines."""
    found = {district.code: district for district in districts(TREE).found}
    assert found["1006"] == ("1006", "Chetr Borei", "Kratie", "10", "ចិត្រ\u200bបុរី", "ក្រចេះ", True)
    assert (found["505"].current, found["505"].district_km) == (False, "")


NO_PROVINCE = "has no province above it"


@pytest.mark.parametrize(
    ("odd", "districts_found", "why"),
    [
        (place("901", "district", "KHM"), [], {"901": NO_PROVINCE}),
        (place("901", "district", "KHM", "9"), [], {"901": NO_PROVINCE}),
        (place("901", "district"), [], {"901": NO_PROVINCE}),
        ({"code": "901", "type": "district"}, [], {"901": NO_PROVINCE}),
        (place("1007", "khan", "KHM", "10"), ["1007"], {}),
        (place("1007", "Krong", "KHM", "10"), ["1007"], {}),
        (place("1007", " District ", "KHM", "10"), ["1007"], {}),
        (place("1007", "commune", "KHM", "10"), [], {}),
        (place("100601", "sangkat", "KHM", "10", "1006"), [], {}),
        (place("901", "khan", "KHM", "9"), [], {"901": "is of a type that is none of ours, and stands below no place that is"}),
        (place("9", "capital", "KHM", en="Capital"), [], {}),
        (place("X", "planet"), [], {}),
        ({"code": "1007", "type": "district", "hierarchy": ["KHM", "10"]}, ["1007"], {}),
        ({"code": "1007", "type": None, "hierarchy": ["KHM", "10", "1007"]}, ["1007"], {}),
    ],
)  # fmt: skip
@pytest.mark.proves("odd-place")
def test_one_odd_place_costs_no_other_and_is_named(odd, districts_found, why):
    """One place of 16,000 that somebody entered wrongly kept every child out of a new ONA."""
    found = districts([*TREE, odd])
    assert [district.code for district in found.found] == ["1006", "505", *districts_found]
    assert found.odd == why


def test_a_province_of_another_type_is_known_by_its_place_below_the_country():
    """Phnom Penh is no province by law; its khans must not lose it."""
    tree = [*TREE, place("12", "capital", "KHM", en="Phnom Penh"), place("1201", "khan", "KHM", "12", en="Chamkar Mon")]
    assert districts(tree).found[-1][:4] == ("1201", "Chamkar Mon", "Phnom Penh", "12")


def test_a_level_between_country_and_province_is_no_province():
    """The nearest province is the district's own."""
    tree = [
        place("K", "country"),
        place("R", "region", "K"),
        place("10", "province", "K", "R"),
        place("1006", "district", "K", "R", "10"),
    ]
    assert [district.province_code for district in districts(tree).found] == ["10"]


@pytest.mark.parametrize("tree", [TREE[:2], [TREE[2]]], ids=["no district", "no province"])
def test_a_tree_that_cannot_be_right_is_refused(tree):
    """All districts would be marked as retired, or a district would have no province."""
    with pytest.raises(DataError, match="administrators"):
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
    """The whole value of a translate_errors text may be null."""
    fields = catalogue([], [form("f", {"name": "age", "type": "numeric_field", "display_name": None}), {"id": 9}])
    assert (fields[None, "age"].en, dict(fields[None, "age"].options)) == ("", {})


def test_half_a_character_in_a_list_costs_that_character_alone():
    """It is valid JSON that UTF-8 cannot hold, so one name stopped the refresh of all lists."""
    contents = map(
        content_of, [{"unique_id": "a", "name": {"en": "Kep\ud800"}}, {"unique_id": "b", "name": {"en": "ក"}}]
    )
    assert [orjson.loads(content)["name"]["en"] for content in contents] == ["Kep?", "ក"]
