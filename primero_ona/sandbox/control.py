"""The control endpoint `/_sandbox` of a sandbox that runs as a process of its own: switches, faults and edits as JSON.

Only on 127.0.0.1, only in the sandbox. A GET tells the state and the request log; a POST takes an object with any of
`switches` (fields of Switches), `role` (fields of Role), `faults` (a list of Fault's fields), `well` (true takes all faults
away), `night` (true runs the nightly job that raises ages), `edits` (a list of `{"edit":
"update"|"disable"|"delete"|"create", "id": …, "changes": {…}, "after": n}`) and `reference` (a list of `{"edit":
"set_option"|"rename_place"|"retire_place", …}` with what these methods of ReferenceData take).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request

from primero_ona.sandbox.changes import ReferenceData

if TYPE_CHECKING:
    from primero_ona.sandbox.primero import SandboxPrimero

#: Requests that a GET tells: enough for one pull.
_TOLD = 500


class Control:
    """Does what a control request asks for."""

    def __init__(self, primero: SandboxPrimero) -> None:
        self._primero = primero

    async def handle(self, request: Request) -> dict[str, Any]:
        """Answer a request; a POST that cannot be understood gets an error, and may have been done in part."""
        if request.method != "POST":
            return self._state()
        try:
            return {"done": True, "created": self._order(orjson.loads(await request.body()))}
        except (ValueError, TypeError, KeyError, AttributeError) as failed:
            return {"done": False, "error": f"{type(failed).__name__}: {failed}"}

    def _state(self) -> dict[str, Any]:
        log = list(self._primero.log)
        return {
            "cases": len(self._primero.cases),
            "version": self._primero.switches.version,
            "requests": len(log),
            "log": [dataclasses.asdict(entry) for entry in log[-_TOLD:]],
        }

    def _order(self, order: Mapping[str, Any]) -> list[str]:
        _set(self._primero.switches, order.get("switches", {}))
        _set(self._primero.role, order.get("role", {}))
        if order.get("well"):
            self._primero.faults.clear()
        for fault in order.get("faults", []):
            self._primero.fail(**fault)
        if order.get("night"):
            self._primero.recalculate_ages()
        for edit in order.get("reference", []):
            _edit_reference(self._primero.reference, **edit)
        return [case for edit in order.get("edits", []) if (case := self._edit(edit))]

    def _edit(self, edit: Mapping[str, Any]) -> str | None:
        if after := edit.get("after"):
            self._primero.after(after, lambda _: self._edit({**edit, "after": 0}))
            return None
        changes = edit.get("changes", {})
        if edit["edit"] == "create":
            return self._primero.create(**changes)
        if edit["edit"] == "update":
            self._primero.update(edit["id"], **changes)
        elif edit["edit"] in {"disable", "delete"}:
            getattr(self._primero, edit["edit"])(edit["id"])
        else:
            raise ValueError(f"{edit['edit']!r} is no edit")
        return None


def _edit_reference(data: ReferenceData, edit: str, **values: str) -> None:
    edits: dict[str, Callable[..., None]] = {
        "set_option": data.set_option,
        "rename_place": data.rename_place,
        "retire_place": data.retire_place,
    }
    edits[edit](**values)


def _set(target: object, values: Mapping[str, Any]) -> None:
    """Set known attributes; a JSON list becomes a set where one is held."""
    for name, value in values.items():
        before = getattr(target, name)
        setattr(target, name, set(value) if isinstance(before, set) else value)
