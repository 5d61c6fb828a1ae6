"""Edits of the sandbox's reference data while it runs: what an administrator of Primero does to options and places."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from primero_ona.sandbox import reference
from primero_ona.sandbox.reference import Row


class ReferenceData:
    """The reference lists of one sandbox."""

    def __init__(self) -> None:
        self._lookups: Sequence[Row] | None = None
        self._renamed: dict[str, dict[str, str]] = {}
        self._retired: set[str] = set()
        self._edited: dict[bool, Sequence[Row]] = {}

    def lookups(self) -> Sequence[Row]:
        """What `GET /api/v2/lookups` lists."""
        return self._lookups if self._lookups is not None else reference.lookups()

    def locations(self, *, hierarchy: bool) -> Sequence[Row]:
        """What `GET /api/v2/locations` lists, in no order that anybody may rely on."""
        rows = reference.locations(hierarchy=hierarchy)
        if not self._renamed and not self._retired:
            return rows
        if hierarchy not in self._edited:
            self._edited[hierarchy] = [self._renamed_row(row) for row in rows if row["code"] not in self._retired]
        return self._edited[hierarchy]

    def set_option(self, lookup: str, option: str, **texts: str) -> None:
        """Give an option new texts (`en`, `km`), or add it where the lookup does not have it. KeyError: no such lookup."""
        if self._lookups is None:
            self._lookups = copy.deepcopy(reference.lookups())
        values = {row["unique_id"]: row["values"] for row in self._lookups}[lookup]
        known = next((value for value in values if value["id"] == option), None)
        if known is None:
            values.append({"id": option, "disabled": False, "display_text": {"en": "", "km": "", **texts}})
        else:
            known["display_text"].update(texts)

    def rename_place(self, code: str, **texts: str) -> None:
        """Give a place a new name of its own (`en`, `km`); names of the places below it follow from walking, not here."""
        self._renamed.setdefault(code, {}).update(texts)
        self._edited.clear()

    def retire_place(self, code: str) -> None:
        """Take a place out of the tree; what lay below it stays, as after a careless import."""
        self._retired.add(code)
        self._edited.clear()

    def _renamed_row(self, row: Row) -> Row:
        texts: dict[str, Any] | None = self._renamed.get(row["code"])
        if texts is None or "placename" not in row:
            return row
        return {**row, "placename": {**row["placename"], **texts}}
