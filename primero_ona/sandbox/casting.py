"""From a query string to values, as Rails and Primero's DestringifyService read it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import unquote_plus

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})[T\s]+(\d{1,2}):(\d{2}):(\d{2})(?:\.(\d*))?\s*(Z|[-+]\d{2}(?::\d{2})?)?",
)
_KEY = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True)
class Range:
    """`lower..upper`; a missing end is None."""

    lower: Any
    upper: Any


def parse(query: str) -> dict[str, Any]:
    """The parameters of a query string: texts, and dicts for `f[key]=…`; `f[]=…` counts on; the last one wins."""
    found: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        name, _, text = (unquote_plus(piece, errors="replace") for piece in part.partition("="))
        keys = [name.split("[", 1)[0], *_KEY.findall(name)]
        _put(found, keys, text)
    return found


def _put(found: dict[str, Any], keys: list[str], text: str) -> None:
    for key in keys[:-1]:
        if not isinstance(found.get(key), dict):
            found[key] = {}
        found = found[key]
    found[keys[-1] or str(len(found))] = text


def cast(value: Any) -> Any:  # noqa: ANN401
    """What a parameter becomes: None, date, datetime (UTC), bool, int, list, Range or str."""
    if isinstance(value, dict):
        return _cast_nested(value)
    if (simple := _cast_simple(value)) is not value:
        return simple
    if "," in value:
        return [cast(part) for part in value.split(",")]
    if ".." in value:
        lower, _, upper = value.partition("..")
        return Range(cast(lower), cast(upper))
    return value


def _cast_nested(value: dict[str, Any]) -> Any:  # noqa: ANN401
    if value.keys() & {"from", "to"}:
        return Range(cast(value.get("from", "")), cast(value.get("to", "")))
    if all(key.isdigit() for key in value):
        return [cast(part) for part in value.values()]
    return {key: cast(part) for key, part in value.items()}


def _cast_simple(value: str) -> Any:  # noqa: ANN401
    if value == "":
        return None
    if value in {"true", "false"}:
        return value == "true"
    if re.fullmatch(r"\d+", value, re.ASCII):
        return int(value)
    if _DATE.fullmatch(value):
        return _or_text(value, lambda: date.fromisoformat(value))
    if match := _TIME.fullmatch(value):
        return _or_text(value, lambda: _time(match))
    return value


def _time(match: re.Match[str]) -> datetime:
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    micro = int((fraction or "").ljust(6, "0")[:6])
    moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), micro, tzinfo=UTC)
    if zone in {None, "Z"}:
        return moment
    hours, _, minutes = zone[1:].partition(":")
    offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
    return moment + offset if zone[0] == "-" else moment - offset


def _or_text(text: str, made: Any) -> Any:  # noqa: ANN401
    """An impossible date or time stays a text."""
    try:
        return made()
    except (ValueError, OverflowError):
        return text
