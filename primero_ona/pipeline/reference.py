"""Primero's reference data: refreshed, stored, and brought into ONA's lookup and dictionary; the labels in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg

from primero_ona.mapping.label_changes import Kind, LabelChange, label_changes
from primero_ona.mapping.labels import Labels
from primero_ona.ona.connection import Connect
from primero_ona.ona.dictionary import count_label, count_unmapped, sync_dictionary
from primero_ona.ona.lookup import LookupResult, sync_lookup
from primero_ona.ona.partition_locks import partition_lock, require_held
from primero_ona.ona.upkeep import Upkeep
from primero_ona.pipeline.dictionary import dictionary_rows, primero_labels
from primero_ona.pipeline.scope import Scope
from primero_ona.pipeline.stored import MAPPED_CASES, REFERENCE, StoredAssets
from primero_ona.primero.catalogue import catalogue, districts
from primero_ona.primero.client import PrimeroClient
from primero_ona.primero.reference import Reference, refresh
from primero_ona.quarters import Quarter


def refresh_reference(
    client: PrimeroClient, connect: Connect, stored: StoredAssets, last: Reference | None, now: datetime
) -> Reference:
    """Read Primero's lists and store them; of a list that Primero refuses, that of `last` stays. Raises as `refresh`."""
    fetched = refresh(client, last, now)
    frames = fetched.frames()
    with connect() as lock, partition_lock(lock, REFERENCE), stored.writer(REFERENCE) as writer:
        stored.store.remove_unfinished(REFERENCE)
        for frame in frames:
            writer.write(frame)
        require_held(lock)
        writer.commit(frames.summary)
    return fetched


def stored_reference(stored: StoredAssets) -> Reference:
    """The reference data stored last; raises as `StoredAssets.open`."""
    return Reference.of(stored.open(REFERENCE))


@dataclass(frozen=True)
class MappingReference:
    """What the mapping takes from the stored reference data; `facts`: what is known of each of Primero's lists, by its name."""

    labels: Labels = field(repr=False)
    facts: Mapping[str, Mapping[str, Any]]


def mapping_reference(stored: StoredAssets) -> MappingReference:
    """The reference data for a mapping; the thousands of places are no part of it, and are not read. Raises as stored_reference."""
    frames = stored.open(REFERENCE)
    reference = Reference.of(frames, ("lookups", "forms"))
    return MappingReference(labels_in_use(reference), frames.summary["lists"])


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


def mapped_otherwise(stored: StoredAssets, labels: Labels) -> list[Quarter]:
    """The stored quarters that were mapped by other rules or other labels than those in use now, oldest first."""
    wanted = (stored.assets[MAPPED_CASES].version, labels.version)
    return [
        quarter
        for quarter in stored.quarters(MAPPED_CASES)
        if _versions(stored.summary(MAPPED_CASES, quarter)) != wanted
    ]


def _versions(summary: Mapping[str, Any]) -> tuple[str | None, str | None]:
    return summary["stored_version"], summary.get("labels_version")


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
