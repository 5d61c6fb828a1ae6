"""`keys`: the keys of the stored partitions."""

from __future__ import annotations

import typer

from primero_ona.cli import output
from primero_ona.cli.common import stored_assets

app = typer.Typer(help="Keys of the stored partitions.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Keys of the stored partitions."""


@app.command("rotate")
def keys_rotate() -> None:
    """Re-encrypt all stored partitions with the first key of PRIMERO_ONA_STORAGE_KEYS; then the others can go."""
    from primero_ona.graph.resources import OnaDatabaseResource
    from primero_ona.pipeline.upkeep import rotate

    with stored_assets() as stored:
        count = rotate(stored, OnaDatabaseResource().connection)
    output.note(f"{count} stored partitions re-encrypted with the newest key; older keys are not needed any more.")


@app.command("new")
def keys_new() -> None:
    """Print a new key for PRIMERO_ONA_STORAGE_KEYS."""
    from cryptography.fernet import Fernet

    typer.echo(Fernet.generate_key().decode())
