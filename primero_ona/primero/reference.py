"""Primero's reference data: complete lists, checked against their own `total`, and what is made of them.

Places are understood by walking `hierarchy` (root first, the place itself last), never by cutting codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from primero_ona.failures import DataFailure, TransientFailure
from primero_ona.primero.client import PAGE_ROWS, PrimeroClient

_LOCATIONS: Mapping[str, str | int] = {"hierarchy": "true", "order_by": "code", "order": "asc"}


def complete_list(client: PrimeroClient, path: str, key: str, params: Mapping[str, str | int]) -> list[dict[str, Any]]:
    """Every element of a paged list, once by `key`, in the order received.

    Raises TransientFailure where pages and `total` do not agree: somebody edited the list meanwhile.
    """
    found: dict[str, dict[str, Any]] = {}
    number = 1
    while True:
        page = client.page(path, {**params, "per": PAGE_ROWS, "page": number})
        found.update((str(row.get(key)), row) for row in page.rows)
        if len(page.rows) < page.per or page.per <= 0:
            break
        number += 1
    if len(found) != page.total:
        raise TransientFailure(
            f"Primero gave {len(found)} of {page.total} {path}; the list is not whole; try again later"
        )
    return list(found.values())


def districts(client: PrimeroClient) -> pd.DataFrame:
    """The districts of Cambodia as Primero has them: `code`, `district`, `province`, `province_code` (Arrow strings).

    Names are English, codes as Primero writes them (no leading zero).
    Raises DataFailure where a district has no province above it.
    """
    places = {str(place.get("code")): place for place in complete_list(client, "locations", "code", _LOCATIONS)}
    rows: list[dict[str, str]] = []
    for code, place in places.items():
        if place.get("type") != "district":
            continue
        above = [places.get(str(parent), {}) for parent in place.get("hierarchy") or ()]
        province = next((parent for parent in above if parent.get("type") == "province"), None)
        if province is None:
            raise DataFailure(
                f"Primero's district {code} has no province above it; its administrators have to mend the locations"
            )
        rows.append(
            {
                "code": code,
                "district": _name(place),
                "province": _name(province),
                "province_code": str(province["code"]),
            },
        )
    columns = ["code", "district", "province", "province_code"]
    return pd.DataFrame(rows, columns=columns, dtype=pd.ArrowDtype(pa.string()))


def _name(place: Mapping[str, Any]) -> str:
    """The English name of the place alone; its code where it has none, so that nothing is guessed."""
    return str((place.get("placename") or {}).get("en") or place.get("code"))
