"""Comparing Khmer and English texts, and JSON, lists, location codes and ids of cases that are texts."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from typing import Any

import orjson

#: Characters that show nothing: Unicode's Default_Ignorable_Code_Point, which Python's tables do not have. U+200B, U+200C and
#: their kind say where a Khmer line may break and which letters join; they belong in what is shown, and never in a
#: comparison. U+17B4 and U+17B5 are vowels of Khmer that Unicode gave up.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def normalize(text: str | None) -> str:
    """The text without marks that show nothing, with ordinary blanks, and without blanks around it; empty for null."""
    # U+00A0 is a blank at which no line breaks; people type it without knowing.
    return _UNSEEN.sub("", text or "").replace("\u00a0", " ").strip()


def same_text(one: str | None, other: str | None) -> bool:
    """Whether two texts are the same to a reader; null and blank are the same, capital and small letters are not."""
    # Of what shows Unicode's NFC, with one blank for any run of blanks.
    seen = {unicodedata.normalize("NFC", " ".join(normalize(text).split())) for text in (one, other)}
    return len(seen) == 1


#: A whole number that may not fit into 64 bits, where a number can stand.
_LONG_NUMBER = re.compile(rb"(?:^|[:\[,])\s*-?[0-9]{19}")


def read_json(content: bytes) -> Any:  # noqa: ANN401
    """Decode JSON with whole numbers as they are: orjson rounds those beyond 64 bits, which would make one key of two.

    Raises ValueError for what is no JSON, and for half a character or a number beyond a double.
    """
    if not _LONG_NUMBER.search(content):
        return orjson.loads(content)
    value = json.loads(content)
    json.dumps(value, ensure_ascii=False).encode()  # refuses half a character, as orjson does
    return value


def json_text(value: Any) -> str | None:  # noqa: ANN401
    """The JSON text of a value as Primero sent it; null for null."""
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a whole number beyond 64 bits, or half a character: valid JSON that orjson does not write
        try:
            return json.dumps(value)
        except RecursionError:  # a thousand lists within each other: of no use anywhere
            return "{}"


def listed(value: Any) -> Any:  # noqa: ANN401
    """Read a text that is itself a JSON list, as older versions of Primero left them: `["refugee"]` is that list.

    Any other value comes back as it is.
    """
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return read_json(value.strip().encode())
    except ValueError:
        return value


#: An official Cambodian code, as Primero and ONA write it: with or without leading zeros.
_LOCATION = re.compile(r"0*([1-9][0-9]{0,7})")


def location_digits(code: str) -> str | None:
    """The digits of a location code, two each for province, district, commune and village; None where it is none."""
    match = _LOCATION.fullmatch(code)
    return match[1].zfill(len(match[1]) + len(match[1]) % 2) if match else None


#: A UUID as Primero writes it; Python, Arrow and PostgreSQL read the pattern alike.
UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

_UUID = re.compile(UUID)


def is_uuid(text: object) -> bool:
    """Whether a value is an id as Primero writes them."""
    return isinstance(text, str) and _UUID.fullmatch(text) is not None


def case_id_of(*parts: Any) -> str:  # noqa: ANN401
    """The id of a case: the first of `parts`, or where that is no UUID a stand-in made of all parts, always the same one."""
    identity = str(parts[0]).lower()
    return identity if is_uuid(identity) else f"no-uuid:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"


def showable(identity: str) -> str:
    """A case's id as it may be shown: a UUID or a stand-in as it is, anything else without what it says."""
    return identity if is_uuid(identity) or re.fullmatch("no-uuid(:[0-9a-f]{16})?", identity) else "no-uuid"
