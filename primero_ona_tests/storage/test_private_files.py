"""Storage that every account of the machine may write to is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from primero_ona.errors import ConfigError
from primero_ona.storage.partitions import PartitionStore

KEY = Fernet.generate_key().decode()


def folders(top: Path, modes: dict[str, int]) -> Path:
    """Nested folders with these modes; the innermost one."""
    place = top
    for name, mode in modes.items():
        place = place / name
        place.mkdir()
        place.chmod(mode)
    return place


@pytest.mark.parametrize(
    "modes",
    [
        {"partitions": 0o777},
        {"partitions": 0o1777},
        {"partitions": 0o702},
        {"home": 0o777, "partitions": 0o700},
        {"home": 0o777, "new": 0o755, "partitions": 0o700},
    ],
    ids=["all", "all, sticky", "others alone", "the folder above", "two above"],
)
@pytest.mark.proves("stored-partitions")
def test_storage_that_every_account_may_write_to_is_refused(tmp_path, modes):
    """Any account could put an older partition, or another manifest, in place of what was stored."""
    folder = folders(tmp_path, modes)
    with pytest.raises(ConfigError, match="chmod o-w"):
        PartitionStore(folder, KEY)
    if "home" in modes:
        with pytest.raises(ConfigError):
            PartitionStore((folder / "not" / "there" / "yet"), KEY)


@pytest.mark.parametrize(
    "modes", [{"partitions": 0o755}, {"partitions": 0o770}, {"tmp": 0o1777, "partitions": 0o700}], ids=str
)
def test_storage_of_one_owner_or_group_is_used(tmp_path, modes):
    """A folder in /tmp is safe: there no account may take away what another made."""
    assert PartitionStore((folders(tmp_path, modes)), KEY)
