"""A viewer who compares two syncs a case apart: nothing of the case is told but what became of it. 200 cases by `viewer.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from primero_ona_tests import ALL
from primero_ona_tests.harness import Q1, Graph
from primero_ona_tests.viewer import INSTALLATIONS, Facts, attack, attacked, donors, look, short, twin

#: Cases for each installation; the seeds give each of them included ones and ones that are not.
CASES, SEED = 6, 4


@pytest.fixture(
    scope="module",
    params=[pytest.param(0, marks=pytest.mark.ci, id="default policies"), pytest.param(1, id="strict policies")],
)
def installation(request: pytest.FixtureRequest, postgres: Any) -> Iterator[Graph]:
    settings = INSTALLATIONS[request.param]
    with attacked(postgres, f"viewer_{request.param}", settings) as graph:
        yield graph


@pytest.mark.proves("logs")
def test_two_syncs_a_case_apart_tell_nothing_of_it_but_what_became_of_it(installation: Graph) -> None:
    """They differed in sex, age group, type of case and of service, a code of its own, and in the village."""
    graph = installation
    seen = Counter()
    for case in donors(CASES, SEED):
        facts, told = attack(graph, case)
        assert not told, (facts, short(told))
        seen[facts.reintegration or facts.under18] += 1
        if not ALL and len(seen) == 2:
            break
    assert seen.keys() == {True, False}, "cases that are included, and cases that are not"


@pytest.mark.proves("logs")
def test_a_case_like_no_other_is_told_no_better(installation: Graph) -> None:
    """A code, a concern, a place and a module that no other case has: each was a line of its own."""
    graph = installation
    visit = {"unique_id": "its own", "service_type": "its_own_service", "service_subtype": ["its_own"]}
    case = {
        "sex": "its_own_sex", "age": 3, "type_of_case": ["its_own_type"], "protection_concerns": ["its_own_concern"],
        "disability_type": "its_own", "location_current": "16990101", "location_caregiver": "16990102",
        "type_of_placement": "its_own", "consent_reporting": "true", "status": "its_own", "care_date": "no day",
        "registration_date": "2024-01-02", "module_id": "primeromodule-cp", "services_section": [visit, visit],
    }  # fmt: skip
    for module in ("primeromodule-cp", "primeromodule-gbv") if ALL else ("primeromodule-cp",):
        _, told = attack(graph, case | {"module_id": module})
        assert not told, short(told)


def test_the_attack_would_see_what_it_may_see(installation: Graph) -> None:
    """An attack that looks at nothing finds nothing: that a case came, counts in 4.11a and has two services is shown."""
    graph = installation
    case = {"age": 5, "consent_reporting": "true", "last_updated_at": Q1.start + timedelta(days=20)}
    visits = [{"unique_id": f"own-{number}", "service_type": "other"} for number in range(2)]
    without = look(graph)
    there = graph.primero.create(**case, services_section=visits)
    came = look(graph)
    graph.primero.update(there, **case, services_section=visits[:1])
    fewer = look(graph)
    graph.primero.delete(there)
    assert without != came != fewer
    assert any("raw_under18_cases" in line for line in set(came) - set(without))
    facts = Facts(reintegration=False, under18=True)
    assert {"sex", "age", "services_section"} <= twin(case | {"services_section": visits}, facts).keys()
