"""`alerts`: the addresses that faults are reported to."""

from __future__ import annotations

import typer

from primero_ona.cli import output
from primero_ona.errors import ConfigError, TransientError

app = typer.Typer(help="Messages about faults.", no_args_is_help=True)


@app.callback()
def alerts() -> None:
    """Messages about faults."""


@app.command("test")
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
