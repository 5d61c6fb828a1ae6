"""Values as Primero sends them, read one at a time: texts, codes, numbers, yes and no."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from primero_ona.texts import listed, read_json

_WHOLE_NUMBER = re.compile(r"0*([0-9]{1,3})(\.0+)?")
_YES = frozenset({"true", "t", "yes", "1"})
_NO = frozenset({"false", "f", "no", "0"})

OLDEST = 130


class Parsed(NamedTuple):
    """What one value becomes, and the codes to report for it (None: something to report that is no code)."""

    value: Any
    reported: tuple[str | None, ...] = ()


def decode(text: str | None) -> Any:  # noqa: ANN401
    """The value behind a JSON text; null for null, and an empty object for a text that is no JSON."""
    if text is None:
        return None
    try:
        return read_json(text.encode())
    except ValueError:
        return {}  # of no use anywhere


def clean(text: str) -> str | None:
    """A text without NUL characters, which PostgreSQL cannot hold, and without blanks around it; blank is null."""
    return text.replace("\0", "").strip() or None


def scalar_text(value: Any) -> str | None:  # noqa: ANN401
    """The text of a text, a number (its digits) or a JSON boolean; null for anything else, and for blank text."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:  # beyond it, digits would be invented
        return str(int(value))
    return str(value) if isinstance(value, int | float) else None


def key_text(value: Any) -> str | None:  # noqa: ANN401
    """A key, as text; null where there is none."""
    return None if isinstance(value, bool) else scalar_text(value)


def codes_of(value: Any) -> list[str | None]:  # noqa: ANN401
    """The codes of a value, or of the elements of a list, without empty ones; None for an object or a list within a list.

    A text may be a list, too.
    """
    elements = []
    for element in value if isinstance(value, list) else [value]:
        read = listed(element)
        elements += read if isinstance(element, str) and isinstance(read, list) else [element]
    codes = [(element, scalar_text(element)) for element in elements]
    return [code for element, code in codes if code is not None or isinstance(element, dict | list)]


def is_true(value: Any) -> bool:  # noqa: ANN401
    """Whether a flag of Primero's own is set: JSON true, or the text `true`."""
    return _folded(value) == "true"


def _folded(value: Any) -> str | None:  # noqa: ANN401
    text = scalar_text(value)
    return None if text is None else text.lower()


def parse_age(value: Any) -> Parsed:  # noqa: ANN401
    """The age in years and its group; an age that is missing or cannot be read is null, `unknown`, and reported."""
    age = _whole_number(value)
    if age is None or not 0 <= age <= OLDEST:
        return Parsed((None, "unknown"), (None,))
    return Parsed((age, _age_group(age)))


def _whole_number(value: Any) -> int | None:  # noqa: ANN401
    if isinstance(value, str):
        match = _WHOLE_NUMBER.fullmatch(clean(value) or "")
        return int(match[1]) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == int(value) else None


def _age_group(age: int) -> str:
    for first, last in ((0, 4), (5, 9), (10, 14), (15, 17)):
        if age <= last:
            return f"{first}-{last}"
    return "18+"


def parse_case_source(value: Any) -> Parsed:  # noqa: ANN401
    """`oscar` for a case that OSCaR knows by a number, else `primero`; the number itself is not kept."""
    blank = isinstance(value, str) and clean(value) is None
    return Parsed("primero" if value in (None, False, 0) or blank else "oscar")


def parse_consent(value: Any) -> Parsed:  # noqa: ANN401
    """Two texts: `true` or `false` as the dashboards know it, and `given`, `refused` or `not recorded`."""
    text = _folded(value)
    if text in _YES:
        return Parsed(("true", "given"))
    if text in _NO:
        return Parsed(("false", "refused"))
    read = listed(value)
    reported = [None] * bool(read) if isinstance(read, list) else codes_of(value)
    return Parsed(("false", "not recorded"), tuple(reported))


def parse_option_name(value: Any) -> Parsed:  # noqa: ANN401
    """The words of an option id without its numeric suffix: `kinship_care_12345` becomes `kinship care`."""
    return parse_codes(value, _option_name)


def _option_name(code: str) -> str | None:
    parts = [part.strip() for part in code.split("_")]
    if re.fullmatch("[0-9]+", parts[-1]):
        parts.pop()
    return " ".join(part for part in parts if part) or None


def parse_codes(value: Any, name: Callable[[str], str | None] = str) -> Parsed:  # noqa: ANN401
    """The codes themselves, or their names, joined with `, `."""
    codes = codes_of(value)
    return Parsed(joined(name(code) for code in codes if code is not None), (None,) * codes.count(None))


def joined(texts: Iterable[str | None]) -> str | None:
    """The texts joined with `, `; null where there are none."""
    return ", ".join(text for text in texts if text is not None) or None
