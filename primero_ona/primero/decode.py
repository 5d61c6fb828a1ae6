"""Decode JSON whatever numbers and characters are in it."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import orjson

#: A whole number that may not fit into 64 bits, where a number can stand. The search takes twice the time of decoding, so
#: it is made only where so many digits stand side by side at all.
_LONG_NUMBER = re.compile(rb"[:\[,]\s*-?[0-9]{19}")

#: Python reads whole numbers up to 4,300 digits; none that means something has a hundredth of them.
_MOST_DIGITS = 4_000


def decode(content: bytes) -> Any:  # noqa: ANN401
    """Decode JSON; raises ValueError.

    orjson refuses a whole answer for one number beyond a double or half a character, and rounds whole numbers beyond 64
    bits, which would make one key of two. Answers with such a thing are read by Python's own decoder.
    """
    try:
        long = _has_19_digits(content) and _LONG_NUMBER.search(content)
        return _by_python(content) if long else orjson.loads(content)
    except orjson.JSONDecodeError:
        return _by_python(content)


def _has_19_digits(content: bytes) -> bool:
    """Whether 19 digits stand side by side anywhere."""
    digits = np.frombuffer(content, np.uint8) - np.uint8(ord("0")) < 10  # what stands before `0` wraps to above 200
    for step in (1, 2, 4, 8, 3):  # true where 2, 4, 8, 16, 19 digits begin
        digits = digits[:-step] & digits[step:]
    return bool(digits.any())


def _by_python(content: bytes) -> Any:  # noqa: ANN401
    """Decode JSON exactly; a whole number that Python refuses to read for its length is as good as infinite."""
    return json.loads(content, parse_int=lambda digits: int(digits) if len(digits) <= _MOST_DIGITS else float("inf"))
