"""Group 4_indicators: the figures of indicators 4.8 and 4.11a in ONA, and the report of a quarter."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from primero_ona.contract.derived import INDICATOR_FIGURES, INDICATOR_REPORT
from primero_ona.graph.assets.common import INDICATORS, QUARTER_NOTE, contract_metadata
from primero_ona.graph.assets.ona import CASES_KEY, FIGURES_KEY, REPORT_KEY, SERVICES_KEY
from primero_ona.graph.metadata import report_metadata, totals_metadata
from primero_ona.graph.resources import OnaDatabaseResource, default_reports
from primero_ona.ona.variants import fingerprint
from primero_ona.quarters import Quarter
from primero_ona.settings import GraphSettings

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


def indicator_assets(settings: GraphSettings) -> list[dg.AssetsDefinition]:
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
    def indicator_figures(
        context: dg.AssetExecutionContext, ona: dg.ResourceParam[OnaDatabaseResource]
    ) -> dg.MaterializeResult[Any]:
        """Compute the figures; in the sync of a quarter only where there is something new."""
        from primero_ona.ona.figure_reads import quarter_totals
        from primero_ona.ona.figures import compute_figures

        now = datetime.now(UTC)
        with ona.connection() as connection:
            counts = compute_figures(
                connection,
                run_id=context.run_id,
                now=now,
                first_year=Quarter.parse(settings.start).year,
                defaults=settings.indicators,
                always=not context.has_partition_key,
            )
            totals = quarter_totals(connection, settings.indicators)
        children = {
            (indicator, Quarter.parse(first_day.isoformat())): total.children
            for (indicator, first_day), total in totals.items()
        }
        # How many figures differ would tell how many concerns, and what else, the one case has that came.
        note = "computed" if counts.computed else "nothing was loaded since the last computation, so the figures stand"
        return dg.MaterializeResult(
            metadata={"note": note, **totals_metadata(children, Quarter.of(now), settings.indicators)}
        )

    return [indicator_figures]


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
    def indicator_report(
        context: dg.AssetExecutionContext, ona: dg.ResourceParam[OnaDatabaseResource]
    ) -> dg.MaterializeResult[Any]:
        """Write the quarter's report, and show its two figures, which the UI plots."""
        from primero_ona.ona.figure_reads import quarter_totals
        from primero_ona.report.files import write_report
        from primero_ona.report.tables import Period

        quarter = Quarter.parse(context.partition_key)
        folder = settings.reports_folder or default_reports(context.instance)
        with ona.connection() as connection:
            paths = write_report(
                connection, Period.of_quarter(quarter), settings.indicators, "internal", folder, datetime.now(UTC)
            )
            totals = quarter_totals(connection, settings.indicators)
        children = {name: totals[name, quarter.start.date()].children for name in settings.indicators}
        return dg.MaterializeResult(metadata=report_metadata(quarter, children, settings.indicators, paths))

    return indicator_report
