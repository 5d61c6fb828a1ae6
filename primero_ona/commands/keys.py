"""`keys`: the keys of the stored partitions."""

from __future__ import annotations

import typer

app = typer.Typer(help="Keys of the stored partitions.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Keys of the stored partitions."""


@app.command("new")
def keys_new() -> None:
    """Print a new key for PRIMERO_ONA_STORAGE_KEYS."""
    from cryptography.fernet import Fernet  # noqa: PLC0415

    typer.echo(Fernet.generate_key().decode())
