"""`schema`: ONA's tables, what is missing, and adding it."""

from __future__ import annotations

import typer

from primero_ona.cli import output
from primero_ona.cli.common import AsJson, apply_schema, ona_connection

app = typer.Typer(help="ONA's tables: what is missing, and adding it.", no_args_is_help=True)


@app.command("plan")
def schema_plan(*, as_json: AsJson = False) -> None:
    """Print what is missing in ONA's database, and the SQL that would add it. Changes nothing."""
    from primero_ona.ona.migrations import plan

    with ona_connection() as connection:
        output.show_changes(plan(connection), as_json=as_json)


@app.command("roles")
def schema_roles() -> None:
    """Print the SQL that makes the database's roles and the dashboards' views, for ONA's administrators. Changes nothing."""
    from primero_ona.ona.roles import roles_sql

    with ona_connection() as connection:
        typer.echo(roles_sql(connection))


@app.command("apply")
def apply() -> None:
    """Add what is missing in ONA's database; nothing is ever changed or removed."""
    output.note(f"{apply_schema()} changes made; ONA's tables are as this version needs them.")
