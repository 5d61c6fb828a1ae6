"""Where the time of a sync went, as Dagster's own event log tells it: seconds by stage, and what waiting was in them."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from datetime import datetime
from pathlib import Path

#: Steps of the run by the stage that they belong to; what is no step is Dagster's, imports included.
_STAGES = {"pull_": "pull", "mapped_": "map", "check_": "check", "load_": "load"}

_WAITED = re.compile(r'"value": ([0-9.]+)}, "label": "waited for Primero \(s\)"')


def stages(home: Path, run_id: str, seconds: float) -> dict[str, float]:
    """Seconds by stage of a run that took `seconds` as a whole process; `waiting` is the part of the pull in requests."""
    found: Counter[str] = Counter()
    begun: dict[str, float] = {}
    with sqlite3.connect(home / "history" / "runs" / f"{run_id}.db") as log:
        rows = log.execute(
            "SELECT step_key, dagster_event_type, timestamp, event FROM event_logs ORDER BY id"
        ).fetchall()
    for step, kind, stamp, event in rows:
        moment = datetime.fromisoformat(stamp).timestamp()
        if kind == "STEP_START":
            begun[step] = moment
        elif kind == "STEP_SUCCESS":
            found[_stage(step)] += moment - begun[step]
        elif kind == "ASSET_MATERIALIZATION" and (waited := _WAITED.search(event)):
            found["waiting"] = float(waited[1])
    found["dagster"] = seconds - sum(spent for stage, spent in found.items() if stage != "waiting")
    return dict(found)


def _stage(step: str) -> str:
    return next((stage for start, stage in _STAGES.items() if step.startswith(start)), "other")
