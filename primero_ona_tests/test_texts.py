"""Comparing texts as people see them."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from primero_ona.texts import listed, location_digits, normalize, same_text

#: One of each range of Unicode's Default_Ignorable_Code_Point, and those that Khmer texts are full of.
UNSEEN = [
    "\u00ad", "\u034f", "\u061c", "\u115f", "\u17b4", "\u17b5", "\u180b", "\u200b", "\u200c", "\u200d", "\u200e", "\u202e", "\u2060",
    "\u2064", "\u3164", "\ufe00", "\ufe0f", "\ufeff", "\uffa0", "\ufff0", "\U0001bca0", "\U0001d173", "\U000e0001", "\U000e0100",
]  # fmt: skip


@pytest.mark.parametrize("mark", UNSEEN, ids=[f"U+{ord(mark):04X}" for mark in UNSEEN])
@pytest.mark.proves("invisible-marks")
def test_a_mark_that_shows_nothing_makes_no_difference_and_no_name(mark):
    """Khmer is typed with them or without; a changed name that looks the same would be reported for ever."""
    assert same_text(f"ភេទ{mark}ប្រុស", "ភេទប្រុស")
    assert same_text(mark, None)
    assert normalize(f" {mark} ") == ""


def test_no_sign_that_people_see_is_dropped():
    """A name must not lose a letter: of Unicode's letters, digits and signs only four fillers show nothing."""
    dropped = {
        chr(point)
        for point in range(sys.maxunicode + 1)
        if unicodedata.category(chr(point))[0] in "LNPS" and not 0xD800 <= point < 0xE000 and not normalize(chr(point))
    }
    assert dropped == {"\u115f", "\u1160", "\u3164", "\uffa0"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Siĕm Réab", "Sie\u0306m Re\u0301ab"),
        ("a\u0301\u034f", "\u00e1"),
        ("Siem  Reap", "Siem\u202f Reap"),
    ],
)
def test_what_unicode_calls_equal_is_equal(one, other):
    """Two keyboards write one letter in two ways."""
    assert same_text(one, other)


def test_marks_that_nobody_sees_make_no_difference():
    """Khmer from Primero is full of U+200B; a changed name that looks the same would be reported for ever."""
    assert same_text("ភេទ\u200bប្រុស", " ភេទប្រុស\u00a0")
    assert normalize("Biological family\u200b care") == "Biological family care"
    assert normalize("a\u00a0b") == "a b"


def test_null_and_blank_are_the_same_but_letters_are_not():
    """A name that Primero does not have is no other name."""
    assert same_text(None, " \u200b")
    assert not same_text("Baray", "baray")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('["refugee"]', ["refugee"]),
        ("[12345678901234567890123]", [12345678901234567890123]),
        ('["a", [-9223372036854775809]]', ["a", [-9223372036854775809]]),
        ('["\\ud800", 12345678901234567890]', '["\\ud800", 12345678901234567890]'),
        ("[1", "[1"),
    ],
)
@pytest.mark.proves("odd-value")
def test_a_text_that_is_a_list_is_read_to_the_last_digit(text, value):
    """Rounded, two codes would become one."""
    assert listed(text) == value


@pytest.mark.parametrize(
    ("code", "digits"),
    [
        ("1", "01"),
        ("0101", "0101"),
        ("12010203", "12010203"),
        ("000601", "0601"),
        ("123456789", None),
        ("x1", None),
        ("0", None),
    ],
)
def test_a_location_code_has_two_digits_for_each_level(code, digits):
    """Primero has lost the leading zero of the provinces 1 to 9: what is cut, and what is looked up, must agree."""
    assert location_digits(code) == digits
