"""`doctor` and `config`: everything that a sync needs, looked at in turn, what to do where it is not well, and the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

import typer

from primero_ona.cli import output
from primero_ona.cli.common import AsJson, build_defs, ona_connection, primero_client
from primero_ona.cli.settings_docs import look_at_settings, show_settings
from primero_ona.errors import Area, Diagnosis
from primero_ona.graph.machine import look_at_dagster, look_at_storage
from primero_ona.ona.diagnosis import diagnose as diagnose_ona
from primero_ona.ona.diagnosis import newest_cases
from primero_ona.pipeline.account import known_fields
from primero_ona.pipeline.alerts import channels
from primero_ona.primero.diagnosis import diagnose as diagnose_primero
from primero_ona.primero.diagnosis import scope
from primero_ona.process import described
from primero_ona.settings import AlertSettings, OnaSettings, read_one

#: Seconds that all questions to Primero may take together.
_PRIMERO_SECONDS = 60


def doctor(*, as_json: AsJson = False) -> None:
    """Look at the settings, Primero, ONA, the storage and Dagster, and say what to do where something is not well.

    Changes nothing. The exit code is that of the worst line.
    """
    found = []
    for line in diagnose():
        found.append(line)
        if not as_json:
            output.note(f"{line.state:12}  {line.area}: {line.what}: {line.text}")
    code = output.exit_code(*(line.kind for line in found))
    if as_json:
        lines = [{**asdict(line), "exit_code": output.exit_code(line.kind)} for line in found]
        output.print_json({"exit_code": code, "lines": lines})
    else:
        failed = sum(line.state == "failed" for line in found)
        output.note(f"{failed} of {len(found)} need something to be done." if failed else "All is well.")
    raise typer.Exit(code)


def diagnose() -> Iterator[Diagnosis]:
    """Look at one area after the other; what goes wrong in one does not keep the others from being looked at."""
    lines = list(look_at_settings())
    yield from lines

    well = {line.what for line in lines if line.state == "ok"}
    facts: dict[str, Any] = {}
    looks: tuple[tuple[str, Callable[[], Iterator[Diagnosis]], set[str]], ...] = (
        ("ONA", partial(_look_at_ona, facts), {"ONA"}),
        ("Primero", partial(_look_at_primero, facts), {"Primero"}),
        ("storage", look_at_storage, {"storage", "graph", "alerts"}),
        ("Dagster", partial(look_at_dagster, build_defs, datetime.now(UTC)), {"graph", "alerts"}),
        ("alerts", _look_at_alerts, {"alerts"}),
    )
    for area, look, needs in looks:
        if not needs <= well:
            yield Area(area).skipped("all", "its settings have to be right first")
            continue
        try:
            yield from look()
        except Exception as error:  # noqa: BLE001 whatever it is, its text may quote data, so it ends here
            yield Diagnosis(area, "look", "failed", *described(error))


def _look_at_ona(facts: dict[str, Any]) -> Iterator[Diagnosis]:
    """Look at ONA's database; where it is well, `facts` gets what the look at Primero needs of it."""
    settings = read_one(OnaSettings)
    lines = list(diagnose_ona(settings.database_url.get_secret_value(), insecure=settings.insecure))
    yield from lines
    if all(line.state in {"ok", "warning"} for line in lines):
        with ona_connection() as connection:
            facts.update(known=known_fields(connection), cases=newest_cases(connection))


def _look_at_primero(facts: dict[str, Any]) -> Iterator[Diagnosis]:
    with primero_client(total=_PRIMERO_SECONDS) as client:
        lines = list(diagnose_primero(client, facts.get("known")))
        yield from lines
        if facts.get("cases") and any(line.what == "login" and line.state == "ok" for line in lines):
            yield scope(client, facts["cases"])


def _look_at_alerts() -> Iterator[Diagnosis]:
    """Whether faults are reported to anyone."""
    if to := channels(read_one(AlertSettings)):
        text = f"{', '.join(channel.name for channel in to)}; `primero-ona alerts test` sends each a message"
        yield Area("alerts").ok("addresses", text)
    else:
        text = "faults are reported to no one; set PRIMERO_ONA_ALERT_URLS, see docs/settings.md"
        yield Area("alerts").warning("addresses", text)


config = typer.Typer(help="The settings.", no_args_is_help=True)


@config.command("show")
def config_show(*, as_json: AsJson = False) -> None:
    """Print every setting, its value (of a secret only whether it is set), its default, and how connections are protected."""
    lines = show_settings()
    if as_json:
        output.print_json(lines)
        return
    for line in lines:
        default = "" if "default: " in line.description else f"; default: {line.default}"
        output.note(f"{line.variable}: {line.value}\n    {line.description}{default}")
