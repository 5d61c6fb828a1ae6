"""Every asset check is proved to fail: faulty rows in a stored partition, or rows changed in ONA, and the counts it reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.graph.assets.ona import ona_assets, ona_checks
from primero_ona.graph.checks import IDENTITY, answer, asset_checks
from primero_ona.graph.partitions import quarterly_partitions
from primero_ona.primero.fields import FIELDS_MISSING, WITHOUT_BIRTH
from primero_ona_tests.harness import Q1, Graph, small, table, wired
from primero_ona_tests.ona.rows import case, id_of, service
from primero_ona_tests.raw import raw_frame

#: Stands in every value of a child that these tests put somewhere; it must come out nowhere.
SHARED = "row under a key of its own: another row has the plain one"
SECRET = "Sokha-of-the-test"

ONA = ("ona/cases", "ona/services")


@pytest.fixture(scope="module")
def graph(postgres: Any) -> Iterator[Graph]:
    with wired(postgres, "graph_checks", small(40, odd=False)) as found:
        yield found


@pytest.fixture
def synced(graph: Graph) -> Graph:
    """The quarter as it came from the sandbox, in the store and in ONA."""
    graph.sql("TRUNCATE cases, services, primero_sync.exits, primero_sync.quarantine")
    assert graph.sync().failure is None
    return graph


def run_checks(graph: Graph, *assets: str) -> dg.ExecuteInProcessResult:
    """Run the checks of assets that can be run alone."""
    keys = {dg.AssetKey.from_user_string(asset) for asset in assets}
    checks = [key for made in graph.defs.asset_checks or () for key in made.check_keys if key.asset_key in keys]
    return graph.execute(dg.AssetSelection.checks(*checks))


def run_load(graph: Graph) -> dg.ExecuteInProcessResult:
    """Load the quarter, which answers checks of its own."""
    return graph.execute(dg.AssetSelection.assets(*map(dg.AssetKey.from_user_string, ONA)))


def faults(graph: Graph, asset: str, check: str) -> dict[str, int]:
    """Run an asset's checks, or the load; the faults that one of them reports, once it has failed as it must."""
    alone = check not in ("quarter_loaded", "plain_keys")
    # Those of the two tables are one op, and run together.
    result = run_checks(graph, *(ONA if asset in ONA else (asset,))) if alone else run_load(graph)
    found = next(
        entry
        for entry in result.get_asset_check_evaluations()
        if entry.check_name == check and entry.asset_key.to_user_string() == asset
    )
    assert not found.passed
    assert found.partition == Q1.key
    others = [entry for entry in result.get_asset_check_evaluations() if not entry.passed]
    fails = any(entry.severity == dg.AssetCheckSeverity.ERROR for entry in others)
    assert result.success != fails, "a check of severity ERROR fails its run, and a warning does not"
    text = graph.events(result.run_id)
    assert SECRET not in text, "a value of a child stands in the event log"
    if not found.metadata:
        return {str(found.description): 1}
    told = found.metadata["faults"].records
    return {str(record.data["fault"]): int(str(record.data["rows"]).replace(",", "")) for record in told}


def cases(*rows: dict[str, Any]) -> Any:
    return table(rows, CASES.arrow_schema())


def services(*rows: dict[str, Any]) -> Any:
    return table(rows, SERVICES.arrow_schema())


def test_an_adult_a_disabled_case_and_a_missing_age_are_found(graph: Graph) -> None:
    """Indicator 4.11a counts children."""
    raw = raw_frame(
        {"age": 12}, {"age": 18}, {"age": 30}, {"age": SECRET}, {"age": 9, "enabled": False},
        {"age": 30, "date_of_birth": "2006-01-16"}, {"age": 9, "date_of_birth": "2006-01-15"},
    )  # fmt: skip
    graph.write("raw_under18_cases", raw)
    found = faults(graph, "raw_under18_cases", "no_adult")
    assert found == {"row is not an enabled child, under 18 when registered": 5}


@pytest.mark.proves("unknown-birthday")
def test_a_pull_that_could_read_no_date_of_birth_warns_of_what_that_costs(graph: Graph) -> None:
    """Figures of past years shrink from then on, and nothing else would show it."""
    summary = {"pull": {"fields": {"missing": ["date_of_birth"]}}}
    graph.write("raw_under18_cases", raw_frame({"age": 12}, {"age": 13}), summary=summary)
    found = faults(graph, "raw_under18_cases", "fields_seen")
    assert list(found) == [f"{FIELDS_MISSING}; {WITHOUT_BIRTH}"]


@pytest.mark.proves("gbv")
def test_cases_of_the_module_for_gender_based_violence_warn(graph: Graph) -> None:
    """They came by default, and nothing said so."""
    summary = {"reasons": {"included: of the module for gender-based violence": 37}}
    graph.write("raw_under18_cases", raw_frame({"age": 12}), summary=summary)
    (found,) = faults(graph, "raw_under18_cases", "gbv_agreed")
    assert "about 30 in this quarter" in found


@pytest.mark.parametrize("asset", ["raw_reintegration_cases", "raw_under18_cases"])
@pytest.mark.proves("young-primero")
def test_fields_that_no_case_has_warn_with_both_causes(graph: Graph, asset: str) -> None:
    """Their columns stay empty: because no case has them yet, or because the role lost a form."""
    pull = {"fields": {"shown": ["sex"], "missing": ["care_date", "oscar_number"]}}
    graph.write(asset, raw_frame({"age": 12}), summary={"pull": pull})
    assert faults(graph, asset, "fields_seen") == {FIELDS_MISSING: 1}


@pytest.mark.parametrize(
    ("asset", "make", "rows", "identity"),
    [
        ("mapped_cases", cases, case, "primero_id"),
        ("mapped_services", services, lambda number, **more: service(number, 1, **more), "unique_id"),
        ("mapped_services", services, lambda number, **more: service(number, 1, **more), "primero_case_id"),
    ],
    ids=["cases", "services", "cases of services"],
)
def test_rows_without_identity_or_with_that_of_another_are_counted_over_frames(
    graph: Graph, asset: str, make: Any, rows: Any, identity: str
) -> None:
    """Two rows that nothing tells apart would be one child in ONA; the same plain key is no fault."""
    graph.write("mapped_cases", cases(case(1)))
    doubled, blank = rows(2, **{identity: SECRET}), rows(3, **{identity: "  "})
    shared = (
        {"case_id": "case-1"} if asset == "mapped_cases" else {"unique_id": "service-1", "primero_case_id": id_of(4)}
    )
    graph.write(asset, make(doubled, rows(1), rows(4, **shared)), make(doubled, doubled, blank))
    assert faults(graph, asset, IDENTITY) == {"row occurs again": 2, "row without identity": 1}


def test_services_of_a_case_with_one_unique_id_are_told_apart_by_their_place(graph: Graph) -> None:
    """A child may have had the same type of service twice."""
    graph.write("mapped_cases", cases(case(1)))
    graph.write("mapped_services", services(service(1, 1), service(1, 1, place=2), service(1, 1, place=2)))
    assert faults(graph, "mapped_services", IDENTITY) == {"row occurs again": 1}


def test_rows_of_cases_that_break_the_contract_are_counted_by_column_and_rule(graph: Graph) -> None:
    """The dashboards filter on exact labels: another text is a child that no chart shows."""
    graph.write(
        "mapped_cases",
        cases(case(1, age=131), case(2, disabled=SECRET), case(3, case_source=SECRET, age_group="20-30")),
        cases(case(4, protection_concerns=f"Separated, {SECRET}"), case(5)),
    )
    found = faults(graph, "mapped_cases", "contract")
    assert found == {
        "age: from 0 to 130": 1,
        "disabled: only labels of the mapping": 1,
        "case_source: an allowed value": 1,
        "age_group: an allowed value": 1,
        "protection_concerns: only labels of the mapping": 1,
    }


def test_rows_of_services_that_break_the_contract_are_counted(graph: Graph) -> None:
    """As for the cases."""
    graph.write("mapped_cases", cases(case(1)))
    graph.write("mapped_services", services(service(1, 1, service_type=SECRET), service(2, 1)))
    assert faults(graph, "mapped_services", "contract") == {"service_type: only labels of the mapping": 1}


@pytest.mark.parametrize(("asset", "field"), [("mapped_cases", "sex"), ("mapped_services", "service_type")])
@pytest.mark.proves("unknown-code")
def test_unmapped_codes_warn_and_are_not_named(graph: Graph, asset: str, field: str) -> None:
    """A new option in Primero is lost in the dashboards until somebody adds it to the labels."""
    graph.write("mapped_cases", cases(case(1)))
    rows = cases(case(1)) if asset == "mapped_cases" else services(service(1, 1))
    findings = [{"field": field, "code": "new_option_1", "count": 7}, {"field": field, "code": None, "count": 2}]
    graph.write(asset, rows, summary={"findings": findings, "quarantine": []})
    (told,) = faults(graph, asset, "unmapped_codes")
    assert "`primero-ona findings` lists them" in told
    assert field not in told


@pytest.mark.parametrize("findings", [[], [{"field": "protection_concerns", "code": "statelessness", "count": 1}]])
def test_accepted_codes_that_are_rare_do_not_warn(graph: Graph, findings: list[dict[str, Any]]) -> None:
    """It warned in 16 of 16 quarters, so that nobody looked when a new option came."""
    graph.write("mapped_cases", cases(*map(case, range(1, 31))), summary={"findings": findings, "quarantine": []})
    result = graph.execute(dg.AssetSelection.checks_for_assets(dg.AssetKey("mapped_cases")))
    assert [entry.passed for entry in result.get_asset_check_evaluations() if entry.check_name == "unmapped_codes"] == [
        True
    ]


def test_a_service_without_its_case_in_the_quarter_is_found(graph: Graph) -> None:
    """It would stand in ONA as an orphan, counted without a child."""
    graph.write("mapped_cases", cases(case(1)))
    graph.write("mapped_services", services(service(1, 1), service(2, 2), service(3, 3, primero_case_id=SECRET)))
    assert faults(graph, "mapped_services", "case_present") == {"service without a mapped case": 2}


@contextmanager
def doubled(graph: Graph, name: str) -> Iterator[None]:
    """No constraint on a table's key, which one row shares with another, and one lacks."""
    key = {"cases": "case_id", "services": "unique_id"}[name]
    graph.sql(f"CREATE TABLE kept_{name} AS TABLE {name}")
    try:
        for (constraint,) in graph.sql(
            "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype IN ('p', 'u')", name
        ):
            graph.sql(f"ALTER TABLE {name} DROP CONSTRAINT {constraint}")
        for (index,) in graph.sql(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass", name
        ):
            graph.sql(f"DROP INDEX {index}")
        graph.sql(f"INSERT INTO {name} SELECT * FROM {name} ORDER BY {key} LIMIT 1")
        graph.sql(f"ALTER TABLE {name} ALTER {key} DROP NOT NULL")
        graph.sql(f"UPDATE {name} SET {key} = NULL WHERE ctid = (SELECT ctid FROM {name} ORDER BY {key} DESC LIMIT 1)")
        yield
    finally:
        graph.sql(f"TRUNCATE {name}")
        graph.sql(f"INSERT INTO {name} SELECT * FROM kept_{name}")
        graph.sql(f"DROP TABLE kept_{name}")
        graph.sql(f"ALTER TABLE {name} ADD PRIMARY KEY ({key})")
        if name == "cases":
            graph.sql("CREATE UNIQUE INDEX ON cases (primero_id)")


def test_keys_that_occur_twice_in_ona_are_found_though_no_constraint_forbids_them(synced: Graph) -> None:
    """ONA's own tables may have no unique index; this is the last defence."""
    for name, key in (("cases", "case_id"), ("services", "unique_id")):
        with doubled(synced, name):
            found = faults(synced, f"ona/{name}", "keys_unique")
            assert found[f"{name}.{key} missing"] == 1
            assert found[f"{name}.{key} repeated"] == 1


@contextmanager
def spoiled(graph: Graph, name: str) -> Iterator[None]:
    """ONA itself deletes one new row of a table, and changes two, at the end of the transaction that writes them."""
    key, column = {"cases": ("case_id", "sex"), "services": ("unique_id", "service_type")}[name]
    ((last,),) = graph.sql(f"SELECT max({key}) FROM {name}")
    first = f"SELECT {key} FROM {name} ORDER BY 1 LIMIT"
    graph.sql(
        f"CREATE FUNCTION spoil_{name}() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
        f" DELETE FROM {name} WHERE {key} = ({first} 1);"
        f" UPDATE {name} SET {column} = '{SECRET}' WHERE {key} IN ({first} 2); RETURN NULL; END$$"
    )
    graph.sql(
        f"CREATE CONSTRAINT TRIGGER spoil AFTER INSERT ON {name} DEFERRABLE INITIALLY DEFERRED"
        f" FOR EACH ROW WHEN (NEW.{key} = '{last}') EXECUTE FUNCTION spoil_{name}()"
    )
    yield
    graph.sql(f"DROP FUNCTION spoil_{name} CASCADE")


@pytest.mark.parametrize("name", ["cases", "services"])
def test_a_mapped_row_that_is_not_in_ona_as_it_was_mapped_is_found(synced: Graph, name: str) -> None:
    """A load that lost or changed rows would otherwise look like a good one."""
    with spoiled(synced, name):
        synced.sql("TRUNCATE cases, services")
        found = faults(synced, f"ona/{name}", "quarter_loaded")
    assert found == {"mapped row missing in ONA": 1, "mapped row with other content in ONA": 2}


def test_a_service_whose_case_is_gone_from_ona_is_found(synced: Graph) -> None:
    """A service counted without a child."""
    ((case_id, number),) = synced.sql("SELECT case_id, count(*) FROM services GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1")
    synced.sql("DELETE FROM cases WHERE case_id = %s", case_id)
    assert faults(synced, "ona/services", "no_orphans") == {"service without its case": number}


@contextmanager
def twins(graph: Graph) -> Iterator[None]:
    """Two cases with one display id, with services of one id, are in ONA beside the others."""
    graph.sql("TRUNCATE cases, services, primero_sync.exits, primero_sync.quarantine")
    graph.primero.clock = lambda: datetime(2024, 3, 20, tzinfo=UTC)
    visit = {"unique_id": SECRET, "service_type": "other"}
    made = [
        graph.primero.create(case_id_display=SECRET, age=5, services_section=[visit], created_at=graph.primero.clock())
        for _ in range(2)
    ]
    assert graph.sync().failure is None
    yield
    for each in made:
        graph.primero.delete(each)


def test_rows_under_a_key_of_their_own_warn(graph: Graph) -> None:
    """A dashboard that looks a child up by its display id finds another one; people can correct the id in Primero."""
    with twins(graph):
        assert faults(graph, "ona/cases", "plain_keys") == {SHARED: 1}
        assert faults(graph, "ona/services", "plain_keys") == {SHARED: 1}


def test_a_check_that_fails_is_not_tried_again_by_a_run_retry(graph: Graph) -> None:
    """The same rows fail again; each retry would ask Primero for the whole quarter once more."""
    graph.write("raw_under18_cases", raw_frame({"age": 44}))
    result = graph.execute(dg.AssetSelection.checks_for_assets(dg.AssetKey("raw_under18_cases")))
    run = graph.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert run.tags["dagster/retry_on_asset_or_op_failure"] == "false"


def test_many_kinds_of_faults_are_told_in_one_short_line() -> None:
    """A form filled with free text makes thousands of codes; the check's line and the event log must stay readable."""
    result = answer(
        "mapped_cases", "unmapped_codes", {f"field: code_{n}": n for n in range(1, 2_001)}, good="", warn=True
    )
    assert result.description is not None
    assert result.description.startswith("2,000 × field: code_2000; 1,999 × field: code_1999; ")
    assert result.description.endswith("; and 1995 more")
    assert len(result.metadata["faults"].records) == 50


def test_every_check_of_the_graph_can_fail(graph: Graph) -> None:
    """A check that cannot fail is worse than none: it is believed. A new one has to be made to fail here, too."""
    failed: set[str] = set()

    def note(result: dg.ExecuteInProcessResult) -> None:
        failed.update(str(check.asset_check_key) for check in result.get_asset_check_evaluations() if not check.passed)

    with twins(graph), spoiled(graph, "cases"), spoiled(graph, "services"):
        graph.sql("TRUNCATE cases, services")
        note(run_load(graph))
    with twins(graph), doubled(graph, "cases"), doubled(graph, "services"):
        graph.sql("UPDATE services SET service_type = 'x'")
        graph.sql(
            "DELETE FROM cases WHERE case_id ="
            " (SELECT case_id FROM services WHERE case_id NOT LIKE %s ORDER BY 1 OFFSET 9 LIMIT 1)",
            f"{SECRET}%",
        )
        note(run_checks(graph, *ONA))
    findings = [{"field": field, "code": "new_option_1", "count": 7} for field in ("sex", "service_type")]
    reasons = {"included: of the module for gender-based violence": 37}
    pull = {"fields": {"shown": [], "missing": ["date_of_birth"]}}
    summary = {"findings": findings, "quarantine": [], "reasons": reasons, "pull": pull}
    frames = {
        "raw_reintegration_cases": raw_frame({"age": 30}),
        "raw_under18_cases": raw_frame({"age": 30}),
        "mapped_cases": cases(case(1, age=131), case(1, age=131)),
        "mapped_services": services(
            service(1, 1, service_type=SECRET), service(1, 1, service_type=SECRET), service(2, 2)
        ),
    }
    for asset, frame in frames.items():
        graph.write(asset, frame, summary=summary)
    for asset in frames:  # where one fails, the checks of what is made of it are not run
        note(run_checks(graph, asset))
    quarters = quarterly_partitions("2023-10-01")
    made = [*asset_checks(quarters), ona_checks(quarters), ona_assets(quarters)]
    assert failed == {str(key) for each in made for key in each.check_keys}
