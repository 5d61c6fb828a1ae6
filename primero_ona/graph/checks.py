"""Asset checks of a quarter before it is loaded, and how a check answers.

One op for each asset reads its rows once and answers all the asset's checks. Every check is partitioned, so that the UI
shows it by quarter. Results are counts and codes; no value of a child, and no key, is ever in them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.contract.column import Table
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import CheckError
from primero_ona.graph.metadata import count_table, roughly
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.result import to_decide
from primero_ona.pipeline.stored import MAPPED_CASES, MAPPED_SERVICES, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.primero.fields import GBV_REASON, warn_of_fields
from primero_ona.quarters import Quarter

if TYPE_CHECKING:
    from primero_ona.pipeline.contract import ContractCheck, ParentCheck
    from primero_ona.storage.frames import Frames

Quarters = dg.PartitionsDefinition[str]
Results = Iterator[dg.AssetCheckResult]

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN

#: Before the load rows must be distinguishable; the load then gives each a key that is unique in ONA.
IDENTITY = "identity_unique_and_present"

_UNMAPPED = (
    "codes that neither the mapping knows nor anybody has accepted, or fields that often cannot be read; "
    "`primero-ona findings` lists them"
)

_GBV = (
    "cases of Primero's module for gender-based violence (primeromodule-gbv) are loaded, and no setting says that this is "
    "agreed: {} in this quarter. Where it is agreed in writing, set PRIMERO_ONA_GBV_AGREED=yes; else exclude them by "
    "PRIMERO_ONA_MODULES=primeromodule-cp, then `primero-ona backfill`. `primero-ona findings` counts them exactly"
)

#: Faults in a check's one line: more of them hide the first.
MAX_FAULTS_SHOWN = 5


def asset_checks(quarters: Quarters, *, gbv_agreed: bool = False) -> list[dg.AssetChecksDefinition]:
    """The checks of raw and mapped rows. `gbv_agreed`: that cases of the module for gender-based violence come is agreed."""
    return [
        _raw_reintegration_check(quarters),
        _raw_under18_checks(quarters, gbv_agreed=gbv_agreed),
        _mapped_cases_checks(quarters),
        _mapped_services_checks(quarters),
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
        description=_describe(found) or good,
        metadata={**({"faults": count_table(found, "fault")} if found else {}), **metadata},
    )


def notice(asset: str | dg.AssetKey, name: str, fault: str, *, good: str) -> dg.AssetCheckResult:
    """A check that warns with `fault`, without a number of rows; where it is empty, the check passes."""
    key = dg.AssetKey.from_coercible(asset)
    return dg.AssetCheckResult(
        asset_key=key, check_name=name, passed=not fault, severity=WARN, description=fault or good
    )


def _describe(found: Mapping[str, int]) -> str:
    """The commonest faults in one line; the table beside it has more of them."""
    ordered = sorted(found, key=lambda fault: (-found[fault], fault))
    more = [f"and {len(ordered) - MAX_FAULTS_SHOWN} more"] if len(ordered) > MAX_FAULTS_SHOWN else []
    return "; ".join([f"{found[fault]:,} × {fault}" for fault in ordered[:MAX_FAULTS_SHOWN]] + more)


def report(answers: Iterable[dg.AssetCheckResult]) -> Results:
    """Give the answers of a check step to Dagster, all of them; then fail the step where one of severity ERROR failed.

    Dagster lets a run succeed whose check fails without blocking anything, and then no alert sees it. The run is not
    retried: the same rows would fail again.
    """
    given = list(answers)
    yield from given
    failed = [result for result in given if not result.passed and result.severity == ERROR]
    if failed:
        raise CheckError("; ".join(map(_sentence, failed)))


def _quarter(context: dg.AssetCheckExecutionContext) -> Quarter:
    return Quarter.parse(context.partition_key)


def _sentence(result: dg.AssetCheckResult) -> str:
    asset = result.asset_key.to_user_string() if result.asset_key else "an asset"
    return f"check {result.check_name} on {asset} failed: {result.description}"


def check_specs(
    quarters: Quarters, asset: str | dg.AssetKey, *checks: tuple[str, str, bool], reads: Sequence[str] = ()
) -> list[dg.AssetCheckSpec]:
    """Check specs from (name, description, blocking); `reads` are other assets whose rows the checks need."""
    return [
        dg.AssetCheckSpec(
            name, asset=asset, description=text, blocking=blocking, partitions_def=quarters, additional_deps=reads
        )
        for name, text, blocking in checks
    ]


def _fields_seen(quarters: Quarters, asset: str) -> list[dg.AssetCheckSpec]:
    text = "Every field that is asked for occurs among Primero's cases; the columns of one that does not stay empty."
    return check_specs(quarters, asset, ("fields_seen", text, False))


def _fields_seen_answer(asset: str, summary: Mapping[str, Any]) -> dg.AssetCheckResult:
    """Tell from what the pull has noted whether there are fields that no case had."""
    missing = summary.get("pull", {}).get("fields", {}).get("missing", ())
    return notice(asset, "fields_seen", "; ".join(warn_of_fields(missing)), good="every field occurs")


def _gbv_answer(asset: str, summary: Mapping[str, Any], *, agreed: bool) -> dg.AssetCheckResult:
    """Warn of cases of the module for gender-based violence, counted by the pull, until a setting agrees to them."""
    count = summary.get("reasons", {}).get(GBV_REASON, 0)
    fault = "" if agreed or not count else _GBV.format(roughly(count))
    return notice(asset, "gbv_agreed", fault, good="agreed by PRIMERO_ONA_GBV_AGREED" if agreed else "none is included")


def _raw_reintegration_check(quarters: Quarters) -> dg.AssetChecksDefinition:
    asset = REINTEGRATION

    @dg.multi_asset_check(name="check_raw_reintegration_cases", specs=_fields_seen(quarters, asset), config_schema={})
    def check(context: dg.AssetCheckExecutionContext, partitions: dg.ResourceParam[StoredAssets]) -> Results:
        """Tell whether there are fields that no case had; reads no row."""
        summary = partitions.open(asset, _quarter(context)).summary
        yield from report([_fields_seen_answer(asset, summary)])

    return check


def _raw_under18_checks(quarters: Quarters, *, gbv_agreed: bool) -> dg.AssetChecksDefinition:
    asset = UNDER18
    gbv = "No case of the module for gender-based violence is in either set, or a setting says that it is agreed."
    child = "Every case is that of a child: under 18 when registered, or by the present age where no birthday is known."

    @dg.multi_asset_check(
        name="check_raw_under18_cases",
        specs=[
            *check_specs(quarters, asset, ("no_adult", child, True), ("gbv_agreed", gbv, False)),
            *_fields_seen(quarters, asset),
        ],
        config_schema={},
    )
    def check(context: dg.AssetCheckExecutionContext, partitions: dg.ResourceParam[StoredAssets]) -> Results:
        """Count the rows that are not of an enabled child; tell what the pull noted of fields and of one module."""
        from primero_ona.mapping.membership import MEMBERSHIP_FIELDS, membership

        cases = partitions.open(asset, _quarter(context))
        rows = adults = 0
        for frame in cases.read(MEMBERSHIP_FIELDS):
            rows += len(frame)
            adults += int((~membership(frame)["under18"]).sum())
        noted = [_fields_seen_answer(asset, cases.summary), _gbv_answer(asset, cases.summary, agreed=gbv_agreed)]
        faults = {"row is not an enabled child, under 18 when registered": adults}
        good = f"all {rows:,} were under 18 when registered, or are by the present age"
        yield from report([answer(asset, "no_adult", faults, good=good, rows=rows), *noted])

    return check


def _mapped_specs(quarters: Quarters, asset: str, table: Table) -> list[dg.AssetCheckSpec]:
    identity = " with ".join(table.identity)
    return check_specs(
        quarters,
        asset,
        (IDENTITY, f"Every row is identified by its {identity}, and no two rows by the same.", True),
        ("contract", "Types, ranges and labels are those that the dashboards rely on.", True),
        (
            "unmapped_codes",
            "Every code is known to the mapping or accepted (`labels.yaml`), and no field is often unreadable; see `primero-ona findings`.",
            False,
        ),
    )


def _mapped_answers(asset: str, table: Table, rows: "Frames", *more: "ParentCheck") -> "list[dg.AssetCheckResult]":
    """Read the rows once and answer the checks that both mapped assets have; `more` looks at the rows, too."""
    from primero_ona.pipeline.contract import KeyCheck

    keys, contract = KeyCheck(*table.identity), _contract(table, rows)
    for frame in rows:
        keys.add(frame)
        contract.add(frame)
        for check in more:
            check.add(frame)
    count = contract.rows
    unmapped = to_decide(rows.summary["findings"], Labels.load().accepted, count)
    return [
        answer(
            asset,
            IDENTITY,
            {"row without identity": keys.missing, "row occurs again": keys.repeated},
            good=f"all {count:,} rows are there once",
            rows=count,
        ),
        answer(asset, "contract", contract.faults, good=f"all {count:,} rows keep the contract", rows=count),
        notice(asset, "unmapped_codes", _UNMAPPED if unmapped else "", good="all codes are known or accepted"),
    ]


def _contract(table: Table, rows: "Frames") -> "ContractCheck":
    """The contract, with the labels by which these rows were mapped, whatever Primero says by now."""
    from primero_ona.pipeline.contract import ContractCheck

    return ContractCheck(table, Labels.load().beside(rows.summary.get("primero_labels", {})))


def _mapped_cases_checks(quarters: Quarters) -> dg.AssetChecksDefinition:
    asset = MAPPED_CASES

    @dg.multi_asset_check(name="check_mapped_cases", specs=_mapped_specs(quarters, asset, CASES), config_schema={})
    def check(context: dg.AssetCheckExecutionContext, partitions: dg.ResourceParam[StoredAssets]) -> Results:
        """Read the mapped cases once, and answer all their checks."""
        yield from report(_mapped_answers(asset, CASES, partitions.open(asset, _quarter(context))))

    return check


def _mapped_services_checks(quarters: Quarters) -> dg.AssetChecksDefinition:
    asset = MAPPED_SERVICES
    parent_spec = check_specs(
        quarters,
        asset,
        ("case_present", "Every service belongs to a mapped case of the same quarter.", True),
        reads=[MAPPED_CASES],
    )

    @dg.multi_asset_check(
        name="check_mapped_services",
        specs=[*_mapped_specs(quarters, asset, SERVICES), *parent_spec],
        config_schema={},
    )
    def check(context: dg.AssetCheckExecutionContext, partitions: dg.ResourceParam[StoredAssets]) -> Results:
        """Read the mapped services once, and answer all their checks."""
        from primero_ona.pipeline.contract import KeyCheck, ParentCheck

        quarter = _quarter(context)
        cases, services = partitions.open(MAPPED_CASES, quarter), partitions.open(asset, quarter)
        known = KeyCheck("primero_id")
        for frame in cases.read(("primero_id",)):
            known.add(frame)
        parents = ParentCheck("primero_case_id", known)
        answers = _mapped_answers(asset, SERVICES, services, parents)
        lost = {"service without a mapped case": parents.lost}
        answers.append(answer(asset, "case_present", lost, good="every service has its case"))
        yield from report(answers)

    return check
