"""Syncs a quarter with a column `risk_level` that was declared before the start, and prints as JSON where it is found.

`test_new_column.py` runs it on a changed copy of the package. Its argument is the address of a PostgreSQL server.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

from psycopg.conninfo import make_conninfo

from primero_ona.contract.tables import CASES
from primero_ona.mapping.labels import MAPPING_VERSION, Labels
from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan
from primero_ona.ona.roles import shown_columns
from primero_ona.pipeline.contract import ContractCheck
from primero_ona.pipeline.stored import PULL_VERSION
from primero_ona_tests.harness import Q2, Graph, run_unpartitioned, small, wired
from primero_ona_tests.test_data_protection import declared_rows

NAME = "risk_level"
LEVELS = ("high", " low ", ["high", "low"], None)


def found(graph: Graph) -> dict[str, Any]:
    """Sync cases with these levels into an ONA that lacks the column, and look at each step for it."""
    graph.sql(f"ALTER TABLE cases DROP COLUMN IF EXISTS {NAME}")
    with connect(graph.url) as conn:
        planned = plan(conn)
        apply(conn, planned)
    ids = [graph.primero.create(age=9, **{NAME: level}) for level in LEVELS]
    graph.clock.move(minutes=5)
    graph.primero.log.clear()
    refreshed = run_unpartitioned(graph.defs.resolve_job_def("refresh_reference"), graph.instance)
    synced = graph.sync(Q2)
    asked = [parse_qs(entry.query).get("fields", [""])[0].split(",") for entry in graph.primero.log]
    raw, mapped = (graph.read(asset, Q2) for asset in ("raw_under18_cases", "mapped_cases"))
    check = ContractCheck(CASES, Labels.load())
    check.add(mapped.drop(columns=NAME))
    assets = graph.defs.resolve_asset_graph().asset_nodes
    schemas = {node.key.to_user_string(): node.metadata.get("dagster/column_schema") for node in assets}
    return {
        "failures": [refreshed.failure, synced.failure],
        "asked": any(NAME in fields for fields in asked),
        "raw": raw.set_index("id").loc[ids, NAME].astype(object).where(lambda text: text.notna(), None).to_list(),
        "mapped": mapped.set_index("primero_id")
        .loc[ids, NAME]
        .astype(object)
        .where(lambda t: t.notna(), None)
        .to_list(),
        "planned": [change.sql for change in planned],
        "ona": [graph.sql(f"SELECT {NAME} FROM cases WHERE primero_id = %s", case)[0][0] for case in ids],
        "views": NAME in shown_columns(CASES),
        "faults without it": dict(check.faults),
        "dictionary": graph.sql(
            "SELECT option_id, field_label_en, option_value, option_value_km, primero_field FROM data_dictionary "
            f"WHERE column_name = '{NAME}' ORDER BY option_id"
        ),
        "schemas": sorted(
            name for name, schema in schemas.items() if schema and NAME in {c.name for c in schema.columns}
        ),
        "data protection": [row for row in declared_rows() if NAME in row],
        "versions": [PULL_VERSION, MAPPING_VERSION],
    }


if __name__ == "__main__":
    server = sys.argv[1]
    postgres = SimpleNamespace(
        get_uri=lambda database=None: make_conninfo(server, **({"dbname": database} if database else {}))
    )
    with wired(postgres, "new_column", small(40, odd=False)) as wired_graph:
        sys.stdout.write(f"FOUND {json.dumps(found(wired_graph))}\n")
