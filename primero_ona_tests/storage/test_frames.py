"""Streams of frames: one item is made while another is worked on, and nobody notices but by the clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from primero_ona.storage.frames import prefetch


def making(count: int, made: list[int], breaks_at: int | None = None) -> Iterator[int]:
    for number in range(count):
        if number == breaks_at:
            raise ValueError("broken")
        made.append(number)
        yield number


def test_all_items_come_once_and_in_order():
    """A frame lost or doubled here would be children lost or doubled in ONA."""
    assert list(prefetch(making(100, []))) == list(range(100))
    assert list(prefetch([])) == []
    assert list(prefetch([None, None])) == [None, None]


def test_the_next_item_is_made_while_one_is_worked_on_and_no_more_than_that():
    """More of them would take the memory that streaming is there to save."""
    made: list[int] = []
    waiting = threading.Event()

    def source() -> Iterator[int]:
        for number in making(10, made):
            yield number
            waiting.set()

    items = prefetch(source())
    assert next(items) == 0
    assert waiting.wait(10)
    assert next(items) == 1
    assert len(made) in {2, 3}
    items.close()


def test_what_fails_in_the_making_fails_in_its_turn():
    """The frames before it are worked on, and the failure is that of the maker, so that its message is the right one."""
    seen: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        seen.extend(prefetch(making(10, [], breaks_at=3)))
    assert seen == [0, 1, 2]


def test_leaving_early_ends_the_thread():
    """A step that failed must not leave something at work behind it."""
    items = prefetch(making(10, []))
    next(items)
    items.close()
    for thread in threading.enumerate():
        if thread.name.startswith("one-ahead"):
            thread.join(10)
            assert not thread.is_alive()
