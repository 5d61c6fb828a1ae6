"""Group 4_indicators: the figures of indicators 4.8 and 4.11a in ONA, the report of a quarter, and their checks."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.contract.derived import INDICATOR_FIGURES, INDICATOR_REPORT
from primero_ona.graph.assets.ona import CASES_KEY, FIGURES_KEY, REPORT_KEY, SERVICES_KEY
from primero_ona.graph.checks import Results, answer, check_specs, notice, report
from primero_ona.graph.metadata import INDICATORS, QUARTER_NOTE, contract_metadata, report_metadata, totals_metadata
from primero_ona.graph.resources import Ona, default_reports
from primero_ona.ona.variants import fingerprint
from primero_ona.quarters import Quarter, current_quarter
from primero_ona.settings import GraphSettings

if TYPE_CHECKING:
    import psycopg

    from primero_ona.ona.figure_reads import Total

    Totals = Mapping[tuple[str, Quarter], Total]

_TEXT = (
    "The figures of indicators 4.8 and 4.11a, by every definition.\n\n"
    "Computed in ONA from `cases` and `services` after each load that wrote something, and each night: all months, quarters and "
    "years, since a late edit moves figures of old ones too. Only figures that differ are written. The ministry has confirmed "
    "no definition; the settings PRIMERO_ONA_INDICATOR_4_8 and PRIMERO_ONA_INDICATOR_4_11A choose what the views show. "
    "`children in …` are those of the whole country in the last quarter that has ended."
)

_REPORT_TEXT = (
    "The report of a quarter, for people: indicators 4.8 and 4.11a.\n\n"
    "Their figures with their definitions, by sex, age, placement, province, disability and service, and how far they can be relied "
    "on. Written as HTML, XLSX and CSV into the folder of PRIMERO_ONA_REPORTS on the machine of the run. This is the internal edition, "
    "which is exact and may not be passed on; `primero-ona report` makes the public one. Each night for the quarters that still "
    "change, and by hand for any other."
)


def figures_asset(settings: GraphSettings) -> dg.AssetsDefinition:
    """The table of figures. It has no quarters: one load may change figures of all of them."""

    @dg.asset(
        key=FIGURES_KEY,
        deps=[CASES_KEY, SERVICES_KEY],
        description=_TEXT,
        group_name=INDICATORS,
        kinds={"postgres", "table"},
        code_version=fingerprint(),
        metadata={**contract_metadata(INDICATOR_FIGURES), "dagster/table_name": INDICATOR_FIGURES.name},
        pool="ona_database",
        config_schema={},
    )
    def indicator_figures(context: dg.AssetExecutionContext, ona: Ona) -> dg.MaterializeResult[Any]:
        """Compute the figures; in the sync of a quarter only where there is something new."""
        from primero_ona.ona.figures import compute_figures

        now = datetime.now(UTC)
        with ona.connection() as connection:
            computed = compute_figures(
                connection,
                run_id=context.run_id,
                now=now,
                first_year=Quarter.parse(settings.start).year,
                defaults=settings.indicators,
                always=not context.has_partition_key,
            )
            totals = _totals(connection, settings)
        children = {key: total.children for key, total in totals.items()}
        # How many figures differ would tell how many concerns, and what else, the one case has that came.
        note = "computed" if computed else "nothing was loaded since the last computation, so the figures stand"
        return dg.MaterializeResult(
            metadata={"note": note, **totals_metadata(children, Quarter.of(now), settings.indicators)}
        )

    return indicator_figures


def _totals(connection: "psycopg.Connection", settings: GraphSettings) -> "Totals":
    """The national totals by indicator and quarter, by the variants that are chosen."""
    from primero_ona.ona.figure_reads import quarter_totals

    totals = quarter_totals(connection, settings.indicators)
    return {(indicator, Quarter.parse(day.isoformat())): total for (indicator, day), total in totals.items()}


def report_asset(settings: GraphSettings, quarters: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """The internal report of each quarter. No part of a sync, which need not wait for it."""

    @dg.asset(
        key=REPORT_KEY,
        deps=[FIGURES_KEY],
        partitions_def=quarters,
        description=_REPORT_TEXT + QUARTER_NOTE,
        group_name=INDICATORS,
        kinds={"html", "excel"},
        code_version=fingerprint(),
        metadata=contract_metadata(INDICATOR_REPORT),
        pool="ona_database",
        config_schema={},
    )
    def indicator_report(context: dg.AssetExecutionContext, ona: Ona) -> dg.MaterializeResult[Any]:
        """Write the quarter's report, and show its two figures, which the UI plots."""
        from primero_ona.report.files import write_report
        from primero_ona.report.tables import Period

        quarter = Quarter.parse(context.partition_key)
        folder = settings.reports or default_reports(context.instance)
        with ona.connection() as connection:
            paths = write_report(
                connection, Period.of_quarter(quarter), settings.indicators, "internal", folder, datetime.now(UTC)
            )
            totals = _totals(connection, settings)
        children = {name: totals[name, quarter].children for name in settings.indicators}
        return dg.MaterializeResult(metadata=report_metadata(quarter, children, settings.indicators, paths))

    return indicator_report


_CHECKS = {
    "parts_add_up": "The values of each dimension in which a child has one add up to the whole.",
    "within_children": "No figure is larger than the number of children in ONA.",
    "usual_change": "The last quarter that has ended is within PRIMERO_ONA_CHANGE_LIMIT percent of the one before and of the year "
    "before.",
    "coverage": "Of the last quarter that has ended, PRIMERO_ONA_COVERAGE_LIMIT percent of the children have a known age and a date.",
}


def figure_checks(settings: GraphSettings) -> dg.AssetChecksDefinition:
    """All checks of the figures, answered by one step."""

    @dg.multi_asset_check(specs=check_specs(None, FIGURES_KEY, _CHECKS), pool="ona_database", config_schema={})
    def check_figures(ona: Ona) -> Results:
        """Add the figures up, and compare national totals with earlier ones."""
        from primero_ona.ona.figure_reads import figures_beyond_children, unequal_sums

        with ona.connection() as connection:
            sums = {f"{dimension} does not add up": count for dimension, count in unequal_sums(connection).items()}
            beyond = {"figure larger than the number of children": figures_beyond_children(connection)}
            totals = _totals(connection, settings)
        ended = current_quarter().previous()
        changes = unusual_changes(totals, ended, settings.change_limit)
        poor = poorly_covered(totals, ended, settings.coverage_limit)
        answers = [
            answer(FIGURES_KEY, "parts_add_up", sums, good="all parts add up to the whole"),
            answer(FIGURES_KEY, "within_children", beyond, good="no figure is larger than the number of children"),
            notice(FIGURES_KEY, "usual_change", changes, good=f"{ended} is as usual"),
            notice(FIGURES_KEY, "coverage", poor, good=f"{ended} is covered"),
        ]
        yield from report(answers)

    return check_figures


def unusual_changes(totals: "Totals", quarter: Quarter, limit: int) -> str:
    """Say which indicators differ by more than `limit` percent from the quarter before or the year before; empty where none.

    Nothing is said of a quarter that is before the first.
    """
    found = []
    for indicator in [name for name, at in totals if at == quarter]:
        now = totals[indicator, quarter].children
        for earlier in (quarter.previous(), Quarter(quarter.year - 1, quarter.number)):
            before = totals.get((indicator, earlier))
            if before and abs(now - before.children) * 100 > limit * before.children:
                found.append(f"{indicator}: {now:,} children in {quarter}, {before.children:,} in {earlier}")
    return "; ".join([*found, "look for loads that are missing before the figures are published"]) if found else ""


def poorly_covered(totals: "Totals", quarter: Quarter, limit: int) -> str:
    """Say which indicators have less than `limit` percent coverage; empty where none has. How much less would count by value."""
    poor = [indicator for (indicator, at), total in totals.items() if at == quarter and total.coverage < limit]
    if not poor:
        return ""
    return (
        f"{' and '.join(poor)}: too many children of {quarter} have no known age, or no date; `indicator_figures` tells how many "
        "(dimension coverage). Services that OSCaR sends have no date, and its age 0 may mean that the age is not known"
    )
