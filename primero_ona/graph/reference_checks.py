"""Asset checks of the reference data: what people have to decide, shown as tables. They warn, and never stop a sync.

Names, labels and codes of Primero's configuration are shown here, since deciding about them is the point; nothing of a
case is. How checks of cases are made stands in `checks.py`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.graph.assets.reference import DICTIONARY_KEY, LOOKUP_KEY, REFERENCE_KEY
from primero_ona.graph.checks import Results, answer, report
from primero_ona.graph.metadata import codes_table, facts_table
from primero_ona.graph.resources import OnaDatabaseResource
from primero_ona.pipeline.stored import StoredAssets

if TYPE_CHECKING:
    from primero_ona.pipeline.reference import LabelChange


def reference_checks() -> list[dg.AssetChecksDefinition]:
    """All checks of the reference data."""
    return [_lists_current(), _places_clear(), _names_in_use(), _dictionary_checks()]


def _lists_current() -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=REFERENCE_KEY,
        name="lists_current",
        description="Every list was read at the last refresh; none is an old one because Primero refused it.",
        config_schema={},
    )
    def check(partitions: dg.ResourceParam[StoredAssets]) -> Any:  # noqa: ANN401  a generator; Dagster looks at nothing but what it yields
        """Name the lists that Primero refused at the last refresh."""
        from primero_ona.pipeline.reference import stale_lists, stored_reference

        messages = stale_lists(stored_reference(partitions))
        good = "all lists were read"
        yield from report([answer(REFERENCE_KEY, "lists_current", Counter(messages), good=good, warn=True)])

    return check


def _places_clear() -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=REFERENCE_KEY,
        name="places_clear",
        description="Every place below a province is clearly a district or is not. Cases of one that is not have no district.",
        config_schema={},
    )
    def check(partitions: dg.ResourceParam[StoredAssets]) -> dg.AssetCheckResult:
        """Name the places that could not be taken for districts, by code."""
        from primero_ona.pipeline.reference import odd_places, stored_reference

        odd = odd_places(stored_reference(partitions))
        faults = Counter(f"place {code} {why}" for code, why in odd.items())
        rows = [{"code": code, "what": why} for code, why in odd.items()]
        good = "every district has its province"
        return answer(REFERENCE_KEY, "places_clear", faults, good=good, warn=True, **_table("unclear places", rows))

    return check


def _names_in_use() -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=LOOKUP_KEY,
        name="names_in_use",
        description="Primero's names of places are those in use; a changed one waits for `primero-ona places accept`.",
        pool="ona_database",
        config_schema={},
    )
    def check(ona: dg.ResourceParam[OnaDatabaseResource]) -> Any:  # noqa: ANN401  a generator; Dagster looks at nothing but what it yields
        """List the names that Primero has changed and that are not accepted."""
        from primero_ona.ona.lookup import changed_names

        with ona.connection() as connection:
            names = changed_names(connection)
        faults = Counter(f"changed {name.column_name}" for name in names)
        good = "all names are those in use"
        rows = _table("changed names", [asdict(name) for name in names])
        yield from report([answer(LOOKUP_KEY, "names_in_use", faults, good=good, warn=True, **rows)])

    return check


def _dictionary_checks() -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name="check_data_dictionary",
        specs=[
            dg.AssetCheckSpec(
                "labels",
                asset=DICTIONARY_KEY,
                description="Labels are Primero's, and every code that occurs is known; see `primero-ona labels diff`.",
                additional_deps=[REFERENCE_KEY],
            ),
            dg.AssetCheckSpec(
                "options_described",
                asset=DICTIONARY_KEY,
                description="Every option that occurs in cases and services has its row in the dictionary.",
            ),
        ],
        config_schema={},
        pool="ona_database",
    )
    def check(ona: dg.ResourceParam[OnaDatabaseResource], partitions: dg.ResourceParam[StoredAssets]) -> Results:
        """Compare the labels in use with those of Primero, and the texts in ONA with the dictionary."""
        from primero_ona.ona.dictionary import undescribed_options
        from primero_ona.pipeline.reference import counted_label_changes, labels_in_use, stored_reference

        with ona.connection() as connection:
            labels = labels_in_use(stored_reference(partitions))
            changes = counted_label_changes(connection, labels)
            undescribed = undescribed_options(connection)
        kinds = Counter(change.kind.value for change in changes)
        table = _label_tables(changes)
        same = answer(DICTIONARY_KEY, "labels", kinds, good="all labels are Primero's", warn=True, **table)
        texts = {f"text of {entry.column} without a row": entry.texts for entry in undescribed}
        good = "every option that occurs has its row"
        described = answer(DICTIONARY_KEY, "options_described", texts, good=good, warn=True)
        yield from report([same, described])

    return check


def _label_tables(changes: "Sequence[LabelChange]") -> dict[str, Any]:
    """Labels of Primero's configuration that differ, in words, and of codes that only cases have the number by field.

    In the order of field and code: that of the rows affected would be counts by value.
    """
    known = [
        {
            "kind": change.kind.value,
            "field": change.field,
            "code": change.code,
            "ours": change.ours,
            "primeros": change.primeros,
        }
        for change in sorted(changes, key=lambda change: (change.field, change.code))
        if change.primeros
    ]
    unknown = [(change.field, change.code) for change in changes if not change.primeros]
    return {**_table("labels", known), **({"unmapped codes": codes_table(unknown)} if unknown else {})}


def _table(name: str, rows: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    """The rows as a table of the check's metadata, where there are any."""
    return {name: facts_table(rows)} if rows else {}
