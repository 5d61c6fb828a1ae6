"""Read Primero's reference data, complete lists of locations, lookups and forms with their date, and what they mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import orjson
import pandas as pd
import pyarrow as pa

from primero_ona.contract.derived import District
from primero_ona.errors import DataError, TransientError
from primero_ona.primero.client import AnswerRefusedError, PrimeroClient, is_list_of_objects
from primero_ona.storage.frames import BATCH_ROWS, Frames, to_frame
from primero_ona.texts import normalize

ListName = Literal["lookups", "forms", "locations"]
LISTS: tuple[ListName, ...] = get_args(ListName)

#: How each list is asked for, and what identifies an element; forms have no pages. Neither locations nor lookups have an
#: order of their own, and pages of a list without an order lose and repeat rows. Disabled values are wanted: old cases use them.
_QUESTIONS: Mapping[ListName, tuple[Mapping[str, str], str | None]] = {
    "lookups": ({"order_by": "unique_id", "order": "asc"}, "unique_id"),
    "forms": ({"record_type": "case"}, None),
    "locations": ({"hierarchy": "true", "order_by": "code", "order": "asc"}, "code"),
}

#: Elements in storage: the list, and the element as Primero sent it, as JSON.
REFERENCE_SCHEMA = pa.schema([("list", pa.string()), ("content", pa.string())])


@dataclass(frozen=True)
class ReferenceList:
    """One list: its elements as JSON, when it was read (UTC, ISO 8601), from which version of Primero.

    `refused`: Primero refused it at the last refresh, so these are older elements, or none (`fetched_at` null).
    """

    contents: tuple[str, ...] = field(repr=False)
    fetched_at: str | None = None
    version: str | None = None
    refused: bool = False

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The elements, decoded on demand: there are thousands of places, and mapping needs none of them."""
        found: list[dict[str, Any]] = orjson.loads(f"[{','.join(self.contents)}]")
        return found

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What is known of the list beside its elements; `fingerprint` differs when an element differs."""
        return {
            "fetched_at": self.fetched_at,
            "version": self.version,
            "refused": self.refused,
            "rows": len(self.contents),
            "fingerprint": hashlib.sha256("\n".join(sorted(self.contents)).encode()).hexdigest()[:12],
        }


@dataclass(frozen=True)
class Reference:
    """The three lists together, or those that were asked for."""

    lists: Mapping[ListName, ReferenceList]

    def rows(self, name: ListName) -> list[dict[str, Any]]:
        """The elements of a list; empty where it was never read."""
        return self.lists[name].rows

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """The facts of each list, by its name."""
        return {name: known.facts for name, known in self.lists.items()}

    @property
    def refused(self) -> list[ListName]:
        """The lists that Primero refused at the last refresh."""
        return [name for name, known in self.lists.items() if known.refused]

    def frames(self) -> Frames:
        """The reference as it is stored: rows of REFERENCE_SCHEMA; a list shares no frame with another."""

        def read(_columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
            for name in LISTS:
                contents = self.lists[name].contents
                table = pa.table({"list": [name] * len(contents), "content": contents}, schema=REFERENCE_SCHEMA)
                for batch in table.to_batches(BATCH_ROWS):
                    yield to_frame(pa.Table.from_batches([batch]))

        return Frames(read, {"lists": self.facts})

    @classmethod
    def of(cls, frames: Frames, names: Sequence[ListName] = LISTS) -> Reference:
        """The reference from its stored form, or only some of its lists: reading ends where those are whole."""
        contents: dict[str, list[str]] = {name: [] for name in LISTS}
        facts = frames.summary["lists"]
        for frame in frames:
            contents[frame["list"].iloc[0]] += pa.array(frame["content"]).to_pylist()
            if all(len(contents[name]) == facts[name]["rows"] for name in names):
                break
        stored = ("fetched_at", "version", "refused")
        return cls(
            {name: ReferenceList(tuple(contents[name]), *(facts[name][key] for key in stored)) for name in names}
        )


def refresh(client: PrimeroClient, last: Reference | None, now: datetime) -> Reference:
    """Read all lists again; of a list that Primero refuses, the `last` one stays, marked.

    `now` is aware. Raises DataError where a list is empty or has not the known shape, TransientError where it is not
    whole, and any failure of the client but the refusal of a single list.
    """
    version = client.version()
    stamp = now.astimezone(UTC).isoformat(timespec="seconds")
    lists: dict[ListName, ReferenceList] = {}
    for name in LISTS:
        try:
            lists[name] = ReferenceList(tuple(map(content_of, read_list(client, name))), stamp, version)
        except AnswerRefusedError as refused:
            if refused.status != 403:
                raise
            lists[name] = replace(last.lists[name], refused=True) if last else ReferenceList((), refused=True)
    return Reference(lists)


def content_of(row: Mapping[str, Any]) -> str:
    """An element as JSON, the same element always as the same text; a question mark stands for half a character."""
    try:
        return orjson.dumps(row, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        return json.dumps(row, sort_keys=True, ensure_ascii=False).encode(errors="replace").decode()


def read_list(client: PrimeroClient, name: ListName) -> list[dict[str, Any]]:
    """Every element of a list, each once, in the order received.

    Raises TransientError where pages and `total` do not agree, since the list was edited meanwhile; DataError where it is empty
    or has not the known shape.
    """
    params, key = _QUESTIONS[name]
    if key is None:
        rows = client.get(name, params).get("data")
        if not is_list_of_objects(rows):
            raise DataError(
                f"Primero's answer to {name} has no list `data`; is PRIMERO_URL a Primero v2?", see="not-primero"
            )
    else:
        found: dict[str, dict[str, Any]] = {}
        # A row that goes between two pages moves the others up, one of them past the reader: the last total would not tell.
        totals: set[int] = set()
        for page in client.pages(name, params, key):
            totals.add(page.total)
            found.update((str(row.get(key)), row) for row in page.rows)
        if totals != {len(found)}:
            raise TransientError(
                f"Primero gave {len(found)} of {page.total} {name}; the list is not whole, or was edited meanwhile; try again later",
                see="moving-list",
            )
        rows = list(found.values())
    if not rows:
        raise DataError(
            f"Primero lists no {name}; nothing was changed; ask its administrators what became of them", see="places"
        )
    return rows


Row = Mapping[str, Any]


class Option(NamedTuple):
    """One option of a field, disabled ones included: its id, and its texts, empty where there is none."""

    id: str
    en: str
    km: str


class Field(NamedTuple):
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
_BELOW = dict(pairwise(_LEVELS))
_OTHER_LEVELS = frozenset(_LEVELS) - {"district"}


def districts(locations: Iterable[Row]) -> Districts:
    """The districts of Cambodia as Primero has them.

    A place of another type, such as `khan` or `krong`, is of the level below the place that it stands under. Raises
    DataError where there is no district at all with a province above it.
    """
    places = {str(place.get("code")): place for place in locations}
    found: list[District] = []
    odd: dict[str, str] = {}
    for code, place in places.items():
        if _kind(place) in _OTHER_LEVELS:
            continue  # nine in ten: their own type says that they are villages or communes
        # The place itself stands last in its hierarchy, or, as Primero's own documentation has it, not at all.
        line = [places.get(str(step), {}) for step in place.get("hierarchy") or () if str(step) != code] + [place]
        level, province = _level(line)
        if level == "district" and province is not None:
            found.append(_district(place, province))
        elif level == "district":
            odd[code] = "has no province above it"
        elif level is None and len(line) > 1:
            odd[code] = "is of a type that is none of ours, and stands below no place that is"
    if not found:
        raise DataError(
            "Primero returned no districts with a province above them; nothing was changed. Ask its administrators.",
            see="places",
        )
    return Districts(found, odd)


def _kind(place: Row) -> str:
    return str(place.get("type")).strip().lower()


def _level(line: Iterable[Row]) -> tuple[str | None, Row | None]:
    """The level of the last place of a line from the top down, None where nothing says it, and the nearest province."""
    level: str | None = None
    province: Row | None = None
    for place in line:
        kind = _kind(place)
        below = _BELOW.get(level, "lower") if level and place else None
        level = kind if kind in _LEVELS else below
        province = place if level == "province" else province
    return level, province


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
    fields = [(form, field) for form in forms for field in form.get("fields") or ()]
    sections = {each.get("subform_section_id"): each.get("name") for _, each in fields if each.get("type") == "subform"}
    found: dict[tuple[str | None, str], Field] = {}
    for form, raw in sorted(fields, key=lambda pair: _rank(*pair)):
        field = _field(form, raw, by_lookup)
        section = str(sections.get(form.get("id")) or form.get("unique_id")) if form.get("is_nested") else None
        first = found.get((section, field.name), field)
        found[section, field.name] = first._replace(options={**field.options, **first.options})
    return found


def _rank(form: Row, field: Row) -> tuple[bool, bool, int, int]:
    form_is_seen = form.get("visible", True) or form.get("is_nested")
    return (not field.get("visible", True), not form_is_seen, int(form.get("order") or 0), int(field.get("order") or 0))


def _field(form: Row, field: Row, lookups: Mapping[str, Sequence[Row]]) -> Field:
    kind, _, lookup = str(field.get("option_strings_source") or "").partition(" ")
    options: dict[str, Option] = {}
    for each in lookups.get(lookup, ()) if kind == "lookup" else field.get("option_strings_text") or ():
        code = str(each.get("id"))
        options[code] = Option(code, *_texts(each.get("display_text")))
    return Field(str(form.get("unique_id")), str(field.get("name")), *_texts(field.get("display_name")), options)


def _texts(texts: Any) -> tuple[str, str]:  # noqa: ANN401
    return _text(texts, "en"), _text(texts, "km")
