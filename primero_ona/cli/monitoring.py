"""`metrics` and `alerts`: figures of operation for Prometheus, a health answer, and a test of the addresses for faults."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from primero_ona.cli import output
from primero_ona.errors import ConfigError, TransientError
from primero_ona.tls import is_local


def metrics(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to serve on.")] = 9_464,
    address: Annotated[str, typer.Option(help="Address to serve on; there is no login and no TLS.")] = "127.0.0.1",
    textfile: Annotated[
        Path | None, typer.Option(help="Write the figures to this file for node_exporter, and end.")
    ] = None,
) -> None:
    """Serve /metrics for Prometheus and /health for load balancers, until stopped: counts and ages, no data."""
    from primero_ona.graph.metrics import serve, write
    from primero_ona.graph.resources import OnaDatabaseResource
    from primero_ona.graph.runs import ensure_home, open_instance
    from primero_ona.settings import OnaSettings, read_one

    read_one(OnaSettings)
    ensure_home()
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


@alerts.callback()
def _alerts() -> None:
    """Messages about faults."""


@alerts.command("test")
def alerts_test() -> None:
    """Send a message to each address in PRIMERO_ONA_ALERT_URLS, to see that it arrives."""
    from primero_ona.pipeline.alerts import channels
    from primero_ona.settings import AlertSettings, read_one

    to = channels(read_one(AlertSettings))
    if not to:
        raise ConfigError("PRIMERO_ONA_ALERT_URLS is not set, so faults are reported to no one; see docs/settings.md")
    silent = [
        channel.name for channel in to if not channel.send("primero-ona: a test", "Faults will be reported here.")
    ]
    if silent:
        raise TransientError(
            f"no message is taken by {', '.join(silent)}; check the address, the login and the network"
        )
    output.note(f"Sent to {', '.join(channel.name for channel in to)}.")
