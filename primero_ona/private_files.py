"""Files and folders that other accounts of this machine may read or change: refused where they hold what must stay private."""

from __future__ import annotations

import stat
from pathlib import Path

from primero_ona.failures import SettingsFailure


def refuse_open_secret(path: Path, what: str) -> None:
    """Raise SettingsFailure where every account may read or write the file; `what` is how the message calls it.

    Raises OSError where there is no such file.
    """
    if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise SettingsFailure(
            f"{what} holds a secret and is open to every account of this machine; take their rights away (chmod o= FILE)"
        )


def refuse_open_storage(folder: Path) -> None:
    """Raise SettingsFailure where every account may put or replace something in the folder, or the folder itself.

    A folder above it that is open to all, as /tmp is, does no harm where it has the sticky bit. Folders that do not exist
    yet are made for their owner alone.
    """
    for place in (folder, *folder.absolute().parents):
        try:
            mode = place.stat().st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode) and mode & stat.S_IWOTH and (place == folder or not mode & stat.S_ISVTX):
            raise SettingsFailure(
                "the folder of the stored partitions, or one above it, may be written to by every account of this machine; "
                "take their rights away (chmod o-w FOLDER), or let PRIMERO_ONA_STORAGE_URL name another one"
            )
