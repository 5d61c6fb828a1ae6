"""Group 0_reference: Primero's places, options and forms, the two tables of ONA made of them, and their checks.

They have no quarters. The quarterly assets take labels and places from here, so the first run of all is a refresh.
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
from primero_ona.graph.checks import Results, answer, check_specs
from primero_ona.graph.metadata import REFERENCE, codes_table, contract_metadata, facts_table, raw_metadata
from primero_ona.graph.resources import Ona, Partitions, Primero
from primero_ona.pipeline.stored import REFERENCE as REFERENCE_NAME

if TYPE_CHECKING:
    from primero_ona.ona.target import Upkeep

REFERENCE_KEY = dg.AssetKey(REFERENCE_NAME)
LOOKUP_KEY = dg.AssetKey(["ona", LOCATIONS_LOOKUP.name])
DICTIONARY_KEY = dg.AssetKey(["ona", DATA_DICTIONARY.name])

#: Raised when what is made of Primero's lists changes.
_VERSION = "1"


@dg.asset(
    key=REFERENCE_KEY,
    deps=["primero"],
    description="Primero's places, option lists and forms, whole lists with their date.\n\n"
    "Refreshed weekly, and before a quarter is closed. Where Primero refuses a list, the last one stays, and a check says so.",
    group_name=REFERENCE,
    kinds={"primero", "parquet"},
    code_version=_VERSION,
    metadata=raw_metadata({"list": "text", "content": "JSON"}),
    pool="primero_api",
    config_schema={},
)
def primero_reference(
    context: dg.AssetExecutionContext, primero: Primero, ona: Ona, partitions: Partitions
) -> dg.MaterializeResult[Any]:
    """Read Primero's lists; the last one stays where one is refused."""
    from primero_ona.pipeline.reference import refresh_reference, stale_lists, stored_reference

    with primero.client() as client:
        try:
            last = stored_reference(partitions)
        except DataError as error:  # a refresh is what repairs it
            context.log.info("No stored reference data to fall back on: %s", error)
            last = None
        fetched = refresh_reference(client, ona.connection, partitions, last, datetime.now(UTC))
    for message in stale_lists(fetched):
        context.log.warning("Primero refuses a list to this account (403): %s", message)
    facts = fetched.facts
    version = next((known["version"] for known in facts.values() if known["version"]), "not visible to this account")
    return dg.MaterializeResult(
        metadata={
            "lists": facts_table([{"list": name, **facts[name]} for name in facts]),
            "Primero version": version,
            "refused lists": ", ".join(fetched.refused) or "none",
        }
    )


def _small_table(table: Table, text: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=["ona", table.name],
        deps=[REFERENCE_KEY],
        description=text,
        group_name=REFERENCE,
        kinds={"postgres", "table"},
        code_version=_VERSION,
        metadata={**contract_metadata(table), "dagster/table_name": table.name},
        pool="ona_database",
        config_schema={},
    )
    def fill(ona: Ona, partitions: Partitions) -> dg.MaterializeResult[Any]:
        """Bring ONA's table of districts, or its dictionary of columns and options, up to date."""
        from primero_ona.pipeline.reference import fill_dictionary, fill_lookup, stored_reference

        with ona.connection() as connection:
            reference = stored_reference(partitions)
            if table is DATA_DICTIONARY:
                return dg.MaterializeResult(metadata=_upkeep_metadata(fill_dictionary(connection, reference)))
            found = fill_lookup(connection, reference, datetime.now(UTC))
        if found is None:
            note = "Primero's locations were never read; the names that ONA has serve"
            return dg.MaterializeResult(metadata={"note": note})
        return dg.MaterializeResult(
            metadata={
                **_upkeep_metadata(found.rows),
                "retired": len(found.retired),
                "retired codes": ", ".join(found.retired) or "none",
                "changed names": len(found.changed_names),
                "unclear places": ", ".join(found.odd) or "none",
            }
        )

    return fill


#: Primero's reference data, and ONA's two tables made of it.
REFERENCE_ASSETS = (
    primero_reference,
    _small_table(
        LOCATIONS_LOOKUP,
        "The districts in ONA's database: names for codes.\n\n"
        "New districts are added, and one that Primero has no more is marked `retired`. A name in use changes only when a person "
        "accepts it: `primero-ona places changes`, `primero-ona places accept`.",
    ),
    _small_table(
        DATA_DICTIONARY,
        "What columns and options in ONA mean, in English and Khmer.\n\n"
        "A row for each column of each table and view, and for each option; Khmer that a person reviewed is kept.",
    ),
)


def _upkeep_metadata(upkeep: "Upkeep") -> dict[str, Any]:
    return {"dagster/row_count": upkeep.written + upkeep.unchanged, **asdict(upkeep), "written": upkeep.written}


@dg.asset_check(
    asset=REFERENCE_KEY,
    description="Every list was read at the last refresh; none is an old one because Primero refused it.",
    config_schema={},
)
def lists_current(partitions: Partitions) -> dg.AssetCheckResult:
    """Name the lists that Primero refused at the last refresh."""
    from primero_ona.pipeline.reference import stale_lists, stored_reference

    messages = Counter(stale_lists(stored_reference(partitions)))
    return answer(REFERENCE_KEY, "lists_current", messages, good="all lists were read", warn=True)


@dg.asset_check(
    asset=REFERENCE_KEY,
    description="Every place below a province is clearly a district or is not. Cases of one that is not have no district.",
    config_schema={},
)
def places_clear(partitions: Partitions) -> dg.AssetCheckResult:
    """Name the places that could not be taken for districts, by code."""
    from primero_ona.pipeline.reference import odd_places, stored_reference

    odd = odd_places(stored_reference(partitions))
    faults = Counter(f"place {code} {why}" for code, why in odd.items())
    table = _table("unclear places", [{"code": code, "what": why} for code, why in odd.items()])
    return answer(REFERENCE_KEY, "places_clear", faults, good="every district has its province", warn=True, **table)


@dg.asset_check(
    asset=LOOKUP_KEY,
    description="Primero's names of places are those in use; a changed one waits for `primero-ona places accept`.",
    pool="ona_database",
    config_schema={},
)
def names_in_use(ona: Ona) -> dg.AssetCheckResult:
    """List the names that Primero has changed and that are not accepted."""
    from primero_ona.ona.reference import changed_names

    with ona.connection() as connection:
        names = changed_names(connection)
    faults = Counter(f"changed {name.column_name}" for name in names)
    table = _table("changed names", [asdict(name) for name in names])
    return answer(LOOKUP_KEY, "names_in_use", faults, good="all names are those in use", warn=True, **table)


_LABELS = {"labels": "Labels are Primero's, and every code that occurs is known; see `primero-ona labels diff`."}
_DESCRIBED = {"options_described": "Every option that occurs in cases and services has its row in the dictionary."}


@dg.multi_asset_check(
    specs=[
        *check_specs(None, DICTIONARY_KEY, _LABELS, reads=[REFERENCE_KEY]),
        *check_specs(None, DICTIONARY_KEY, _DESCRIBED),
    ],
    config_schema={},
    pool="ona_database",
)
def check_data_dictionary(ona: Ona, partitions: Partitions) -> Results:
    """Compare the labels in use with those of Primero, and the texts in ONA with the dictionary."""
    from primero_ona.ona.reference import undescribed_options
    from primero_ona.pipeline.reference import counted_label_changes, labels_in_use, stored_reference

    with ona.connection() as connection:
        changes = counted_label_changes(connection, labels_in_use(stored_reference(partitions)))
        undescribed = undescribed_options(connection)
    kinds = Counter(change.kind.value for change in changes)
    # By field and code, since the order of the rows affected would be counts by value. Codes that only cases have are not named.
    changes.sort(key=lambda change: (change.field, change.code))
    columns = ("kind", "field", "code", "ours", "primeros")
    known = [{name: getattr(change, name) for name in columns} for change in changes if change.primeros]
    unknown = [(change.field, change.code) for change in changes if not change.primeros]
    tables = _table("labels", known) | ({"unmapped codes": codes_table(unknown)} if unknown else {})
    yield answer(DICTIONARY_KEY, "labels", kinds, good="all labels are Primero's", warn=True, **tables)
    texts = {f"text of {column} without a row": count for column, count in undescribed.items()}
    good = "every option that occurs has its row"
    yield answer(DICTIONARY_KEY, "options_described", texts, good=good, warn=True)


#: All checks of the reference data.
REFERENCE_CHECKS = (lists_current, places_clear, names_in_use, check_data_dictionary)


def _table(name: str, rows: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    """The rows as a table of the check's metadata, where there are any."""
    return {name: facts_table(rows)} if rows else {}
