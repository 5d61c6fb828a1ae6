"""Writing a file of this machine so that it is there whole or not at all, a full disk and a kill included."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write `path` by way of a file beside it; what is no plain file, as /dev/stdout, is written to as it is.

    `mode` is that of the new file, cut by the umask. Raises OSError; the old file stands then, and nothing lies beside it.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
