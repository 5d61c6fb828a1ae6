"""Primero's reference data: refreshed, stored, and brought into ONA's lookup and dictionary; the labels in use."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import psycopg

from primero_ona.contract.column import Column, Table
from primero_ona.contract.derived import DATA_DICTIONARY
from primero_ona.contract.tables import CASES, SERVICES, TABLES
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.values import parse_option_name
from primero_ona.ona.connection import Connect, partition_lock, require_held
from primero_ona.ona.reference import LookupResult, count_label, count_unmapped, sync_dictionary, sync_lookup
from primero_ona.ona.target import VIEWS, Row, Upkeep
from primero_ona.pipeline.stored import REFERENCE, Scope, StoredAssets
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.reference import Catalogue, Field, Reference, catalogue, districts, refresh
from primero_ona.texts import normalize, same_text


def refresh_reference(
    client: PrimeroClient, connect: Connect, stored: StoredAssets, last: Reference | None, now: datetime
) -> Reference:
    """Read Primero's lists and store them; of a list that Primero refuses, that of `last` stays. Raises as `refresh`."""
    fetched = refresh(client, last, now)
    frames = fetched.frames()
    with connect() as lock, partition_lock(lock, REFERENCE), stored.writer(REFERENCE) as writer:
        for frame in frames:
            writer.write(frame)
        require_held(lock)
        writer.commit(frames.summary)
    return fetched


def stored_reference(stored: StoredAssets) -> Reference:
    """The reference data stored last; raises as `StoredAssets.open`."""
    return Reference.of(stored.open(REFERENCE))


class MappingReference(NamedTuple):
    """What the mapping takes from the stored reference data; `facts`: what is known of each of Primero's lists, by its name."""

    labels: Labels
    facts: Mapping[str, Mapping[str, Any]]

    def versions(self, findings: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """By which labels a partition with these findings was mapped.

        `labels_version` differs when any label differs, Primero's included, `mapping_version` when a rule or labels.yaml does:
        only the latter makes a partition useless to its readers, or each refresh would have every quarter mapped again.
        `primero_labels` are those of Primero's that were used, and `reference` says what was known of Primero's lists.
        """
        used: dict[str, dict[str, str]] = {}
        for entry in findings:
            label = self.labels.primeros.get(entry["field"], {}).get(entry["code"])
            if label is not None:
                used.setdefault(entry["field"], {})[entry["code"]] = label
        facts = {name: {key: fact[key] for key in ("fetched_at", "fingerprint")} for name, fact in self.facts.items()}
        return {"labels_version": self.labels.version, "primero_labels": used, "reference": facts}


def mapping_reference(stored: StoredAssets) -> MappingReference:
    """The reference data for a mapping; the thousands of places are no part of it, and are not read. Raises as stored_reference."""
    frames = stored.open(REFERENCE)
    return MappingReference(labels_in_use(Reference.of(frames, ("lookups", "forms"))), frames.summary["lists"])


def labels_in_use(reference: Reference) -> Labels:
    """The labels that mapping uses: those of `labels.yaml`, and Primero's for codes that it does not know."""
    return Labels.load().beside(primero_labels(catalogue(reference.rows("lookups"), reference.rows("forms"))))


def scope_in_use(scope: Scope, stored: StoredAssets) -> Scope:
    """The scope with the labels that the syncs use: ours beside those of the stored reference data."""
    return replace(scope, labels=labels_in_use(stored_reference(stored)))


def fill_lookup(conn: psycopg.Connection, reference: Reference, now: datetime) -> LookupResult | None:
    """Bring ONA's `locations_lookup` up to date; None where Primero's locations were never read, and ONA's own serve."""
    locations = reference.rows("locations")
    if not locations:
        return None
    read = districts(locations)
    return sync_lookup(conn, read.found, now, read.odd)


def odd_places(reference: Reference) -> Mapping[str, str]:
    """By code, why a place of Primero's that seems to be a district is not taken for one."""
    locations = reference.rows("locations")
    return districts(locations).odd if locations else {}


def fill_dictionary(conn: psycopg.Connection, reference: Reference) -> Upkeep:
    """Bring ONA's `data_dictionary` up to date."""
    fields = catalogue(reference.rows("lookups"), reference.rows("forms"))
    return sync_dictionary(conn, dictionary_rows(fields, labels_in_use(reference)))


def counted_label_changes(conn: psycopg.Connection, labels: Labels) -> list[LabelChange]:
    """Where labels differ, with the rows in ONA that each concerns; those with most rows first."""
    unmapped = count_unmapped(conn)
    changes = label_changes(labels, unmapped)
    ours = count_label(conn, {(c.field, c.code): c.ours for c in changes if c.kind is Kind.DIFFERENT})
    counts = {**unmapped, **ours}
    counted = [replace(change, rows=counts.get((change.field, change.code), 0)) for change in changes]
    return sorted(counted, key=lambda change: (-change.rows, change.field, change.code))


def stale_lists(reference: Reference) -> list[str]:
    """One sentence for each list that Primero refused at the last refresh."""
    read = {name: reference.lists[name].fetched_at for name in reference.refused}
    return [
        f"{name}: that of {day[:10]} serves" if day else f"{name}: never read; what ONA and labels.yaml have serves"
        for name, day in read.items()
    ]


def primero_labels(fields: Catalogue) -> dict[str, dict[str, str]]:
    """Primero's English labels of the fields that have a label table, by field and option id.

    Without U+200B, hard blanks and outer blanks, since dashboards filter on them; an option without a label is left out.
    """
    found: dict[str, dict[str, str]] = {}
    for table in (CASES, SERVICES):
        for column in table.columns:
            field = fields.get((table.section, column.labels or ""))
            if column.labels and field:
                found[column.labels] = {o.id: normalize(o.en) for o in field.options.values() if normalize(o.en)}
    return found


def dictionary_rows(fields: Catalogue, labels: Labels) -> list[Row]:
    """The rows of the data dictionary as texts by column; in Khmer the English text stands where Primero has none."""
    rows: list[Row] = []
    for relation in (*TABLES, *VIEWS):
        for place, column in enumerate(relation.columns, start=1):
            field = fields.get((relation.section, column.field or "")) if isinstance(relation, Table) else None
            rows += _column_rows(relation.name, place, column, field, labels)
    return rows


def _column_rows(table: str, place: int, column: Column, field: Field | None, labels: Labels) -> Iterator[Row]:
    """The row of a column, and one for each of its options with exactly the text that stands in the table."""
    # What a derived column says is not what its field says.
    shown = None if column.derived else field
    # Primero's label where the column is the field itself, else what the contract says of the column.
    english = (normalize(shown.en) if shown else "") or column.description.replace("`", "")
    shared: Row = {
        "table_name": table,
        "column_name": column.name,
        "primero_form": field.form if field else None,
        "primero_field": column.field,
        "field_label_en": english,
        "field_label_km": (shown and shown.km) or english,
        "reviewed": "false",
    }
    yield {**shared, "option_id": "", "option_value": None, "option_value_km": None, "sort_order": str(place)}
    options = shown.options if shown else {}
    values = _values(column, options, labels) if column.has_options else {}
    # An option without Khmer borrows it from another with the same text: people see one option, not two.
    own = {code: option.km for code, option in options.items() if option.km}
    borrowed: dict[str, str] = {}
    for code, value in values.items():
        if code in own:
            borrowed.setdefault(value, own[code])
    for number, (code, value) in enumerate(values.items(), start=1):
        yield {
            **shared,
            "option_id": code,
            "option_value": value,
            "option_value_km": own.get(code) or borrowed.get(value, value),
            "sort_order": str(number),
        }


def _values(column: Column, codes: Iterable[str], labels: Labels) -> Mapping[str, str]:
    if column.labels:
        return labels.all_of(column.labels)
    if column.allowed:
        return {value: value for value in column.allowed}
    if column.rule == "option_name":
        return {code: name for code in codes if (name := parse_option_name(code).value)}
    return {code: code for code in codes}


def as_csv(rows: Iterable[Row]) -> bytes:
    """The rows as CSV for a spreadsheet: with the mark by which Excel knows UTF-8, null as an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [column.name for column in DATA_DICTIONARY.columns])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8-sig")


class Kind(StrEnum):
    """How a label differs; the texts are what people read."""

    DIFFERENT = "label differs from Primero's"
    ONLY_PRIMERO = "code known to Primero only; its label is used"
    UNKNOWN = "code unknown to Primero, too; it has no label"


@dataclass(frozen=True)
class LabelChange:
    """One finding: field and code, our label and Primero's (empty where there is none), and the rows in ONA it concerns."""

    kind: Kind
    field: str
    code: str
    ours: str
    primeros: str
    rows: int = 0


def label_changes(labels: Labels, unmapped: Iterable[tuple[str, str]] = ()) -> list[LabelChange]:
    """Where `labels.yaml` and Primero's labels differ, and which `unmapped` (field, code) neither of them knows.

    Accepted codes are no finding.
    """
    found = []
    for name, ours in labels.tables.items():
        primeros, accepted = labels.primeros.get(name, {}), labels.accepted.get(name, frozenset())
        others = sorted(code for where, code in unmapped if where == name and code not in {**primeros, **ours})
        for code in (*primeros, *others):
            mine, theirs = ours.get(code, ""), primeros.get(code, "")
            if code not in accepted and not (mine and same_text(mine, theirs)):
                kind = Kind.DIFFERENT if mine else Kind.ONLY_PRIMERO if theirs else Kind.UNKNOWN
                found.append(LabelChange(kind, name, code, mine, theirs))
    return found


def as_lines(changes: Iterable[LabelChange]) -> str:
    """Write Primero's labels as sections of `labels.yaml`; codes that Primero does not know have none and are left out."""
    sections: dict[str, list[str]] = {}
    for change in changes:
        if change.primeros:
            entry = [json.dumps(text, ensure_ascii=False) for text in (change.code, change.primeros)]
            sections.setdefault(change.field, []).append("  " + ": ".join(entry))
    return "\n".join("\n".join([f"{field}:", *lines]) for field, lines in sections.items())
