"""What Primero's reference lists mean: districts with their provinces, fields with their labels and options.

Pure functions over the elements as Primero sends them. Places are understood by walking `hierarchy` (root first, the
place itself last), never by cutting codes. Texts stay as Primero has them, U+200B included; empty means untranslated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from primero_ona.failures import DataFailure
from primero_ona.texts import plain

Row = Mapping[str, Any]


class District(NamedTuple):
    """One district; names as Primero has them, codes without leading zeros. `current`: not disabled."""

    code: str
    district: str
    province: str
    province_code: str
    district_km: str
    province_km: str
    current: bool


@dataclass(frozen=True)
class Option:
    """One option of a field, disabled ones included: its id, and its texts, empty where there is none."""

    id: str
    en: str
    km: str


@dataclass(frozen=True)
class Field:
    """A field of Primero: the form that shows it best, its labels, and its options in Primero's order, by id."""

    form: str
    name: str
    en: str
    km: str
    options: Mapping[str, Option]


#: Fields by the subform's field that holds them (None: the case itself) and by name.
Catalogue = Mapping[tuple[str | None, str], Field]


def districts(locations: Iterable[Row]) -> list[District]:
    """The districts of Cambodia as Primero has them.

    Raises DataFailure where a district has no province above it, or where there is no district at all.
    """
    places = {str(place.get("code")): place for place in locations}
    found = [_district(place, places) for place in places.values() if place.get("type") == "district"]
    if not found:
        raise DataFailure("Primero's locations hold no district; nothing was changed; its administrators can tell why")
    return found


def _district(place: Row, places: Mapping[str, Row]) -> District:
    above = [places.get(str(code), {}) for code in place.get("hierarchy") or ()]
    province = next((parent for parent in above if parent.get("type") == "province"), None)
    if province is None:
        raise DataFailure(
            f"Primero's district {place.get('code')} has no province above it; its administrators have to mend the locations"
        )
    return District(
        code=str(place["code"]),
        district=_name(place),
        province=_name(province),
        province_code=str(province["code"]),
        district_km=_text(place.get("placename"), "km"),
        province_km=_text(province.get("placename"), "km"),
        current=not place.get("disabled"),
    )


def _name(place: Row) -> str:
    """The English name of the place alone; its code where it has none, so that nothing is guessed."""
    return plain(_text(place.get("placename"), "en")) or str(place.get("code"))


def _text(texts: Any, locale: str) -> str:  # noqa: ANN401
    """One language of a text in several; empty where there is none, and where there are no texts at all."""
    text = texts.get(locale) if isinstance(texts, Mapping) else None
    return text if isinstance(text, str) and plain(text) else ""


def catalogue(lookups: Sequence[Row], forms: Sequence[Row]) -> Catalogue:
    """All fields of the forms.

    A name may stand on several forms: a field that people see, on a form that they see, comes first and gives the labels;
    the others only add options that it lacks.
    """
    by_lookup = {str(lookup.get("unique_id")): lookup.get("values") or () for lookup in lookups}
    sections = {
        field.get("subform_section_id"): field.get("name")
        for _, field in _fields(forms)
        if field.get("type") == "subform"
    }
    ranked = sorted(_fields(forms), key=lambda pair: _rank(*pair))
    found: dict[tuple[str | None, str], Field] = {}
    for form, raw in ranked:
        field = _field(form, raw, by_lookup)
        section = str(sections.get(form.get("id")) or form.get("unique_id")) if form.get("is_nested") else None
        first = found.get((section, field.name))
        found[section, field.name] = _joined(first, field) if first else field
    return found


def _fields(forms: Iterable[Row]) -> Iterator[tuple[Row, Row]]:
    for form in forms:
        for field in form.get("fields") or ():
            yield form, field


def _rank(form: Row, field: Row) -> tuple[bool, bool, int, int]:
    form_is_seen = form.get("visible", True) or form.get("is_nested")
    return (not field.get("visible", True), not form_is_seen, int(form.get("order") or 0), int(field.get("order") or 0))


def _field(form: Row, field: Row, lookups: Mapping[str, Sequence[Row]]) -> Field:
    kind, _, lookup = str(field.get("option_strings_source") or "").partition(" ")
    options = lookups.get(lookup, ()) if kind == "lookup" else field.get("option_strings_text") or ()
    texts = field.get("display_name")
    return Field(
        form=str(form.get("unique_id")),
        name=str(field.get("name")),
        en=_text(texts, "en"),
        km=_text(texts, "km"),
        options={option.id: option for option in map(_option, options)},
    )


def _option(option: Row) -> Option:
    texts = option.get("display_text")
    return Option(str(option.get("id")), _text(texts, "en"), _text(texts, "km"))


def _joined(first: Field, other: Field) -> Field:
    return Field(first.form, first.name, first.en, first.km, {**other.options, **first.options})
