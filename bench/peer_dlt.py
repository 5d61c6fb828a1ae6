"""A peer: dlt, as its expert users would write this pull: the rest_api source, merge into PostgreSQL, its own advice on speed.

Followed of https://dlthub.com/docs/reference/performance: larger buffers, several files for each table, so that several
processes normalize and load at once, and CSV, which dlt loads by COPY. Services become a child table by themselves.
It pages by number, as dlt's paginators do, over an order without ties, since rows that tie come twice or never. A case
that is edited meanwhile can still be lost, which primero-ona guards against. Of an open quarter, whose last day is not
given, it asks for what has changed since the newest stamp that it has seen, less an hour: its incremental cursor with lag.

    PRIMERO_URL=… ONA_DATABASE_URL=… bench/.venv-dlt/bin/python bench/peer_dlt.py 2024-01-01 2024-04-01 <folder>
    PRIMERO_URL=… ONA_DATABASE_URL=… bench/.venv-dlt/bin/python bench/peer_dlt.py 2026-10-01 - <folder>
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

#: dlt reads its configuration from the environment. Items are cases.
SETTINGS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "DATA_WRITER__BUFFER_MAX_ITEMS": "20000",
    "EXTRACT__DATA_WRITER__FILE_MAX_ITEMS": "50000",
    "NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS": "100000",
    "NORMALIZE__WORKERS": "2",
    "LOAD__WORKERS": "4",
}
os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})

import dlt  # noqa: E402
from asked import FIELDS  # noqa: E402
from dlt.sources.rest_api import rest_api_source  # noqa: E402

#: Seconds that the cursor reaches back, as primero-ona does.
LAG = 3600


def main(first: str, after: str, folder: str) -> None:
    """Merge the cases that were changed from one day (included) to another (excluded; `-`: none), in Phnom Penh."""
    changed: object = f"{_asked(first)}..{_asked(after)}" if after != "-" else _changes_since(_asked(first))
    source = rest_api_source(
        {
            "client": {
                "base_url": f"{os.environ['PRIMERO_URL']}/api/v2/",
                "auth": {
                    "type": "http_basic",
                    "username": os.environ["PRIMERO_USERNAME"],
                    "password": os.environ["PRIMERO_PASSWORD"],
                },
                "paginator": {
                    "type": "page_number",
                    "base_page": 1,
                    "page_param": "page",
                    "total_path": None,
                    "stop_after_empty_page": True,
                },
            },
            "resources": [
                {
                    "name": "cases",
                    "primary_key": "id",
                    "write_disposition": "merge",
                    "max_table_nesting": 2,
                    "endpoint": {
                        "path": "cases",
                        "data_selector": "data",
                        "params": {
                            "last_updated_at": changed,
                            "order_by": "unique_identifier",
                            "order": "asc",
                            "fields": FIELDS,
                            "per": 1000,
                        },
                    },
                }
            ],
        }
    )
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=folder,
        destination=dlt.destinations.postgres(credentials=os.environ["ONA_DATABASE_URL"]),
        dataset_name="peer",
    )
    pipeline.run(source, loader_file_format="csv").raise_on_failed_jobs()


def _asked(day: str) -> str:
    """The beginning of a day in Phnom Penh, as Primero is asked for it."""
    moment = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Asia/Phnom_Penh"))
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _changes_since(start: str) -> dict[str, object]:
    """Dlt's incremental cursor for a parameter: from `start` at first, then from the newest stamp seen, less the lag."""
    return {
        "type": "incremental",
        "cursor_path": "last_updated_at",
        "initial_value": start,
        "lag": LAG,
        "convert": "{}..".format,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
