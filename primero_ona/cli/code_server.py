"""`code-server`: Dagster's code server as a service starts and stops it, so that no run is lost by that."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated

import typer

from primero_ona.cli import output
from primero_ona.errors import TransientError

app = typer.Typer(
    help="Dagster's code server, for a service: it loads the graph and executes the runs.", no_args_is_help=True
)

Host = Annotated[str, typer.Option("--host", "-h", help="Address to serve on.")]
Port = Annotated[int, typer.Option("--port", "-p", min=1, max=65_535, help="Port to serve on.")]


@app.command("start")
def start(host: Host = "127.0.0.1", port: Port = 4_000) -> None:
    """End the runs of an earlier one whose processes are gone, so that they are tried again; then serve until stopped."""
    from primero_ona.graph.runs import open_instance

    with open_instance():
        pass
    sys.stdout.flush()
    serve = ["-m", "dagster", "code-server", "start", "-h", host, "-p", str(port), "-m", "primero_ona.definitions"]
    os.execv(sys.executable, [sys.executable, *serve])  # noqa: S606 our own interpreter


@app.command("stop")
def stop(
    host: Host = "127.0.0.1",
    port: Port = 4_000,
    wait: Annotated[int, typer.Option(min=0, help="Seconds to wait for runs that are under way.")] = 840,
) -> None:
    """Let a code server take no more runs, and wait until those under way have ended and it has stopped.

    Stop the daemon before, or what it launches meanwhile fails and is tried again.
    """
    from dagster._core.errors import DagsterUserCodeUnreachableError
    from dagster._grpc.client import DagsterGrpcClient

    client, until = DagsterGrpcClient(host=host, port=port), time.monotonic() + wait
    try:
        client.shutdown_server()
        while time.monotonic() < until:
            client.ping("")
            time.sleep(1)
    except DagsterUserCodeUnreachableError:
        output.note("The code server has stopped.")
        return
    raise TransientError(f"the code server still executes runs after {wait} seconds; wait, or terminate them in the UI")
