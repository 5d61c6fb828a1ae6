"""Texts as people see them, made comparable: Khmer carries marks that are seen by nobody and differ for no reason.

What belongs here: cleaning and comparing short texts, names and labels, and lists that were written as a text. What does
not belong here: which text is right.
"""

from __future__ import annotations

from typing import Any

import orjson

#: U+200B tells a browser where a Khmer line may break. It belongs in what is shown, and never in a comparison.
_BREAK = "\u200b"
#: A blank at which no line breaks; people type it without knowing.
_HARD_BLANK = "\u00a0"


def plain(text: str | None) -> str:
    """The text without U+200B, with ordinary blanks, and without blanks around it; empty for null."""
    return (text or "").replace(_BREAK, "").replace(_HARD_BLANK, " ").strip()


def same(one: str | None, other: str | None) -> bool:
    """Whether two texts are the same to a reader; null and blank are the same."""
    return plain(one) == plain(other)


def listed(value: Any) -> Any:  # noqa: ANN401
    """Read a text that is itself a JSON list, as older versions of Primero left them: `["refugee"]` is that list.

    Any other value comes back as it is.
    """
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return orjson.loads(value.strip())
    except orjson.JSONDecodeError:
        return value
