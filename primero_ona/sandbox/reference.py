"""The sandbox's reference data: lookups, forms, locations and settings, in the shapes of Primero's list endpoints.

The texts are in `lookups.yaml` and `forms.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml

from primero_ona.sandbox.places import Place, places

LOCALES = ("en", "km")
MODULES = (("primeromodule-cp", "CP"), ("primeromodule-gbv", "GBV"))

Row = dict[str, Any]


@cache
def _read(name: str) -> Mapping[str, Any]:
    text = resources.files("primero_ona.sandbox").joinpath(name).read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def option_ids(lookup: str) -> list[str]:
    """The option ids of a lookup, retired ones left out."""
    return [name for name, value in _read("lookups.yaml")[lookup]["values"].items() if not value.get("disabled")]


@cache
def lookups() -> tuple[Row, ...]:
    """What `GET /api/v2/lookups` lists."""
    return tuple(
        {
            "id": number,
            "unique_id": name,
            "name": lookup["name"],
            "locked": lookup["locked"],
            "values": [_option(key, value) for key, value in lookup["values"].items()],
        }
        for number, (name, lookup) in enumerate(_read("lookups.yaml").items(), start=1)
    )


def _option(key: str, value: Mapping[str, Any]) -> Row:
    shown = {"id": key, "disabled": bool(value.get("disabled")), "display_text": _texts(value)}
    return {**shown, "tags": value["tags"]} if "tags" in value else shown


def _texts(value: Mapping[str, Any]) -> Row:
    return {locale: value.get(locale, "") for locale in LOCALES}


@cache
def forms() -> tuple[Row, ...]:
    """What `GET /api/v2/forms` lists: null attributes are left out, a subform is listed by itself as well."""
    numbers = {name: number for number, name in enumerate(_read("forms.yaml"), start=1)}
    return tuple(_form(name, form, numbers) for name, form in _read("forms.yaml").items())


def _form(name: str, form: Mapping[str, Any], numbers: Mapping[str, int]) -> Row:
    return {
        "id": numbers[name],
        "unique_id": name,
        "parent_form": "case",
        "is_nested": bool(form.get("nested")),
        "visible": form.get("visible", True),
        "order": numbers[name] * 10,
        "name": form["name"],
        "description": form["name"],
        "module_ids": [MODULES[0][0]],
        "fields": [_field(key, field, order, numbers) for order, (key, field) in enumerate(form["fields"].items())],
    }


def _field(key: str, field: Mapping[str, Any], order: int, numbers: Mapping[str, int]) -> Row:
    shown: Row = {
        "name": key,
        "type": field["type"],
        "display_name": _texts(field),
        "multi_select": bool(field.get("multi")),
        "date_include_time": bool(field.get("time")),
        "visible": field.get("visible", True),
        "order": order,
    }
    if "source" in field:
        shown["option_strings_source"] = field["source"]
    if "options" in field:
        shown["option_strings_text"] = [_option(option, texts) for option, texts in field["options"].items()]
    if "tick" in field:
        shown["tick_box_label"] = _texts(field["tick"])
    if "subform" in field:
        shown["subform_section_id"] = numbers[field["subform"]]
    return shown


@cache
def form_fields() -> Mapping[str, tuple[str, ...]]:
    """The top-level fields of each form that is no subform: what granting the form to a role lets it read."""
    return {
        name: tuple(key for key, field in form["fields"].items() if field["type"] != "separator")
        for name, form in _read("forms.yaml").items()
        if not form.get("nested")
    }


@cache
def field_options(form: str, field: str) -> tuple[str, ...]:
    """The ids of the options that stand in the form itself."""
    return tuple(_read("forms.yaml")[form]["fields"][field]["options"])


@cache
def locations(*, hierarchy: bool) -> tuple[Row, ...]:
    """What `GET /api/v2/locations` lists, in no order that anybody may rely on."""
    return tuple(_location(number, place, hierarchy=hierarchy) for number, place in enumerate(places(), start=1))


def _location(number: int, place: Place, *, hierarchy: bool) -> Row:
    path = ["::".join(names) for names in zip(*place.names, strict=True)]
    row: Row = {
        "id": number,
        "code": place.code,
        "type": place.type,
        "disabled": place.code == "505",  # Odongk was abolished; old cases still name it
        "name": dict(zip(LOCALES, path, strict=True)),
    }
    if hierarchy:
        row["admin_level"] = len(place.hierarchy) - 1
        row["placename"] = dict(zip(LOCALES, place.names[-1], strict=True))
        row["hierarchy"] = list(place.hierarchy)
    return row


def settings(version: str, *, extended: bool) -> Row:
    """What `GET /api/v2/system_settings` gives; any user may read it, the modules included."""
    row: Row = {
        "primero_version": version,
        "default_locale": "en",
        "locales": list(LOCALES),
        "age_ranges": {"primero": ["0..4", "5..9", "10..14", "15..17", "18..999"]},
        "system_options": {},
        "exact_search_fields": {"case": ["case_id_display", "oscar_number"]},
        "reporting_location_config": {"field_key": "owned_by_location", "admin_level": 2},
    }
    if extended:
        row["modules"] = [
            {"id": number, "unique_id": key, "name": name} for number, (key, name) in enumerate(MODULES, 1)
        ]
        row["agencies"] = []
    return row
