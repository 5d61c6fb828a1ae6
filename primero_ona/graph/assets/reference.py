"""Group 0_reference: Primero's places, options and forms, and the two tables of ONA that are made of them.

Unlike cases they have no quarters. The quarterly assets take labels and places from here, so the first run of all is a
refresh.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.contract.derived import DATA_DICTIONARY, LOCATIONS_LOOKUP
from primero_ona.errors import DataError
from primero_ona.graph.assets.common import REFERENCE, contract_metadata, raw_metadata
from primero_ona.graph.metadata import facts_table
from primero_ona.graph.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.pipeline.stored import REFERENCE as REFERENCE_NAME
from primero_ona.pipeline.stored import StoredAssets

if TYPE_CHECKING:
    from primero_ona.ona.lookup import LookupResult
    from primero_ona.ona.upkeep import Upkeep
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
    return [_primero_reference(), _locations_lookup(), _data_dictionary()]


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


def _locations_lookup() -> dg.AssetsDefinition:
    @dg.asset(
        key=LOOKUP_KEY,
        deps=[REFERENCE_KEY],
        description=_DESCRIPTIONS[LOOKUP_KEY],
        group_name=REFERENCE,
        kinds={"postgres", "table"},
        code_version=_VERSION,
        metadata={**contract_metadata(LOCATIONS_LOOKUP), "dagster/table_name": LOCATIONS_LOOKUP.name},
        pool="ona_database",
        config_schema={},
    )
    def locations_lookup(
        ona: dg.ResourceParam[OnaDatabaseResource], partitions: dg.ResourceParam[StoredAssets]
    ) -> dg.MaterializeResult[Any]:
        """Bring ONA's table of districts up to date."""
        from primero_ona.pipeline.reference import fill_lookup, stored_reference

        with ona.connection() as connection:
            result = fill_lookup(connection, stored_reference(partitions), datetime.now(UTC))
        return dg.MaterializeResult(metadata=_lookup_metadata(result))

    return locations_lookup


def _data_dictionary() -> dg.AssetsDefinition:
    @dg.asset(
        key=DICTIONARY_KEY,
        deps=[REFERENCE_KEY],
        description=_DESCRIPTIONS[DICTIONARY_KEY],
        group_name=REFERENCE,
        kinds={"postgres", "table"},
        code_version=_VERSION,
        metadata={**contract_metadata(DATA_DICTIONARY), "dagster/table_name": DATA_DICTIONARY.name},
        pool="ona_database",
        config_schema={},
    )
    def data_dictionary(
        ona: dg.ResourceParam[OnaDatabaseResource], partitions: dg.ResourceParam[StoredAssets]
    ) -> dg.MaterializeResult[Any]:
        """Bring ONA's dictionary of columns and options up to date."""
        from primero_ona.pipeline.reference import fill_dictionary, stored_reference

        with ona.connection() as connection:
            upkeep = fill_dictionary(connection, stored_reference(partitions))
        return dg.MaterializeResult(metadata=_upkeep_metadata(upkeep))

    return data_dictionary


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
