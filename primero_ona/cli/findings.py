"""`findings`: what the syncs noted of stored quarters, by value and reason, which Dagster does not show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from primero_ona.cli import output, output_reference
from primero_ona.cli.common import AsJson, stored_assets
from primero_ona.pipeline.stored import MAPPED_CASES, MAPPED_SERVICES, UNDER18, StoredAssets
from primero_ona.quarters import Quarter


def findings(
    quarter: Annotated[
        str | None, typer.Option(help="Only this quarter, like 2024-Q1; default: all that are stored.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show why cases were included or not, codes that no table knows, and what has to be decided about them, with counts.

    Reads the stored partitions, so it needs their key. Counts of few children can point at one: do not pass them on.
    """
    with stored_assets() as stored:
        wanted = [Quarter.parse(quarter)] if quarter else stored.quarters(MAPPED_CASES)
        found = [entry for each in wanted for entry in _findings(stored, each)]
    if as_json:
        output.print_json(found)
    else:
        output_reference.show_findings(found)


def _findings(stored: StoredAssets, quarter: Quarter) -> Iterator[dict[str, Any]]:
    """What the summaries of a quarter's partitions say, one entry for each reason, code and thing to decide."""
    from primero_ona.mapping.labels import Labels
    from primero_ona.mapping.result import to_decide

    accepted = Labels.load().accepted
    for asset in (UNDER18, MAPPED_CASES, MAPPED_SERVICES):
        try:
            summary = stored.summary(asset, quarter)
        except FileNotFoundError:
            continue
        codes = {f"{e['field']}: {e['code'] or '(not shown)'}": e["count"] for e in summary.get("findings", ())}
        kinds = {
            "reason": summary.get("reasons", {}),
            "quarantined": Counter(entry["reason"] for entry in summary.get("quarantine", ())),
            "not mapped": codes,
            "to decide": to_decide(summary.get("findings", ()), accepted, summary.get("rows", 0)),
        }
        for kind, counts in kinds.items():
            for what, count in counts.items():
                yield {"quarter": quarter.name, "asset": asset, "kind": kind, "what": what, "count": count}
