"""Asset checks: what must hold before a quarter is loaded, and what must stand in ONA afterwards.

One op for each asset reads its rows once and answers all the asset's checks. Every check is partitioned, so that the UI
shows it by quarter. Results are counts and codes; no value of a child, and no key, is ever in them. What is checked
stands in `contract.py` and, as SQL, in `ona/verify.py`; here it becomes Dagster's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.assets.ona import CASES_KEY, SERVICES_KEY
from primero_ona.frames import Frames
from primero_ona.mapping.labels import Labels
from primero_ona.metadata import count_table, findings_table
from primero_ona.ona.schema import CASES, SERVICES, Table
from primero_ona.primero.fields import BIRTH_FIELD, WITHOUT_BIRTH
from primero_ona.resources import OnaDatabaseResource
from primero_ona.steps import safe_step, stop_run_retries

if TYPE_CHECKING:
    from primero_ona.contract import ContractCheck, ParentCheck
    from primero_ona.ona.verify import Comparison, KeyCounts

Quarters = dg.PartitionsDefinition[str]
Results = Iterator[dg.AssetCheckResult]

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN

#: What the checks after the load read and ask about.
_TABLES = ((CASES_KEY, CASES), (SERVICES_KEY, SERVICES))
_MAPPED = ("mapped_cases", "mapped_services")

#: Faults told in a check's one line: more of them hide the first.
TOLD = 5

#: Reasons of the quarantine that mean a clash of keys, as the mapping words them.
_CLASHES = ("case_id of another case", "unique_id of another case", "unique_id repeated")


def asset_checks(quarters: Quarters) -> list[dg.AssetChecksDefinition]:
    """All checks of the graph."""
    return [
        _under18_checks(quarters),
        _mapped_cases_checks(quarters),
        _mapped_services_checks(quarters),
        _ona_checks(quarters),
    ]


def answer(
    asset: str | dg.AssetKey,
    name: str,
    faults: Mapping[str, int],
    *,
    good: str,
    warn: bool = False,
    **metadata: Any,  # noqa: ANN401
) -> dg.AssetCheckResult:
    """A check that passes where no fault was counted; its description is `good`, or says how many of which."""
    found = {fault: count for fault, count in faults.items() if count}
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey.from_coercible(asset),
        check_name=name,
        passed=not found,
        severity=WARN if warn else ERROR,
        description=_told(found) or good,
        metadata={**({"faults": count_table(found, "fault")} if found else {}), **metadata},
    )


def _told(found: Mapping[str, int]) -> str:
    """The commonest faults in one line; the table beside it has more of them."""
    ordered = sorted(found, key=lambda fault: (-found[fault], fault))
    more = [f"and {len(ordered) - TOLD} more"] if len(ordered) > TOLD else []
    return "; ".join([f"{found[fault]:,} × {fault}" for fault in ordered[:TOLD]] + more)


def _reported(context: dg.AssetCheckExecutionContext, answers: Iterable[dg.AssetCheckResult]) -> Results:
    """Give the answers to Dagster. One that fails is a fact about the data: the run is not to be started anew for it."""
    for result in answers:
        if not result.passed and result.severity == ERROR:
            stop_run_retries(context.instance, context.run.run_id)
        yield result


def _specs(
    quarters: Quarters, asset: str | dg.AssetKey, *checks: tuple[str, str, bool], reads: Sequence[str] = ()
) -> list[dg.AssetCheckSpec]:
    """Check specs from (name, description, blocking); `reads` are other assets whose rows the checks need."""
    return [
        dg.AssetCheckSpec(
            name, asset=asset, description=text, blocking=blocking, partitions_def=quarters, additional_deps=reads
        )
        for name, text, blocking in checks
    ]


def _under18_checks(quarters: Quarters) -> dg.AssetChecksDefinition:
    asset = "raw_under18_cases"
    child = "Every case is that of a child: under 18 when registered, or by the present age where no birthday is known."
    readable = "The account may read dates of birth, so that growing up takes no child out of past figures."

    @dg.multi_asset_check(
        name="check_raw_under18_cases",
        specs=_specs(quarters, asset, ("no_adult", child, True), ("date_of_birth_readable", readable, False)),
        ins={"cases": dg.AssetIn(asset)},
    )
    def check(context: dg.AssetCheckExecutionContext, cases: Frames) -> Results:
        """Count the rows that are not of an enabled child, and look whether the pull could read dates of birth."""
        from primero_ona.mapping.membership import MEMBERSHIP_FIELDS, membership

        with safe_step(context.instance, context.run.run_id):
            rows = adults = 0
            for frame in cases.read(MEMBERSHIP_FIELDS):
                rows += len(frame)
                adults += int((~membership(frame)["under18"]).sum())
            unreadable = cases.summary.get("pull", {}).get("missing_optional", ())
        faults = {"row is not an enabled child, under 18 when registered": adults}
        blind = {f"case decided by its present age: {WITHOUT_BIRTH}": rows * (BIRTH_FIELD in unreadable)}
        good = f"all {rows:,} were under 18 when registered, or are by the present age"
        answers = [
            answer(asset, "no_adult", faults, good=good, rows=rows),
            answer(asset, "date_of_birth_readable", blind, good="dates of birth can be read", warn=True),
        ]
        yield from _reported(context, answers)

    return check


def _mapped_specs(quarters: Quarters, asset: str, table: Table) -> list[dg.AssetCheckSpec]:
    key = table.key
    return _specs(
        quarters,
        asset,
        (f"{key}_unique_and_present", f"Every row has a {key}, and no {key} occurs twice.", True),
        ("contract", "Types, ranges and labels are those that the dashboards rely on.", True),
        ("unmapped_codes", "Codes that the mapping does not know, and values it could not read.", False),
        (
            "key_clashes",
            "Children or services that share a key with another; one keeps it, the other is in quarantine.",
            False,
        ),
    )


def _mapped_answers(asset: str, table: Table, rows: Frames, *more: "ParentCheck") -> "list[dg.AssetCheckResult]":
    """Read the rows once and answer the checks that both mapped assets have; `more` looks at the rows, too."""
    from primero_ona.contract import KeyCheck

    keys, contract = KeyCheck(table.key), _contract(table, rows)
    for frame in rows:
        keys.add(frame)
        contract.add(frame)
        for check in more:
            check.add(frame)
    findings = rows.summary["findings"]
    clashes = Counter(entry["reason"] for entry in rows.summary["quarantine"] if entry["reason"] in _CLASHES)
    unmapped = Counter(
        {f"{entry['field']}: {entry['code'] or '(not shown)'}": int(entry["count"]) for entry in findings}
    )
    count = contract.rows
    return [
        answer(
            asset,
            f"{table.key}_unique_and_present",
            {f"{table.key} missing": keys.missing, f"{table.key} repeated": keys.repeated},
            good=f"all {count:,} rows have a key of their own",
            rows=count,
        ),
        answer(asset, "contract", contract.faults, good=f"all {count:,} rows keep the contract", rows=count),
        answer(
            asset, "unmapped_codes", unmapped, good="all codes are known", warn=True, codes=findings_table(findings)
        ),
        answer(asset, "key_clashes", clashes, good="no two share a key", warn=True),
    ]


def _contract(table: Table, rows: Frames) -> "ContractCheck":
    """The contract, with the labels by which these rows were mapped, whatever Primero says by now."""
    from primero_ona.contract import ContractCheck

    return ContractCheck(table, Labels.load().beside(rows.summary.get("primero_labels", {})))


def _mapped_cases_checks(quarters: Quarters) -> dg.AssetChecksDefinition:
    asset = "mapped_cases"

    @dg.multi_asset_check(
        name="check_mapped_cases", specs=_mapped_specs(quarters, asset, CASES), ins={"cases": dg.AssetIn(asset)}
    )
    def check(context: dg.AssetCheckExecutionContext, cases: Frames) -> Results:
        """Read the mapped cases once, and answer all their checks."""
        with safe_step(context.instance, context.run.run_id):
            answers = _mapped_answers(asset, CASES, cases)
        yield from _reported(context, answers)

    return check


def _mapped_services_checks(quarters: Quarters) -> dg.AssetChecksDefinition:
    asset = "mapped_services"
    parent_spec = _specs(
        quarters,
        asset,
        ("case_present", "Every service belongs to a mapped case of the same quarter.", True),
        reads=["mapped_cases"],
    )

    @dg.multi_asset_check(
        name="check_mapped_services",
        specs=[*_mapped_specs(quarters, asset, SERVICES), *parent_spec],
        ins={"services": dg.AssetIn(asset), "cases": dg.AssetIn("mapped_cases")},
    )
    def check(context: dg.AssetCheckExecutionContext, services: Frames, cases: Frames) -> Results:
        """Read the mapped services once, and answer all their checks."""
        from primero_ona.contract import KeyCheck, ParentCheck

        with safe_step(context.instance, context.run.run_id):
            known = KeyCheck("case_id")
            for frame in cases.read(("case_id",)):
                known.add(frame)
            parents = ParentCheck("case_id", known)
            answers = _mapped_answers(asset, SERVICES, services, parents)
            lost = {"service without a mapped case": parents.lost}
            answers.append(answer(asset, "case_present", lost, good="every service has its case"))
        yield from _reported(context, answers)

    return check


def _ona_checks(quarters: Quarters) -> dg.AssetChecksDefinition:
    """After the load, in ONA's own SQL: the last defence, whatever ran before."""
    unique = "Every row of the table has a key, and no key occurs twice (over all quarters)."
    loaded = "Every mapped row of the quarter stands in ONA with equal content, or is counted as stale or quarantined."
    clashes = "Rows set aside because ONA holds their key, or that of their case, for another child (of any quarter)."
    each = (("keys_unique", unique, False), ("quarter_loaded", loaded, False), ("key_clashes", clashes, False))

    @dg.multi_asset_check(
        name="check_ona",
        specs=[
            *_specs(quarters, CASES_KEY, *each, reads=_MAPPED),
            *_specs(quarters, SERVICES_KEY, *each, reads=_MAPPED),
            *_specs(quarters, SERVICES_KEY, ("no_orphans", "No service stands in ONA without its case.", False)),
        ],
        ins={"cases": dg.AssetIn("mapped_cases"), "services": dg.AssetIn("mapped_services")},
        pool="ona_database",
    )
    def check(
        context: dg.AssetCheckExecutionContext, ona: OnaDatabaseResource, cases: Frames, services: Frames
    ) -> Results:
        """Compare what was mapped with what stands in ONA, by ONA's own SQL."""
        from primero_ona.ona.verify import check_keys, compare_quarter, count_orphan_services

        with safe_step(context.instance, context.run.run_id), ona.connection() as connection:
            keys = check_keys(connection)
            orphans = count_orphan_services(connection)
            compared = compare_quarter(connection, cases, services)
            answers = [
                *(_keys_unique(asset, table, keys) for asset, table in _TABLES),
                *(_loaded(asset, compared[table.name]) for asset, table in _TABLES),
                *(_set_aside(asset, compared[table.name]) for asset, table in _TABLES),
                answer(
                    SERVICES_KEY, "no_orphans", {"service without its case": orphans}, good="every service has its case"
                ),
            ]
        yield from _reported(context, answers)

    return check


def _keys_unique(asset: dg.AssetKey, table: Table, keys: "Mapping[str, KeyCounts]") -> dg.AssetCheckResult:
    """All key columns of a table: its own key, and of cases Primero's id too."""
    own = {name: counts for name, counts in keys.items() if name.startswith(f"{table.name}.")}
    missing = {f"{name} missing": counts.missing for name, counts in own.items()}
    repeated = {f"{name} repeated": counts.repeated for name, counts in own.items()}
    rows = own[f"{table.name}.{table.key}"].rows
    return answer(
        asset, "keys_unique", missing | repeated, good=f"all {rows:,} rows have a key of their own", rows=rows
    )


def _loaded(asset: dg.AssetKey, found: "Comparison") -> dg.AssetCheckResult:
    faults = {"mapped row missing in ONA": found.missing, "mapped row with other content in ONA": found.different}
    good = f"of {found.rows:,} mapped rows {found.equal:,} stand in ONA, {found.stale:,} are stale, {found.quarantined:,} in quarantine"
    return answer(
        asset, "quarter_loaded", faults, good=good, rows=found.rows, stale=found.stale, quarantined=found.quarantined
    )


def _set_aside(asset: dg.AssetKey, found: "Comparison") -> dg.AssetCheckResult:
    """The mapping sees clashes within its quarter; only ONA knows those with children of other quarters."""
    faults = {"mapped row in quarantine: another child holds the key": found.quarantined}
    return answer(asset, "key_clashes", faults, good="no other child holds a key", warn=True)
