"""What must hold of the figures, by SQL: that parts add up, and that no figure is too large; and national totals."""

from __future__ import annotations

from datetime import date

import pytest

from primero_ona.ona.figure_reads import Total, figures_beyond_children, quarter_totals, unequal_sums
from primero_ona_tests.ona.figures import DEFAULTS, computed
from primero_ona_tests.ona.rows import case, load, service


@pytest.fixture
def figures(ona):
    """Two children who count in 2024-Q1, one of an unknown age, and one who would count but for a date."""
    rows = [case(1), case(2, age=None, sex=None), case(3)]
    load(ona, rows, [service(1, 1), service(2, 2), service(3, 3, service_date=None)])
    computed(ona)
    return ona


@pytest.mark.parametrize(
    ("damage", "found", "beyond"),
    [
        ("SELECT 1", {}, False),
        ("DELETE FROM indicator_figures WHERE dimension = 'sex' AND value = '(empty)' AND period = 'quarter'", {"sex": 4}, False),
        ("DELETE FROM indicator_figures WHERE dimension = 'province' AND variant = 'served'", {"province": 3}, False),
        ("UPDATE indicator_figures SET children = 4 WHERE dimension = 'protection_concern' AND variant = 'open'", {}, True),
        ("UPDATE cases SET case_status = 'duplicate' WHERE case_id = 'case-1'", {}, True),
    ],
    ids=["none", "a missing value", "a missing dimension", "a figure too large", "fewer children"],
)  # fmt: skip
@pytest.mark.proves("figures-checked")
def test_sums_and_bounds_are_those_of_the_table(figures, damage, found, beyond):
    """A figure that does not add up is found by those who are asked about it, unless we find it first."""
    figures.execute(damage.encode())
    assert unequal_sums(figures) == found
    assert (figures_beyond_children(figures) > 0) == beyond


def test_totals_are_those_of_the_chosen_variants_with_what_they_do_not_cover(figures):
    """Coverage stands beside each figure."""
    quarter = date(2024, 1, 1)
    served = quarter_totals(figures, DEFAULTS)["4.11a", quarter]
    assert (served, round(served.coverage)) == (Total(2, age_unknown=1, undated=1), 33)
    registered = quarter_totals(figures, {"4.11a": "registered_or_served"})
    assert registered["4.11a", quarter] == Total(3, age_unknown=1, undated=0)
    assert {indicator for indicator, _ in registered} == {"4.11a"}
    assert Total(0, 0, 0).coverage == 100
