"""Group 0_reference: Primero's places, options and forms, and the two tables of ONA that are made of them.

Unlike cases they have no quarters. The quarterly assets take labels and places from here; what they need of it on the
first run of all, when nothing is stored yet, is done by `fetch_if_missing` and `places_in_ona`, and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.contract.reference import DATA_DICTIONARY, LOCATIONS_LOOKUP
from primero_ona.errors import DataError
from primero_ona.graph.assets.common import OWNERS, REFERENCE, contract_metadata, raw_metadata
from primero_ona.graph.io_manager import PartitionIOManager
from primero_ona.graph.metadata import facts_table
from primero_ona.graph.resources import OnaDatabaseResource, PrimeroResource
from primero_ona.graph.steps import safe_step
from primero_ona.storage.frames import Frames

if TYPE_CHECKING:
    from primero_ona.mapping.locations import Places
    from primero_ona.ona.lookup import LookupResult
    from primero_ona.ona.upkeep import Upkeep
    from primero_ona.primero.reference import Reference

REFERENCE_KEY = dg.AssetKey("primero_reference")
LOOKUP_KEY = dg.AssetKey(["ona", LOCATIONS_LOOKUP.name])
DICTIONARY_KEY = dg.AssetKey(["ona", DATA_DICTIONARY.name])

#: Raised when what is made of Primero's lists changes.
_VERSION = "1"

_DESCRIPTIONS = {
    REFERENCE_KEY: "Primero's places, option lists and forms, whole lists with their date.\n\n"
    "Refreshed weekly, and before a quarter is closed. Where Primero refuses a list, the last one stays, and a check says so.",
    LOOKUP_KEY: "The districts in ONA's database: names for codes.\n\n"
    "New districts are added, and one that Primero has no more is marked `retired`. A name in use changes only when somebody "
    "accepts it: `primero-ona places changes`, `primero-ona places accept`.",
    DICTIONARY_KEY: "What columns and options in ONA mean, in English and Khmer.\n\n"
    "A row for each column of each table and view, and for each option; Khmer that somebody reviewed is kept.",
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
        owners=OWNERS,
        kinds={"primero", "parquet"},
        code_version=_VERSION,
        metadata=raw_metadata({"list": "text", "content": "JSON"}),
        pool="primero_api",
        config_schema={},
    )
    def primero_reference(
        context: dg.AssetExecutionContext,
        primero: dg.ResourceParam[PrimeroResource],
        io_manager: dg.ResourceParam[PartitionIOManager],
    ) -> Frames:
        """Read Primero's lists anew; the last one stays where one is refused."""
        with safe_step(context.instance, context.run_id):
            fetched = _fetch(context, primero, _last(context, io_manager))
        context.add_output_metadata(_metadata(fetched))
        return fetched.frames()

    return primero_reference


def _last(context: dg.AssetExecutionContext, io_manager: PartitionIOManager) -> "Reference | None":
    """The reference stored last; a damaged one is none, since a refresh is what mends it."""
    from primero_ona.pipeline.reference import stored_reference

    try:
        return stored_reference(io_manager.store)
    except DataError as failure:
        context.log.warning("The stored reference data cannot be used: %s", failure)
        return None


def _fetch(context: dg.AssetExecutionContext, primero: PrimeroResource, last: "Reference | None") -> "Reference":
    from primero_ona.pipeline.reference import stale_lists
    from primero_ona.primero.reference import refresh

    with primero.client() as client:
        fetched = refresh(client, last, datetime.now(UTC))
    for told in stale_lists(fetched):
        context.log.warning("Primero refuses a list to this account (403): %s", told)
    return fetched


def _locations_lookup() -> dg.AssetsDefinition:
    @dg.asset(
        key=LOOKUP_KEY,
        description=_DESCRIPTIONS[LOOKUP_KEY],
        group_name=REFERENCE,
        owners=OWNERS,
        kinds={"postgres", "table"},
        code_version=_VERSION,
        metadata={**contract_metadata(LOCATIONS_LOOKUP), "dagster/table_name": LOCATIONS_LOOKUP.name},
        pool="ona_database",
        config_schema={},
    )
    def locations_lookup(
        context: dg.AssetExecutionContext, primero_reference: Frames, ona: dg.ResourceParam[OnaDatabaseResource]
    ) -> dg.MaterializeResult[Any]:
        """Bring ONA's table of districts up to date."""
        from primero_ona.pipeline.reference import fill_lookup
        from primero_ona.primero.reference import Reference

        with safe_step(context.instance, context.run_id), ona.connection() as connection:
            result = fill_lookup(connection, Reference.of(primero_reference), datetime.now(UTC))
        return dg.MaterializeResult(metadata=_lookup_metadata(result))

    return locations_lookup


def _data_dictionary() -> dg.AssetsDefinition:
    @dg.asset(
        key=DICTIONARY_KEY,
        description=_DESCRIPTIONS[DICTIONARY_KEY],
        group_name=REFERENCE,
        owners=OWNERS,
        kinds={"postgres", "table"},
        code_version=_VERSION,
        metadata={**contract_metadata(DATA_DICTIONARY), "dagster/table_name": DATA_DICTIONARY.name},
        pool="ona_database",
        config_schema={},
    )
    def data_dictionary(
        context: dg.AssetExecutionContext, primero_reference: Frames, ona: dg.ResourceParam[OnaDatabaseResource]
    ) -> dg.MaterializeResult[Any]:
        """Bring ONA's dictionary of columns and options up to date."""
        from primero_ona.pipeline.reference import fill_dictionary
        from primero_ona.primero.reference import Reference

        with safe_step(context.instance, context.run_id), ona.connection() as connection:
            upkeep = fill_dictionary(connection, Reference.of(primero_reference))
        return dg.MaterializeResult(metadata=_upkeep_metadata(upkeep))

    return data_dictionary


def fetch_if_missing(
    context: dg.AssetExecutionContext, primero: PrimeroResource, io_manager: PartitionIOManager
) -> None:
    """Fetch and store the reference data where none is stored, so that the first sync of all needs no other command.

    Called by the pull, which is the one step of a sync that asks Primero.
    """
    from primero_ona.pipeline.reference import mapping_reference

    # Reads a little of it, too, so that a wrong storage key is found before anything is pulled.
    if mapping_reference(io_manager.store).facts:
        return
    fetched = _fetch(context, primero, None)
    with io_manager.writer(REFERENCE_KEY.path[-1]) as writer:
        for frame in fetched.frames():
            writer.write(frame)
        writer.commit(fetched.frames().summary)
    _log(context, REFERENCE_KEY, {"dagster/row_count": writer.rows, **_metadata(fetched)})


def places_in_ona(
    context: dg.AssetExecutionContext, ona: OnaDatabaseResource, io_manager: PartitionIOManager
) -> "Places":
    """ONA's names of places; where it has none yet, its lookup and dictionary are filled from the stored reference data."""
    from primero_ona.mapping.locations import Places
    from primero_ona.ona.lookup import read_places
    from primero_ona.pipeline.reference import fill_dictionary, fill_lookup, stored_reference

    with ona.connection() as connection:
        rows = read_places(connection)
        if rows.empty and (reference := stored_reference(io_manager.store)) is not None:
            _log(context, LOOKUP_KEY, _lookup_metadata(fill_lookup(connection, reference, datetime.now(UTC))))
            _log(context, DICTIONARY_KEY, _upkeep_metadata(fill_dictionary(connection, reference)))
            rows = read_places(connection)
    return Places.of(rows)


def _log(context: dg.AssetExecutionContext, key: dg.AssetKey, metadata: Mapping[str, Any]) -> None:
    """Let Dagster know of an asset that another asset's step has made."""
    context.log_event(dg.AssetMaterialization(key, metadata=metadata))


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
