"""Asset checks of a quarter before it is loaded, and how a check answers: by counts, never by a value of a child or a key.

One op for each asset reads its rows once and answers all the asset's checks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.contract.column import Table
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import CheckError
from primero_ona.graph.metadata import count_table, roughly
from primero_ona.graph.resources import Partitions
from primero_ona.mapping.labels import Labels
from primero_ona.mapping.result import to_decide
from primero_ona.pipeline.stored import MAPPED_CASES, MAPPED_SERVICES, REINTEGRATION, UNDER18, StoredAssets
from primero_ona.primero.fields import GBV_REASON, warn_of_fields
from primero_ona.quarters import Quarter

if TYPE_CHECKING:
    from primero_ona.pipeline.contract import KeyCheck

Quarters = dg.PartitionsDefinition[str]
Results = Iterator[dg.AssetCheckResult]
Answers = Callable[[StoredAssets, Quarter], list[dg.AssetCheckResult]]

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
    # The commonest in one line; the table beside it has more of them.
    ordered = sorted(found, key=lambda fault: (-found[fault], fault))
    said = [f"{found[fault]:,} × {fault}" for fault in ordered[:MAX_FAULTS_SHOWN]]
    if len(ordered) > MAX_FAULTS_SHOWN:
        said.append(f"and {len(ordered) - MAX_FAULTS_SHOWN} more")
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=name,
        passed=not found,
        severity=WARN if warn else ERROR,
        description="; ".join(said) or good,
        metadata={**({"faults": count_table(found, "fault")} if found else {}), **metadata},
    )


def notice(asset: str | dg.AssetKey, name: str, fault: str, *, good: str) -> dg.AssetCheckResult:
    """A check that warns with `fault`, without a number of rows; where it is empty, the check passes."""
    return dg.AssetCheckResult(
        asset_key=asset, check_name=name, passed=not fault, severity=WARN, description=fault or good
    )


def report(answers: Iterable[dg.AssetCheckResult]) -> Results:
    """Give the answers of a check step to Dagster, all of them; then fail the step where one of severity ERROR failed.

    Dagster lets a run succeed whose check fails without blocking anything, and then no alert sees it. The run is not
    retried: the same rows would fail again.
    """
    failed = []
    for result in answers:
        yield result
        if not result.passed and result.severity == ERROR:
            asset = result.asset_key.to_user_string() if result.asset_key else "an asset"
            failed.append(f"check {result.check_name} on {asset} failed: {result.description}")
    if failed:
        raise CheckError("; ".join(failed))


def check_specs(
    quarters: Quarters | None, asset: str | dg.AssetKey, checks: Mapping[str, str], reads: Sequence[Any] = ()
) -> list[dg.AssetCheckSpec]:
    """Check specs from names and descriptions; `reads` are other assets whose rows the checks need."""
    return [
        dg.AssetCheckSpec(
            name,
            asset=asset,
            description=text,
            blocking=name in _BLOCKING,
            partitions_def=quarters,
            additional_deps=reads,
        )
        for name, text in checks.items()
    ]


#: Where one of these fails, nothing is made of the rows.
_BLOCKING = frozenset({IDENTITY, "contract", "case_present", "no_adult"})

_FIELDS_SEEN = {
    "fields_seen": "Every field that is asked for occurs among Primero's cases; the columns of one that does not stay empty."
}
_OF_CHILDREN = {
    "no_adult": "Every case is that of a child: under 18 when registered, or by the present age where no birthday is known.",
    "gbv_agreed": "No case of the module for gender-based violence is in either set, or a setting says that it is agreed.",
}
_OF_MAPPED = {
    "contract": "Types, ranges and labels are those that the dashboards rely on.",
    "unmapped_codes": "Every code is known to the mapping or accepted (`labels.yaml`), and no field is often unreadable; see "
    "`primero-ona findings`.",
}
_OF_SERVICES = {"case_present": "Every service belongs to a mapped case of the same quarter."}


def asset_checks(quarters: Quarters, *, gbv_agreed: bool = False) -> list[dg.AssetChecksDefinition]:
    """The checks of raw and mapped rows. `gbv_agreed`: that cases of the module for gender-based violence come is agreed."""

    def of_children(stored: StoredAssets, quarter: Quarter) -> list[dg.AssetCheckResult]:
        """Count the rows that are not of an enabled child; tell what the pull noted of fields and of one module."""
        from primero_ona.mapping.membership import MEMBERSHIP_FIELDS, membership

        cases, rows, adults = stored.open(UNDER18, quarter), 0, 0
        for frame in cases.read(MEMBERSHIP_FIELDS):
            rows += len(frame)
            adults += int((~membership(frame)["under18"]).sum())
        faults = {"row is not an enabled child, under 18 when registered": adults}
        good = f"all {rows:,} were under 18 when registered, or are by the present age"
        of_gbv = cases.summary.get("reasons", {}).get(GBV_REASON, 0)
        gbv = "" if gbv_agreed or not of_gbv else _GBV.format(roughly(of_gbv))
        agreed = "agreed by PRIMERO_ONA_GBV_AGREED" if gbv_agreed else "none is included"
        return [
            answer(UNDER18, "no_adult", faults, good=good, rows=rows),
            _fields_seen(UNDER18, cases.summary),
            notice(UNDER18, "gbv_agreed", gbv, good=agreed),
        ]

    of_services = check_specs(quarters, MAPPED_SERVICES, _OF_SERVICES, reads=[MAPPED_CASES])
    return [
        _checks(REINTEGRATION, check_specs(quarters, REINTEGRATION, _FIELDS_SEEN), _reintegration),
        _checks(UNDER18, check_specs(quarters, UNDER18, _OF_CHILDREN | _FIELDS_SEEN), of_children),
        _checks(MAPPED_CASES, _mapped_specs(quarters, MAPPED_CASES, CASES), _cases),
        _checks(MAPPED_SERVICES, [*_mapped_specs(quarters, MAPPED_SERVICES, SERVICES), *of_services], _services),
    ]


def _mapped_specs(quarters: Quarters, asset: str, table: Table) -> list[dg.AssetCheckSpec]:
    text = f"Every row is identified by its {' with '.join(table.identity)}, and no two rows by the same."
    return check_specs(quarters, asset, {IDENTITY: text, **_OF_MAPPED})


def _checks(asset: str, specs: Sequence[dg.AssetCheckSpec], answers: Answers) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(name=f"check_{asset}", specs=specs, description=answers.__doc__, config_schema={})
    def check(context: dg.AssetCheckExecutionContext, partitions: Partitions) -> Results:
        yield from report(answers(partitions, Quarter.parse(context.partition_key)))

    return check


def _reintegration(stored: StoredAssets, quarter: Quarter) -> list[dg.AssetCheckResult]:
    """Tell whether there are fields that no case had; reads no row."""
    return [_fields_seen(REINTEGRATION, stored.open(REINTEGRATION, quarter).summary)]


def _fields_seen(asset: str, summary: Mapping[str, Any]) -> dg.AssetCheckResult:
    """Tell from what the pull has noted whether there are fields that no case had."""
    missing = summary.get("pull", {}).get("fields", {}).get("missing", ())
    return notice(asset, "fields_seen", "; ".join(warn_of_fields(missing)), good="every field occurs")


def _cases(stored: StoredAssets, quarter: Quarter) -> list[dg.AssetCheckResult]:
    """Read the mapped cases once, and answer all their checks."""
    return _mapped(MAPPED_CASES, CASES, stored, quarter)


def _services(stored: StoredAssets, quarter: Quarter) -> list[dg.AssetCheckResult]:
    """Read the mapped services once, and answer all their checks."""
    from primero_ona.pipeline.contract import KeyCheck

    known, parents = KeyCheck("primero_id"), KeyCheck("primero_case_id")
    for frame in stored.open(MAPPED_CASES, quarter).read(("primero_id",)):
        known.add(frame)
    answers = _mapped(MAPPED_SERVICES, SERVICES, stored, quarter, parents)
    lost = {"service without a mapped case": parents.not_in(known)}
    return [*answers, answer(MAPPED_SERVICES, "case_present", lost, good="every service has its case")]


def _mapped(
    asset: str, table: Table, stored: StoredAssets, quarter: Quarter, *more: "KeyCheck"
) -> list[dg.AssetCheckResult]:
    """Read the rows once and answer the checks that both mapped assets have; `more` looks at the rows, too."""
    from primero_ona.pipeline.contract import ContractCheck, KeyCheck

    rows = stored.open(asset, quarter)
    # With the labels by which these rows were mapped, whatever Primero says by now.
    labels = Labels.load().beside(rows.summary.get("primero_labels", {}))
    keys, contract = KeyCheck(*table.identity), ContractCheck(table, labels)
    for frame in rows:
        contract.add(frame)
        for check in (keys, *more):
            check.add(frame)
    count = contract.rows
    identity = {"row without identity": keys.missing, "row occurs again": keys.repeated}
    unmapped = _UNMAPPED if to_decide(rows.summary["findings"], labels.accepted, count) else ""
    return [
        answer(asset, IDENTITY, identity, good=f"all {count:,} rows are there once", rows=count),
        answer(asset, "contract", contract.faults, good=f"all {count:,} rows keep the contract", rows=count),
        notice(asset, "unmapped_codes", unmapped, good="all codes are known or accepted"),
    ]
