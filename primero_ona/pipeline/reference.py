"""The stored reference data, and what mapping and people take from it: labels, districts, dictionary.

What belongs here: joining Primero's lists, the mapping's labels and ONA's tables, which do not know each other. The
assets in `assets/reference.py` and the commands are thin over it. Nothing here asks Primero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import DataError
from primero_ona.mapping.label_changes import Kind, LabelChange, label_changes
from primero_ona.mapping.labels import Labels
from primero_ona.ona.dictionary import count_label, count_unmapped, read_dictionary, sync_dictionary
from primero_ona.ona.lookup import LookupResult, sync_lookup
from primero_ona.ona.upkeep import Upkeep
from primero_ona.pipeline.dictionary import dictionary_rows, primero_labels
from primero_ona.primero.catalogue import catalogue, districts
from primero_ona.primero.reference import REFERENCE_SCHEMA, Reference
from primero_ona.quarters import Quarter
from primero_ona.storage.partitions import PartitionStore, Stored, read_manifest

ASSET = "primero_reference"

#: Raised when what is stored of the lists changes its shape.
STORED = Stored(REFERENCE_SCHEMA, "1")


def stored_reference(store: PartitionStore) -> Reference | None:
    """The reference data stored last; None where none is.

    Raises DataError where it is damaged, or was stored by another version.
    """
    try:
        return Reference.of(store.open(store.base / ASSET, STORED))
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class MappingReference:
    """What the mapping takes from the stored reference data; where none is stored, the labels are those of `labels.yaml`.

    `facts`: what is known of each of Primero's lists, by its name.
    """

    labels: Labels = field(default_factory=Labels.load, repr=False)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def mapping_reference(store: PartitionStore) -> MappingReference:
    """The reference data for a mapping; the thousands of places are no part of it, and are not read.

    Raises as stored_reference.
    """
    try:
        frames = store.open(store.base / ASSET, STORED)
    except FileNotFoundError:
        return MappingReference()
    reference = Reference.of(frames, ("lookups", "forms"))
    return MappingReference(labels_in_use(reference), frames.summary["lists"])


def labels_in_use(reference: Reference | None) -> Labels:
    """The labels that mapping uses: those of `labels.yaml`, and Primero's for codes that it does not know."""
    labels = Labels.load()
    if reference is None:
        return labels
    return labels.beside(primero_labels(catalogue(reference.rows("lookups"), reference.rows("forms"))))


def labels_described(conn: psycopg.Connection) -> Labels:
    """The labels that mapping uses as ONA's dictionary tells them, for those who have a database but no stored lists."""
    described: dict[str, dict[str, str]] = {}
    fields = {(t.name, c.name): c.labels for t in (CASES, SERVICES) for c in t.columns if c.labels}
    for row in read_dictionary(conn):
        field = fields.get((row["table_name"] or "", row["column_name"] or ""))
        if field and row["option_id"] and row["option_value"]:
            described.setdefault(field, {})[row["option_id"]] = row["option_value"]
    return Labels.load().beside(described)


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


def fill_dictionary(conn: psycopg.Connection, reference: Reference | None) -> Upkeep:
    """Bring ONA's `data_dictionary` up to date."""
    lookups, forms = (reference.rows("lookups"), reference.rows("forms")) if reference else ([], [])
    return sync_dictionary(conn, dictionary_rows(catalogue(lookups, forms), labels_in_use(reference)))


def counted_label_changes(conn: psycopg.Connection, labels: Labels) -> list[LabelChange]:
    """Where labels differ, with the rows in ONA that each concerns; those with most rows first."""
    unmapped = count_unmapped(conn)
    changes = label_changes(labels, unmapped)
    ours = count_label(conn, {(c.field, c.code): c.ours for c in changes if c.kind is Kind.DIFFERENT})
    counts = {**unmapped, **ours}
    counted = [replace(change, rows=counts.get((change.field, change.code), 0)) for change in changes]
    return sorted(counted, key=lambda change: (-change.rows, change.field, change.code))


def mapped_otherwise(store: PartitionStore, labels: Labels, mapping_version: str) -> list[Quarter]:
    """The stored quarters that were mapped by other rules or other labels than those in use now, oldest first."""
    found = []
    for quarter in stored_quarters(store, "mapped_cases"):
        manifest = read_manifest(store.base / "mapped_cases" / quarter.key)
        if (manifest["version"], store.summary_of(manifest).get("labels_version")) != (mapping_version, labels.version):
            found.append(quarter)
    return found


def stored_quarters(store: PartitionStore, asset: str) -> list[Quarter]:
    """The quarters of which an asset has a stored partition, oldest first."""
    folder = store.base / asset
    entries = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    return [Quarter.parse(name) for name in entries if _is_stored(store, asset, name)]


def _is_stored(store: PartitionStore, asset: str, partition: str) -> bool:
    try:
        read_manifest(store.base / asset / partition)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def require_reference(reference: Reference | None) -> Reference:
    """The reference; raises DataError where none is stored."""
    if reference is None:
        raise DataError("no reference data of Primero is stored yet; run `primero-ona reference refresh`")
    return reference


def stale_lists(reference: Reference) -> Sequence[str]:
    """One sentence for each list that Primero refused at the last refresh."""
    told = []
    for name in reference.refused:
        read = reference.lists[name].fetched_at
        told.append(
            f"{name}: that of {read[:10]} serves"
            if read
            else f"{name}: never read; what ONA and labels.yaml have serves"
        )
    return told
