"""Every figure over the sandbox's eight quarters, against the same definition in pandas.

A module of its own: the tests of `test_figures.py` empty a database that this one's fixture is connected to.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet

from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan
from primero_ona.ona.variants import VARIANTS
from primero_ona.pipeline.reference import fill_lookup
from primero_ona.primero.reference import refresh
from primero_ona.quarters import Quarter, quarters_between
from primero_ona.report import public, relations
from primero_ona.report.relations import PUBLIC
from primero_ona.report.tables import Table
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests import ALL
from primero_ona_tests.harness import NOW, Clock, database
from primero_ona_tests.ona.figures import TODAY, computed, frames, stored
from primero_ona_tests.ona.plain_figures import plain_figures
from primero_ona_tests.reliability.oracle import differences
from primero_ona_tests.reliability.syncing import Place, sync_rooms

FIRST = Quarter(2022, 3)


@pytest.fixture(scope="module")
def eight(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """ONA with the sandbox's eight quarters in all their odd shapes, just as Primero has them."""
    folder = tmp_path_factory.mktemp("figures")
    wish = Wish(700 if ALL else 400, seed=5, now=NOW, quarters=8)
    with database(postgres, "figures") as url, SandboxPrimero(wish, clock=Clock()).serve() as primero:
        with connect(url) as conn:
            apply(conn, plan(conn))
        place = Place(primero.url, primero.username, primero.password, url, str(folder), Fernet.generate_key().decode())
        with connect(url) as conn, place.client() as client:
            fill_lookup(conn, refresh(client, None, datetime.now(UTC)), datetime.now(UTC))
        for quarter in quarters_between(FIRST, Quarter.of(NOW)):
            assert sync_rooms(place, quarter) == 0
        with psycopg.connect(url, autocommit=True) as conn:
            assert differences(primero, lambda query: conn.execute(query.encode()).fetchall()) == []
        yield url


#: What Primero could send as well, and the sandbox does not: of every n-th case or service, in the order of its key.
TURNED = """
UPDATE cases SET case_status = 'duplicate' WHERE right(primero_id::text, 1) = '0';
UPDATE cases SET placement_type = 'residential care, kinship care' WHERE right(primero_id::text, 1) = '1';
UPDATE cases SET placement_type = NULL, type_of_case = 'x, children undergoing reintegration' WHERE right(primero_id::text, 1) = '2';
UPDATE cases SET age = NULL, age_at_registration = NULL, age_at_placement = NULL WHERE right(primero_id::text, 1) = '3';
UPDATE cases SET age_at_registration = 17, registration_date = '2022-02-28' WHERE right(primero_id::text, 1) = '4';
UPDATE cases SET care_date = '2024-12-31', date_of_reintegration = '2021-12-31' WHERE right(primero_id::text, 1) = '5';
UPDATE cases SET sex = '', protection_concerns = 'Other, Other, Refugee', disabled = '' WHERE right(primero_id::text, 1) = '6';
UPDATE cases SET date_closure = registration_date - 40 WHERE right(primero_id::text, 1) = '7';
UPDATE cases SET case_status = NULL, date_closure = NULL, care_date = date_of_reintegration, age_at_placement = 18
 WHERE right(primero_id::text, 1) = '8';
UPDATE services SET service_type = 'Counselling, Other', service_subtypes = 'x, family_based_care_kinship'
 WHERE right(md5(unique_id), 1) = '0';
UPDATE services SET service_date = '2024-05-31', age_at_service = NULL WHERE right(md5(unique_id), 1) = '1';
UPDATE services SET service_date = NULL WHERE right(md5(primero_case_id::text), 1) IN ('2', '3', '4');
UPDATE cases SET placement_type = 'kinship care', care_date = NULL, date_of_reintegration = registration_date
 WHERE right(primero_id::text, 1) = '9';
UPDATE cases SET age = NULL, age_at_registration = 5 WHERE right(primero_id::text, 1) = 'a';
UPDATE cases SET age_at_registration = 12 WHERE right(primero_id::text, 1) = 'b';
UPDATE services AS s SET service_date = c.registration_date,
       age_at_service = CASE right(c.primero_id::text, 1) WHEN 'b' THEN 4 END
  FROM cases AS c
 WHERE c.primero_id = s.primero_case_id AND right(c.primero_id::text, 1) IN ('a', 'b');
INSERT INTO cases (case_id, registration_date, sex) VALUES ('legacy', '2024-01-01', 'Male');
INSERT INTO services (unique_id, case_id, service_date) VALUES ('legacy', 'legacy', '2024-01-01');
"""

PLAIN = "-- as Primero has it"


Figures = dict[tuple[Any, ...], int]


@pytest.fixture(
    scope="module",
    params=[pytest.param(PLAIN, marks=pytest.mark.ci, id="as it is"), pytest.param(TURNED, id="turned")],
)
def figures(eight: str, request: pytest.FixtureRequest) -> tuple[Figures, Figures]:
    """The figures in ONA, and those of the plain computation."""
    with connect(eight) as conn, conn.transaction(force_rollback=True):
        conn.execute(request.param.encode())
        computed(conn)
        return stored(conn), plain_figures(*frames(conn), 2022, TODAY)


@pytest.mark.proves("figures-right")
def test_every_figure_is_that_of_the_plain_computation(figures: tuple[Figures, Figures]) -> None:
    """Ministries decide on these numbers: all variants, periods and dimensions, counted a second time from the words."""
    found, expected = figures
    wrong = [key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)]
    assert not wrong, (len(wrong), sorted(map(str, wrong))[:5])
    seen = Counter((key[1], key[4]) for key in found if found[key])
    assert all(seen[variant, dimension] for variant in sum(VARIANTS.values(), ()) for dimension in DIMENSIONS)
    assert seen["event", "coverage"], "what is never there proves nothing"


DIMENSIONS = (
    "all", "sex", "age_group", "disability", "disability_type", "province", "district", "placement_type", "type_of_case",
    "case_source", "consent_status", "protection_concern", "service_type", "sex_age", "province_sex",
)  # fmt: skip


def test_the_public_edition_of_all_variants(figures: tuple[Figures, Figures]) -> None:
    """What it takes for known to everyone is true of all figures; what it publishes is."""
    found: dict[tuple[Any, ...], dict[tuple[str, ...], int]] = defaultdict(dict)
    for (*place, dimension, value), children in figures[0].items():
        name, cell = ("total", ()) if dimension == "all" else (dimension, tuple(value.split(" × ")))
        found[name, *place][cell] = children
    tables = [
        Table(name, *place, PUBLIC[name], cells, adds_up=name != "service_type")
        for (name, *place), cells in found.items()
        if name in PUBLIC
    ]
    every = {relations.key_of(table): table for table in tables}
    counts = {
        key: public._counts(table, public.public_labels(), every[key.of("total")])
        for key, table in every.items()
        if public._allowed(table)
    }
    true = {(key, cell): count for key, cells in counts.items() for cell, count in cells.items()}
    known = list(relations.relations_of(counts, {key for key in counts if key.name != "service_type"}))
    assert len(known) > 1000
    false = [relation for relation in known if not list(relations.logical([relation], true))]
    assert not false, (len(false), [key for key, _ in false[0][0]])
    last = [table for table in tables if table.period_start >= date(2024, 1, 1) and table.period == "quarter"]
    published = public.publish(last, [])
    assert {text for table in published for text in table.cells.values()} >= {"<5", "10"}
    for table in published:
        for cell, text in table.cells.items():
            low, high = public.bounds(text)
            assert low <= true[relations.key_of(table), cell] <= high
