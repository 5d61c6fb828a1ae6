"""Asset checks of the indicators' figures: what must hold of them, and what people should look at before they publish them."""

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg

from primero_ona.graph.assets.ona import FIGURES_KEY
from primero_ona.graph.checks import Results, answer, notice, report
from primero_ona.graph.resources import OnaDatabaseResource
from primero_ona.quarters import Quarter, current_quarter
from primero_ona.settings import GraphSettings

if TYPE_CHECKING:
    from primero_ona.ona.figure_reads import Total

_SPECS = (
    ("parts_add_up", "The values of each dimension in which a child has one add up to the whole."),
    ("within_children", "No figure is larger than the number of children in ONA."),
    (
        "usual_change",
        "The last quarter that has ended is within PRIMERO_ONA_CHANGE_LIMIT percent of the one before and of the year before.",
    ),
    (
        "coverage",
        "Of the last quarter that has ended, PRIMERO_ONA_COVERAGE_LIMIT percent of the children have a known age and a date.",
    ),
)


def figure_checks(settings: GraphSettings) -> dg.AssetChecksDefinition:
    """All checks of the figures, answered by one step."""

    @dg.multi_asset_check(
        name="check_figures",
        specs=[dg.AssetCheckSpec(name, asset=FIGURES_KEY, description=text) for name, text in _SPECS],
        pool="ona_database",
        config_schema={},
    )
    def check(ona: dg.ResourceParam[OnaDatabaseResource]) -> Results:
        """Add the figures up, and compare national totals with earlier ones."""
        from primero_ona.ona.figure_reads import figures_beyond_children, quarter_totals, unequal_sums

        with ona.connection() as connection:
            sums = {f"{dimension} does not add up": count for dimension, count in unequal_sums(connection).items()}
            beyond = {"figure larger than the number of children": figures_beyond_children(connection)}
            totals = quarter_totals(connection, settings.indicators)
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

    return check


def unusual_changes(totals: "Mapping[tuple[str, date], Total]", quarter: Quarter, limit: int) -> str:
    """Say which indicators differ by more than `limit` percent from the quarter before or the year before; empty where none.

    Nothing is said of a quarter that is before the first.
    """
    year_before = Quarter(quarter.year - 1, quarter.number)
    found = []
    for indicator in dict.fromkeys(indicator for indicator, _ in totals):
        now = _children(totals, indicator, quarter)
        for earlier in (quarter.previous(), year_before):
            before = _children(totals, indicator, earlier)
            if now is not None and before is not None and abs(now - before) * 100 > limit * before:
                found.append(f"{indicator}: {now:,} children in {quarter}, {before:,} in {earlier}")
    return "; ".join([*found, "look for loads that are missing before the figures are published"]) if found else ""


def poorly_covered(totals: "Mapping[tuple[str, date], Total]", quarter: Quarter, limit: int) -> str:
    """Say which indicators have less than `limit` percent coverage; empty where none has. How much less would count by value."""
    poor = [
        indicator
        for (indicator, first_day), total in totals.items()
        if first_day.isoformat() == quarter.key and total.coverage < limit
    ]
    named = " and ".join(poor)
    return (
        f"{named}: too many children of {quarter} have no known age, or no date; `indicator_figures` tells how many (dimension "
        "coverage). Services that OSCaR sends have no date, and its age 0 may mean that the age is not known"
        if poor
        else ""
    )


def _children(totals: "Mapping[tuple[str, date], Total]", indicator: str, quarter: Quarter) -> int | None:
    total = totals.get((indicator, date.fromisoformat(quarter.key)))
    return None if total is None else total.children
