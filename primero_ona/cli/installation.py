"""`schema`, `metrics`, `alerts` and `code-server`: ONA's tables, and the services that run beside the syncs."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient

from primero_ona.cli import output
from primero_ona.cli.common import AsJson, apply_schema, ona_connection
from primero_ona.errors import ConfigError, TransientError
from primero_ona.graph.dead_runs import ask_for_lost_retries
from primero_ona.graph.metrics import serve, write
from primero_ona.graph.resources import OnaDatabaseResource
from primero_ona.graph.runs import open_instance
from primero_ona.ona.migrations import plan
from primero_ona.ona.roles import roles_sql
from primero_ona.pipeline.alerts import channels
from primero_ona.settings import AlertSettings, OnaSettings, read_one
from primero_ona.tls import is_local

schema = typer.Typer(help="ONA's tables: what is missing, and adding it.", no_args_is_help=True)


@schema.command("plan")
def schema_plan(*, as_json: AsJson = False) -> None:
    """Print what is missing in ONA's database, and the SQL that would add it. Changes nothing."""
    with ona_connection() as connection:
        changes = plan(connection)
    if as_json:
        output.print_json(changes)
        return
    for change in changes:
        output.note(f"-- {change.why}\n{change.sql.strip().rstrip(';')};\n")
    output.note(f"{len(changes)} changes; `primero-ona schema apply` makes them." if changes else "Nothing is missing.")


@schema.command("roles")
def schema_roles() -> None:
    """Print the SQL that makes the database's roles and the dashboards' views, for ONA's administrators. Changes nothing."""
    with ona_connection() as connection:
        typer.echo(roles_sql(connection))


@schema.command("apply")
def schema_apply() -> None:
    """Add what is missing in ONA's database; nothing is ever changed or removed."""
    output.note(f"{apply_schema()} changes made; ONA's tables are as this version needs them.")


def metrics(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to serve on.")] = 9_464,
    address: Annotated[str, typer.Option(help="Address to serve on; there is no login and no TLS.")] = "127.0.0.1",
    textfile: Annotated[
        Path | None, typer.Option(help="Write the figures to this file for node_exporter, and end.")
    ] = None,
) -> None:
    """Serve /metrics for Prometheus and /health for load balancers, until stopped: counts and ages, no data."""
    read_one(OnaSettings)
    with open_instance() as instance:
        if textfile:
            write(instance, OnaDatabaseResource(), textfile)
            output.note(f"Written to {textfile}.")
            return
        output.note(f"http://{address}:{port}/metrics and /health  (stop with Ctrl-C)")
        if not is_local(address):
            output.note("Others may read the counts of loads there; a proxy in front can ask for a login.")
        try:
            with suppress(KeyboardInterrupt):
                serve(instance, OnaDatabaseResource(), address, port)
        except OSError as error:
            raise ConfigError(f"{address}:{port} cannot be had ({error.strerror}); name another with --port") from None


alerts = typer.Typer(help="Messages about faults.", no_args_is_help=True)


@alerts.command("test")
def alerts_test() -> None:
    """Send a message to each address in PRIMERO_ONA_ALERT_URLS, to see that it arrives."""
    to = channels(read_one(AlertSettings))
    if not to:
        raise ConfigError(
            "PRIMERO_ONA_ALERT_URLS is not set, so faults are reported to no one; see docs/settings.md",
            see="alert-address",
        )
    silent = [
        channel.name for channel in to if not channel.send("primero-ona: a test", "Faults will be reported here.")
    ]
    if silent:
        raise TransientError(
            f"no message is taken by {', '.join(silent)}; check the address, the login and the network",
            see="alert-address",
        )
    output.note(f"Sent to {', '.join(channel.name for channel in to)}.")


code_server = typer.Typer(help="Dagster's code server, for the service that runs it.", no_args_is_help=True)

#: Seconds for which a code server may load the graph, or end; a service manager gives up a little later.
_LOADS, _ENDS = 120, 840

Port = Annotated[int, typer.Option("--port", "-p", min=1, max=65_535, help="Its port on 127.0.0.1.")]


@code_server.command("ready")
def code_server_ready(port: Port = 4_000) -> None:
    """Wait until it answers; then end the runs of an earlier one whose processes are gone, so that they are tried again.

    Not before: a retry that is asked for while nothing answers is lost.
    """
    if not _waited(port, _LOADS, answers=True):
        raise TransientError(
            f"no code server answers at port {port} after {_LOADS} seconds; its log says why", see="dagster"
        )
    with open_instance() as instance:
        ask_for_lost_retries(instance)
    output.note("The code server answers.")


@code_server.command("stop")
def code_server_stop(port: Port = 4_000) -> None:
    """Let it start no more runs, and wait until those under way have ended and it has stopped.

    Stop the daemon before: what it launches meanwhile fails.
    """
    with suppress(DagsterUserCodeUnreachableError):
        DagsterGrpcClient(host="127.0.0.1", port=port).shutdown_server()
    if not _waited(port, _ENDS, answers=False):
        raise TransientError(
            f"runs are still under way after {_ENDS // 60} minutes; wait, or terminate them in the UI", see="stuck-run"
        )
    output.note("The code server has stopped.")


def _waited(port: int, seconds: int, *, answers: bool) -> bool:
    """Wait so long for a code server to answer, or to answer no more; whether that came."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            DagsterGrpcClient(host="127.0.0.1", port=port).ping("")
            found = True
        except DagsterUserCodeUnreachableError:
            found = False
        if found == answers:
            return True
        time.sleep(0.5)
    return False
