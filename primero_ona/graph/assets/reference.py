"""Group 0_reference: Primero's places, options and forms, the two tables of ONA made of them, and their checks.

Unlike cases they have no quarters. The quarterly assets take labels and places from here, so the first run of all is a
refresh.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.contract.column import Table
from primero_ona.contract.derived import DATA_DICTIONARY, LOCATIONS_LOOKUP
from primero_ona.errors import DataError
from primero_ona.graph.checks import Results, answer, report
from primero_ona.graph.metadata import REFERENCE, codes_table, contract_metadata, facts_table, raw_metadata
from primero_ona.graph.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.pipeline.stored import REFERENCE as REFERENCE_NAME
from primero_ona.pipeline.stored import StoredAssets

if TYPE_CHECKING:
    from primero_ona.ona.reference import LookupResult
    from primero_ona.ona.target import Upkeep
    from primero_ona.pipeline.reference import LabelChange
    from primero_ona.primero.reference import Reference

REFERENCE_KEY = dg.AssetKey(REFERENCE_NAME)
LOOKUP_KEY = dg.AssetKey(["ona", LOCATIONS_LOOKUP.name])
DICTIONARY_KEY = dg.AssetKey(["ona", DATA_DICTIONARY.name])

#: Raised when what is made of Primero's lists changes.
_VERSION = "1"

_DESCRIPTIONS = {
    REFERENCE_KEY: "Primero's places, option lists and forms, whole lists with their date.\n\n"
    "Refreshed weekly, and before a quarter is closed. Where Primero refuses a list, the last one stays, and a check says so.",
    LOOKUP_KEY: "The districts in ONA's database: names for codes.\n\n"
    "New districts are added, and one that Primero has no more is marked `retired`. A name in use changes only when a person "
    "accepts it: `primero-ona places changes`, `primero-ona places accept`.",
    DICTIONARY_KEY: "What columns and options in ONA mean, in English and Khmer.\n\n"
    "A row for each column of each table and view, and for each option; Khmer that a person reviewed is kept.",
}


def reference_assets() -> list[dg.AssetsDefinition]:
    """Primero's reference data, and ONA's two tables made of it."""
    return [
        _primero_reference(),
        _small_table(LOOKUP_KEY, LOCATIONS_LOOKUP),
        _small_table(DICTIONARY_KEY, DATA_DICTIONARY),
    ]


def _primero_reference() -> dg.AssetsDefinition:
    @dg.asset(
        key=REFERENCE_KEY,
        deps=["primero"],
        description=_DESCRIPTIONS[REFERENCE_KEY],
        group_name=REFERENCE,
        kinds={"primero", "parquet"},
        code_version=_VERSION,
        metadata=raw_metadata({"list": "text", "content": "JSON"}),
        pool="primero_api",
        config_schema={},
    )
    def primero_reference(
        context: dg.AssetExecutionContext,
        primero: dg.ResourceParam[PrimeroResource],
        ona: dg.ResourceParam[OnaDatabaseResource],
        partitions: dg.ResourceParam[StoredAssets],
    ) -> dg.MaterializeResult[Any]:
        """Read Primero's lists; the last one stays where one is refused."""
        from primero_ona.pipeline.reference import refresh_reference, stale_lists

        with primero.client() as client:
            last = _last(context, partitions)
            fetched = refresh_reference(client, ona.connection, partitions, last, datetime.now(UTC))
        for message in stale_lists(fetched):
            context.log.warning("Primero refuses a list to this account (403): %s", message)
        return dg.MaterializeResult(metadata=_metadata(fetched))

    return primero_reference


def _last(context: dg.AssetExecutionContext, partitions: StoredAssets) -> "Reference | None":
    """The reference stored last; one that is missing or damaged is none, since a refresh is what repairs it."""
    from primero_ona.pipeline.reference import stored_reference

    try:
        return stored_reference(partitions)
    except DataError as error:
        context.log.info("No stored reference data to fall back on: %s", error)
        return None


def _small_table(key: dg.AssetKey, table: Table) -> dg.AssetsDefinition:
    @dg.asset(
        key=key,
        deps=[REFERENCE_KEY],
        description=_DESCRIPTIONS[key],
        group_name=REFERENCE,
        kinds={"postgres", "table"},
        code_version=_VERSION,
        metadata={**contract_metadata(table), "dagster/table_name": table.name},
        pool="ona_database",
        config_schema={},
    )
    def fill(
        ona: dg.ResourceParam[OnaDatabaseResource], partitions: dg.ResourceParam[StoredAssets]
    ) -> dg.MaterializeResult[Any]:
        """Bring ONA's table of districts, or its dictionary of columns and options, up to date."""
        from primero_ona.pipeline.reference import fill_dictionary, fill_lookup, stored_reference

        with ona.connection() as connection:
            reference = stored_reference(partitions)
            if table is LOCATIONS_LOOKUP:
                metadata = _lookup_metadata(fill_lookup(connection, reference, datetime.now(UTC)))
            else:
                metadata = _upkeep_metadata(fill_dictionary(connection, reference))
        return dg.MaterializeResult(metadata=metadata)

    return fill


def _metadata(reference: "Reference") -> dict[str, Any]:
    facts = reference.facts
    return {
        "lists": facts_table([{"list": name, **facts[name]} for name in facts]),
        "Primero version": next((f["version"] for f in facts.values() if f["version"]), "not visible to this account"),
        "refused lists": ", ".join(reference.refused) or "none",
    }


def _upkeep_metadata(upkeep: "Upkeep") -> dict[str, Any]:
    return {
        "dagster/row_count": upkeep.written + upkeep.unchanged,
        **asdict(upkeep),
        "written": upkeep.written,
    }


def _lookup_metadata(result: "LookupResult | None") -> dict[str, Any]:
    if result is None:
        return {"note": "Primero's locations were never read; the names that ONA has serve"}
    return {
        **_upkeep_metadata(result.rows),
        "retired": len(result.retired),
        "retired codes": ", ".join(result.retired) or "none",
        "changed names": len(result.changed_names),
        "unclear places": ", ".join(result.odd) or "none",
    }


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
        from primero_ona.ona.reference import changed_names

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
        from primero_ona.ona.reference import undescribed_options
        from primero_ona.pipeline.reference import counted_label_changes, labels_in_use, stored_reference

        with ona.connection() as connection:
            labels = labels_in_use(stored_reference(partitions))
            changes = counted_label_changes(connection, labels)
            undescribed = undescribed_options(connection)
        kinds = Counter(change.kind.value for change in changes)
        table = _label_tables(changes)
        same = answer(DICTIONARY_KEY, "labels", kinds, good="all labels are Primero's", warn=True, **table)
        texts = {f"text of {column} without a row": count for column, count in undescribed.items()}
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
