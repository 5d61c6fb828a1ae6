"""`account`: Primero's account, where it sees fewer cases than before, or its login was refused."""

from __future__ import annotations

from typing import Annotated

import typer

from primero_ona.cli import output
from primero_ona.cli.common import ona_connection

app = typer.Typer(help="Primero's account: what it sees, and a login that was refused.", no_args_is_help=True)


@app.command("accept-cases")
def accept_cases(
    cases: Annotated[int, typer.Argument(min=1, help="How many cases are right, as the failure names them.")],
) -> None:
    """Accept that the account sees so many cases and no more, where pulls fail since it saw more before or ONA has more.

    Ask Primero's administrators first. Cases that are lost from sight stay in ONA as they are. Safe to repeat.
    """
    from primero_ona.ona.primero_state import accept_visible

    with ona_connection() as connection:
        accept_visible(connection, cases)
    output.note(f"Accepted: {cases:,} cases are right. `primero-ona sync` goes on with them.")


@app.command("retry-login")
def retry_login() -> None:
    """Ask Primero once whether it takes the login, though it refused it before; then everything asks again, or nothing does.

    For a login that is right: the account was locked or disabled, and is not any more.
    """
    from primero_ona.graph.resources import PrimeroResource
    from primero_ona.ona.primero_state import forget_refused_logins

    with ona_connection() as connection:
        forget_refused_logins(connection)
    with PrimeroResource().client() as client:
        client.page("cases", {"per": 0, "fields": "status"})
    output.note("Primero takes the login. Syncs and the sensor ask again.")
