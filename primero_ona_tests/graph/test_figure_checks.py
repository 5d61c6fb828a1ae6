"""The checks of the figures: what they say of a quarter that is unlike earlier ones, or that is poorly covered."""

from __future__ import annotations

import pytest

from primero_ona.graph.assets.indicators import poorly_covered, unusual_changes
from primero_ona.ona.figure_reads import Total
from primero_ona.quarters import Quarter

NOW = Quarter(2024, 2)


def totals(*children: int | None, **more: int) -> dict[tuple[str, Quarter], Total]:
    """Totals of 4.8 in 2023-Q2, 2024-Q1 and 2024-Q2; None where there is no figure."""
    found = dict(zip((Quarter(2023, 2), Quarter(2024, 1), NOW), children, strict=True))
    known = {"age_unknown": 0, "undated": 0} | more
    return {("4.8", quarter): Total(number, **known) for quarter, number in found.items() if number is not None}


@pytest.mark.parametrize(
    ("children", "named"),
    [
        ((100, 100, 150), []),
        ((100, 100, 151), ["2023-Q2", "2024-Q1"]),
        ((100, 200, 100), []),
        ((100, 201, 100), ["2024-Q1"]),
        ((0, 100, 100), ["2023-Q2"]),
        ((100, 100, 0), ["2023-Q2", "2024-Q1"]),
        ((0, 0, 0), []),
        ((None, None, 100), []),
        ((100, 100, None), []),
    ],
)
@pytest.mark.proves("figures-checked")
def test_a_change_beyond_the_limit_is_named_with_both_figures(children, named):
    """A quarter that is half loaded looks like a success of the ministry, or like a failure."""
    text = unusual_changes(totals(*children), NOW, 50)
    assert [name for name in ("2023-Q2", "2024-Q1") if f"in {name}" in text] == named
    assert bool(text) == bool(named)


@pytest.mark.parametrize(
    ("age_unknown", "undated", "warns"), [(0, 0, False), (10, 0, False), (11, 0, True), (0, 11, False), (0, 12, True)]
)
@pytest.mark.proves("figures-checked")
def test_poor_coverage_is_named_without_a_number(age_unknown, undated, warns):
    """How many have no age would change with one case, and tell of it whether its age is known."""
    text = poorly_covered(totals(1, 1, 100, age_unknown=age_unknown, undated=undated), NOW, 90)
    assert bool(text) == warns
    assert not warns or ("4.8: too many" in text and "11" not in text)
