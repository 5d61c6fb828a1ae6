"""Findings: what the mapping could not turn into a value, by field, code and count.

What belongs here: counting, and the decision whether a code may be shown. What is found is decided where values are
read.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

#: Primero makes option ids from printable ASCII without blanks. Whatever else stands where a code is due is text that
#: somebody wrote, in Khmer perhaps, where a sentence needs no blanks, or an e-mail address: counted, never shown.
#: 100 characters is the limit of the mapping's specification.
_CODE = re.compile(r"[!-?A-~]{1,100}")


def is_code(text: str) -> bool:
    """Whether a text has the shape of an option id, so that it may be shown."""
    return _CODE.fullmatch(text) is not None


class Findings:
    """A counter of (field, code); the code is None where it may not be shown or where none can be told."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str | None]] = Counter()

    def add(self, field: str, code: str | None, count: int = 1) -> None:
        """Count a code found `count` times in a field of Primero; one that may not be shown is forgotten."""
        shown = code if code is not None and is_code(code) else None
        self._counts[field, shown] += count

    def merge(self, other: Findings) -> None:
        """Add the counts of another batch to these."""
        self._counts.update(other._counts)

    def as_list(self) -> list[dict[str, Any]]:
        """The findings as `{"field", "code", "count"}`, ordered by field and code."""
        ordered = sorted(self._counts.items(), key=lambda item: (item[0][0], item[0][1] or ""))
        return [{"field": field, "code": code, "count": count} for (field, code), count in ordered]
