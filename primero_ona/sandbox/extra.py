"""The optional libraries of the sandbox, imported when they are first needed, and the plain words where one is missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from primero_ona.errors import ConfigError


def extra(module: str) -> ModuleType:
    """Import a library of the `sandbox` extra.

    Raises ConfigError where it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        message = (
            f"the sandbox needs the library {module}, which is not installed; run: pip install 'primero-ona[sandbox]'"
        )
        raise ConfigError(message) from None
