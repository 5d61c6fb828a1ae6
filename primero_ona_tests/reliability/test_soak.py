"""A few scenarios of the soak on every test run, so that it never rots; hundreds are played by its own command."""

from __future__ import annotations

import pytest

from primero_ona_tests import quick
from primero_ona_tests.reliability.oracle import differences
from primero_ona_tests.reliability.soak import play


@pytest.mark.parametrize("seed", quick((3, 7, 12, 19), 7))
@pytest.mark.proves("soak")
def test_after_edits_faults_and_kills_by_seed_nothing_differs(ona, ona_url, seed):
    """See `soak.py`: the scenario is repeated by its seed."""
    found, told, _ = play(seed, ona_url)
    assert found == [], told


def test_the_oracle_finds_what_is_wrong(graph):
    """A witness that never objects proves nothing: an empty ONA, and a wrong one, must not please it."""
    assert differences(graph.primero, graph.sql) != []
    graph.sync()
    case = graph.sql("SELECT primero_id::text FROM cases ORDER BY 1 LIMIT 1")[0][0]
    before = differences(graph.primero, graph.sql)
    assert not [line for line in before if case in line]
    graph.sql("UPDATE cases SET age = age + 1, sex = 'x' WHERE primero_id::text = %s", case)
    assert [line for line in differences(graph.primero, graph.sql) if case in line] != []
