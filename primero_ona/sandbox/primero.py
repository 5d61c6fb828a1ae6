"""A synthetic Primero over HTTP: for the demo, for development and for tests. Never for production, never with real data.

with SandboxPrimero(cases=3_000, seed=1).serve() as server:
    requests.get(server.url + "/api/v2/cases", auth=(server.username, server.password))
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import uvicorn

from primero_ona.errors import TransientError
from primero_ona.quarters import Quarter
from primero_ona.sandbox import births
from primero_ona.sandbox.access import PASSWORD, USERNAME, Login, Role
from primero_ona.sandbox.app import Endpoints, Switches
from primero_ona.sandbox.cases import DEFAULT_CASES, Wish, generate
from primero_ona.sandbox.changes import ReferenceData
from primero_ona.sandbox.control import Control
from primero_ona.sandbox.faults import Fault, Faults, Kind
from primero_ona.sandbox.server import LogEntry, SandboxServer
from primero_ona.sandbox.store import CaseStore

HOST: Final = "127.0.0.1"
#: Seconds a start may take before it counts as failed: it takes a tenth of one on an idle machine.
_START = 20
#: Seconds to wait for answers to end before the log is shown; an answer that never ends is not waited for any longer.
_NOTED = 1.0

Edit = Callable[["SandboxPrimero"], object]


def _now() -> datetime:
    return datetime.now(UTC)


class SandboxPrimero:
    """A Primero with synthetic cases, a number of them, a wish for them or a store that is there already.

    `clock` gives the aware time at which edits are stamped. `switches`, `faults` and `role` may be changed while it runs.
    """

    username = USERNAME
    password = PASSWORD

    def __init__(
        self,
        cases: int | Wish | CaseStore = DEFAULT_CASES,
        *,
        seed: int = 0,
        now: datetime | None = None,
        clock: Callable[[], datetime] = _now,
        switches: Switches | None = None,
    ) -> None:
        wish = Wish(cases, seed, now or clock()) if isinstance(cases, int) else cases
        self.cases = wish if isinstance(wish, CaseStore) else generate(wish)
        self.clock = clock
        self.switches = switches or Switches()
        self.faults = Faults()
        self.login = Login(self._time)
        self._endpoints = Endpoints(self.cases, self.switches, self.login)
        self._app = SandboxServer(self._endpoints, self.faults)
        self._waiting: list[tuple[int, Edit]] = []
        self._app.after.append(self._run_waiting)
        self._port: int | None = None

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end; it must be serving."""
        return f"http://{HOST}:{self._port}"

    @property
    def role(self) -> Role:
        """What the user may do."""
        return self.switches.role

    @property
    def reference(self) -> ReferenceData:
        """Lookups and places, which may be edited while it runs."""
        return self._endpoints.reference

    @property
    def log(self) -> deque[LogEntry]:
        """The requests answered so far, oldest first; clear it to count from zero.

        An answer is noted when it has ended, a moment after a client has read it, so this waits for those under way.
        """
        until = time.monotonic() + _NOTED
        while self._app.under_way and time.monotonic() < until:
            self._app.stopping.wait(0.001)
        return self._app.log

    def fail(self, kind: Kind, **details: Any) -> Fault:  # noqa: ANN401
        """Let coming requests meet a fault; see `faults.Kind`, and the fields of `faults.Fault` for `details`."""
        return self.faults.add(kind, **details)

    def update(self, case: str, **changes: Any) -> None:  # noqa: ANN401
        """Save a case with changes; `last_updated_at` moves to now, unless it is among them.

        Raises KeyError where there is no such case.
        """
        self.cases.update(self._row(case), changes, self.clock())

    def type_age(self, case: str, age: int) -> None:
        """Save a case as the browser does when an age is typed: the date of birth becomes a 1 January."""
        self.update(case, age=age, date_of_birth=births.birthday_of(age, self.clock().date()))

    def recalculate_ages(self) -> list[str]:
        """Do what Primero's nightly job does: raise the ages of those whose birthday it is, which saves their cases.

        `last_updated_at` moves to now. Returns the ids of the cases that were saved.
        """
        today, saved = self.clock().date(), []
        for row in np.flatnonzero(
            self.cases.alive
            & self.cases.mask("date_of_birth", lambda birth: births.raised_age(birth, today) is not None)
        ).tolist():
            case = self.cases.record(row)
            age = births.raised_age(case["date_of_birth"], today)
            if age != case.get("age"):
                self.update(case["id"], age=age)
                saved.append(case["id"])
        return saved

    def disable(self, case: str) -> None:
        """Do what `DELETE /cases/:id` does: `record_state` becomes false, the case stays."""
        self.update(case, record_state=False)

    def delete(self, case: str) -> None:
        """Take a case away without a trace, as an operator's script does."""
        self.cases.delete(self._row(case))

    def create(self, **fields: Any) -> str:  # noqa: ANN401
        """Register a case and return its id; times may be aware datetimes, ABSENT leaves a default key out."""
        return self.cases.create(fields, self.clock())

    def _time(self) -> datetime:
        return self.clock()

    def _row(self, case: str) -> int:
        row = self.cases.row_of(case)
        if row is None:
            raise KeyError(case)
        return row

    def after(self, requests: int, edit: Edit) -> None:
        """Edit in mid-pull: once so many more answers of the case list were made, before the last of them is sent."""
        self._waiting.append((requests, edit))

    def _run_waiting(self, path: str) -> None:
        if path != "/api/v2/cases":
            return
        counted = [(left - 1, edit) for left, edit in self._waiting]
        self._waiting = [(left, edit) for left, edit in counted if left > 0]
        for left, edit in counted:
            if left <= 0:
                edit(self)

    @contextlib.contextmanager
    def serve(self, port: int = 0) -> Iterator[SandboxPrimero]:
        """Answer on 127.0.0.1 while the block runs, in a thread; port 0 is any free one.

        Raises TransientError where the port is taken.
        """
        sock = _listen(port)
        self._port = sock.getsockname()[1]
        self._app.stopping.clear()
        server = uvicorn.Server(_config(self._app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="sandbox-primero", daemon=True)
        thread.start()
        try:
            _wait(lambda: server.started or not thread.is_alive())
            yield self
        finally:
            self._app.stopping.set()
            server.should_exit = True
            thread.join(_START)
            sock.close()

    def run(self, port: int) -> None:
        """Answer on 127.0.0.1 until interrupted, with the control endpoint `/_sandbox`."""
        self._app.control = Control(self).handle
        sock = _listen(port)
        self._port = sock.getsockname()[1]
        print(f"sandbox Primero: {self.url}  user {USERNAME}, password {PASSWORD}  (synthetic data)", flush=True)  # noqa: T201
        try:
            uvicorn.Server(_config(self._app)).run(sockets=[sock])
        except KeyboardInterrupt:
            return


def _config(app: SandboxServer) -> uvicorn.Config:
    # asyncio's loop: a reset needs the real socket, which uvloop hides; one second ends answers that never would
    return uvicorn.Config(
        app,
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        server_header=False,
        date_header=False,  # it is the sandbox's clock that a client must see
    )


def _listen(port: int) -> socket.socket:
    # the protocol is named, for asyncio switches Nagle off only then: without, a small answer takes 40 ms
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
        sock.listen()  # from here on a client waits instead of being refused
    except OSError:
        sock.close()
        raise TransientError(
            f"the sandbox cannot listen on {HOST}:{port}, something else does; choose another port"
        ) from None
    return sock


def _wait(ready: Callable[[], bool]) -> None:
    until = time.monotonic() + _START
    while not ready():
        if time.monotonic() > until:
            raise TransientError("the sandbox's Primero did not start; the machine may be overloaded, try again")
        time.sleep(0.01)


def main(arguments: list[str] | None = None) -> None:
    """Run a sandbox Primero as a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m primero_ona.sandbox.primero", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--cases", type=int, default=DEFAULT_CASES, help="how many synthetic cases")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same cases")
    parser.add_argument("--quarter", type=Quarter.parse, help="put all cases in one quarter, such as 2024-Q1")
    parser.add_argument(
        "--shared-ids", action="store_true", help="services have the ids of their types, as OSCaR sends them"
    )
    parser.add_argument("--latency-ms", type=float, default=0, help="added to each request")
    parser.add_argument("--version", default=Switches.version, help="the Primero version to behave as")
    chosen = parser.parse_args(arguments)
    wish = Wish(chosen.cases, chosen.seed, quarter=chosen.quarter, shared_ids=chosen.shared_ids)
    switches = Switches(version=chosen.version, latency_ms=chosen.latency_ms)
    SandboxPrimero(wish, switches=switches).run(chosen.port)


if __name__ == "__main__":
    main()
