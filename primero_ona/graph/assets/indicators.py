"""Group 4_indicators: the figures of indicators 4.8 and 4.11a in ONA."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from primero_ona.contract.figures import INDICATOR_FIGURES
from primero_ona.graph.assets.common import INDICATORS, contract_metadata
from primero_ona.graph.assets.ona import CASES_KEY, FIGURES_KEY, SERVICES_KEY
from primero_ona.graph.metadata import totals_metadata
from primero_ona.graph.resources import OnaDatabaseResource
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
