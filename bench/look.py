"""One look of the change sensor at Primero, which remembers the last one in DAGSTER_HOME; prints the quarters that changed."""

from __future__ import annotations

import os
from pathlib import Path

from primero_ona.graph.resources import PrimeroResource
from primero_ona.primero.changes import Changes, changes_since


def main() -> None:
    """Look for changes since the last look."""
    known = Path(os.environ["DAGSTER_HOME"]) / "look.txt"
    before = known.read_text().split() if known.exists() else None
    with PrimeroResource().client() as client:
        found = changes_since(client, Changes(before[0], int(before[1])) if before else None)
    known.write_text(f"{found.newest} {found.total}")
    print([quarter.name for quarter in found.quarters])


if __name__ == "__main__":
    main()
