"""Comparing texts as people see them."""

from __future__ import annotations

from primero_ona.texts import plain, same


def test_marks_that_nobody_sees_make_no_difference():
    """Khmer from Primero is full of U+200B; a changed name that looks the same would be reported for ever."""
    assert same("ភេទ\u200bប្រុស", " ភេទប្រុស\u00a0")
    assert plain("Biological family\u200b care") == "Biological family care"
    assert plain("a\u00a0b") == "a b"


def test_null_and_blank_are_the_same_but_letters_are_not():
    """A name that Primero does not have is no other name."""
    assert same(None, " \u200b")
    assert not same("Baray", "baray")
