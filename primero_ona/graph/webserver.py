"""The Dagster UI of `primero-ona dev`, for the browser of this machine only, and the daemon beside it.

Dagster's own webserver knows no login, answers to any name, and runs what comes to `/graphql` by GET, so that a foreign web page
with one image could start runs. Here a guard stands in front of it. `python -m primero_ona.graph.webserver PORT` runs the UI alone.
In production nginx does this, with a login (`deploy/nginx.conf`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import dagster as dg
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocketClose

from primero_ona.errors import ConfigError
from primero_ona.graph.metadata import EXTRACT, INDICATORS, LOAD, MAP, READERS, REFERENCE, SOURCE
from primero_ona.graph.run_guard import GuardedInstance
from primero_ona.graph.runs import open_instance

#: The lineage with its groups opened; Dagster shows them folded otherwise.
LINEAGE = "/asset-groups?expanded=" + ",".join(
    f"global@global:{group}" for group in (SOURCE, REFERENCE, EXTRACT, MAP, LOAD, INDICATORS, READERS)
)

#: The code location, seen from the working directory.
_WORKSPACE = "workspace.yaml"

#: Signals that end the UI and the daemon: Ctrl-C, the end of a service, and a terminal that was closed.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class OnlyOwnPages:
    """ASGI middleware: admits requests to its own address, from its own pages, by the methods that the UI uses.

    That is: `Host` is 127.0.0.1 or localhost with our port, so that a foreign name that is rebound to this machine is refused;
    `Origin`, where a browser sends it, is ours; `/graphql` comes by POST or as a websocket, all else by GET or HEAD.
    """

    def __init__(self, app: Any, port: int) -> None:  # noqa: ANN401  any ASGI application
        self._app = app
        # A browser leaves out the port 80.
        written = (f":{port}", "") if port == 80 else (f":{port}",)
        self._hosts = {f"{name}{number}" for name in ("127.0.0.1", "localhost") for number in written}
        self._origins = {f"http://{host}" for host in self._hosts}
        self._address = f"http://127.0.0.1:{port}/"

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401
        """See ASGI."""
        status, text = (0, "") if scope["type"] == "lifespan" else self._refusal(scope)
        answer = self._app
        if status and scope["type"] == "websocket":
            # Closed before it was accepted, so the browser gets a 403.
            answer = WebSocketClose(1008, text)
        elif status:
            answer = PlainTextResponse(f"{text}\n", status, {"cache-control": "no-store"})
        await answer(scope, receive, send)

    def _refusal(self, scope: MutableMapping[str, Any]) -> tuple[int, str]:
        """The status and the reason of a refusal; 0 where there is none."""
        sent = Headers(scope=scope)
        hosts = sent.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return 403, f"refused: this is not the address of this Dagster UI; open {self._address}"
        if not self._origins.issuperset(sent.getlist("origin")):
            return 403, f"refused: a page of another site asks; only pages of {self._address} may"
        if scope["type"] == "websocket":
            return (0, "") if scope["path"] == "/graphql" else (403, "refused: a websocket is at /graphql only")
        if scope["path"] == "/graphql":
            return (0, "") if scope["method"] == "POST" else (405, "refused: /graphql takes POST and websockets")
        return (0, "") if scope["method"] in {"GET", "HEAD"} else (405, "refused: only /graphql takes more than GET")


def serve(port: int) -> None:
    """Serve the UI on 127.0.0.1 until the process is stopped."""
    target = WorkspaceFileTarget([_WORKSPACE])
    with (
        suppress(KeyboardInterrupt),
        dg.DagsterInstance.get() as instance,
        WorkspaceProcessContext(instance, target, dg.__version__, code_server_log_level="WARNING") as context,
    ):
        app = create_app_from_workspace_process_context(context, live_data_poll_rate=2_000)
        app.add_middleware(OnlyOwnPages, port=port)
        # A browser keeps its websocket open; without a limit it would keep the process, too.
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=5)


def run_ui_and_daemon(port: int) -> int:
    """Run the guarded UI and Dagster's daemon until one ends or we are interrupted; 0 if it was us who ended them.

    Raises ConfigError where Dagster's instance would not refuse runs that name addresses, keys or images.
    """
    # Opened here first, since two processes that make its files at the same moment spoil them.
    with open_instance() as instance:
        if not isinstance(instance, GuardedInstance):
            raise ConfigError(
                "dagster.yaml in DAGSTER_HOME is that of an older version and lacks instance_class; copy the new one there",
                see="dagster",
            )
    environment = {**os.environ, "DAGSTER_REDACT_USER_CODE_ERRORS": "1", "DAGSTER_DISABLE_TELEMETRY": "1"}
    # A shell that starts us in the background lets us inherit an ignored SIGINT, and with it Dagster's processes, which
    # then could not be stopped; a handler here gives them the default one back.
    for ending in _ENDING:
        signal.signal(ending, signal.default_int_handler)
    arguments = (["primero_ona.graph.webserver", str(port)], ["dagster._daemon", "run", "-w", _WORKSPACE])
    # Each in a session of its own, so that Ctrl-C reaches them once, through us.
    processes = [
        subprocess.Popen([sys.executable, "-m", *words], env=environment, start_new_session=True)  # noqa: S603 our own interpreter
        for words in arguments
    ]
    try:
        while not (ended := [process for process in processes if process.poll() is not None]):
            time.sleep(0.5)
        return ended[0].returncode or 1
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(processes)
        with open_instance() as instance:
            # Else a command would hand its runs to this daemon for two minutes more.
            instance.wipe_daemon_heartbeats()


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Interrupt the processes, wait for their end, and kill what does not come to it in a minute."""
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_IGN)
    for process in processes:
        process.send_signal(signal.SIGINT)
    for process in processes:
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
