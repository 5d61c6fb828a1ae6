"""What Primero's reference lists mean: districts with their provinces, fields with their labels and options.

Pure functions over the elements as Primero sends them. Places are understood by walking `hierarchy` (root first, the
place itself last), never by cutting codes. Texts stay as Primero has them, U+200B included; empty means untranslated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from primero_ona.errors import DataError
from primero_ona.texts import normalize

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


class Districts(NamedTuple):
    """The districts of Primero's tree, and by code why a place that seems to be one is none of them."""

    found: list[District]
    odd: dict[str, str]


#: The levels of Cambodia's tree, from the top, by the types that Primero gives its places.
_LEVELS = ("country", "province", "district", "commune", "village")
_PROVINCE, _DISTRICT = 1, 2
_NO_PROVINCE = "has no province above it"
_NO_LEVEL = "is of a type that is none of ours, and stands below no place that is"


def districts(locations: Iterable[Row]) -> Districts:
    """The districts of Cambodia as Primero has them.

    A place of another type, such as `khan` or `krong`, is of the level below the place that it stands under. Raises
    DataError where there is no district at all with a province above it.
    """
    places = {str(place.get("code")): place for place in locations}
    found: list[District] = []
    odd: dict[str, str] = {}
    for code, place in places.items():
        if _levels([place])[0] not in (None, _DISTRICT):
            continue  # nine in ten: their own type says that they are villages or communes
        # The place itself stands last in its hierarchy, or, as Primero's own documentation has it, not at all.
        line = [places.get(str(step), {}) for step in place.get("hierarchy") or () if str(step) != code] + [place]
        levels = _levels(line)
        if levels[-1] == _DISTRICT:
            tree = [*zip(line, levels, strict=True)]
            province = next((above for above, level in reversed(tree) if level == _PROVINCE), None)
            if province is None:
                odd[code] = _NO_PROVINCE
            else:
                found.append(_district(place, province))
        elif levels[-1] is None and len(line) > 1:
            odd[code] = _NO_LEVEL
    if not found:
        raise DataError(
            "Primero returned no districts with a province above them; nothing was changed. Ask its administrators.",
            see="places",
        )
    return Districts(found, odd)


def _levels(line: Iterable[Row]) -> list[int | None]:
    """The level of each place of a line from the top down; None where neither its type nor the place above says it."""
    levels: list[int | None] = []
    for place in line:
        kind = str(place.get("type")).strip().lower()
        above = levels[-1] if levels else None
        below = None if above is None or not place else above + 1
        levels.append(_LEVELS.index(kind) if kind in _LEVELS else below)
    return levels


def _district(place: Row, province: Row) -> District:
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
    return normalize(_text(place.get("placename"), "en")) or str(place.get("code"))


def _text(texts: Any, locale: str) -> str:  # noqa: ANN401
    """One language of a text in several; empty where there is none, and where there are no texts at all."""
    text = texts.get(locale) if isinstance(texts, Mapping) else None
    return text if isinstance(text, str) and normalize(text) else ""


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
