"""The requests alone: asks again, one at a time, what another run has asked, and reads each answer without decoding it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import orjson
import requests


def main(file: str) -> None:
    """Ask the paths and queries of a JSON list."""
    session = requests.Session()
    session.auth = (os.environ["PRIMERO_USERNAME"], os.environ["PRIMERO_PASSWORD"])
    for path, query in orjson.loads(Path(file).read_bytes()):
        session.get(f"{os.environ['PRIMERO_URL']}{path}?{query}").raise_for_status()


if __name__ == "__main__":
    main(sys.argv[1])
