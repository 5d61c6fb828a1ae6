"""The table of the indicators' figures, which has counts and no child."""

from __future__ import annotations

from typing import LiteralString

from primero_ona.contract.column import Column, Table

#: What stands beside every figure, until the ministry has said which variant is meant.
UNCONFIRMED: LiteralString = "definition not confirmed by the ministry"

FIGURE_COLUMNS = (
    Column("indicator", "text", "Indicator", nullable=False, allowed=("4.8", "4.11a")),
    Column(
        "variant",
        "text",
        "Which definition of the indicator; the ministry has confirmed none",
        nullable=False,
        allowed=("event", "registered", "served", "open", "registered_or_served"),
    ),
    Column("period", "text", "Kind of period", nullable=False, allowed=("month", "quarter", "year")),
    Column("period_start", "date", "First day of the period, in Phnom Penh", nullable=False),
    Column(
        "dimension",
        "text",
        "What the children are grouped by, such as sex or province; `all` for all of them",
        nullable=False,
    ),
    Column(
        "value",
        "text",
        "Value of the dimension; `(empty)` where it is not recorded",
        "sensitive",
        nullable=False,
    ),
    Column("children", "integer", "Children that count, each once", "quasi-identifier", nullable=False),
    Column("updated_at", "timestamptz", "When this figure last changed", nullable=False),
)

INDICATOR_FIGURES = Table(
    name="indicator_figures",
    key="indicator",
    key_rest=("variant", "period", "period_start", "dimension", "value"),
    description="Children in indicators 4.8 and 4.11a, by each definition, period and dimension.",
    columns=FIGURE_COLUMNS,
)

#: A row of the report's CSV; no table of ONA.
INDICATOR_REPORT = Table(
    name="indicator_report",
    key="edition",
    key_rest=("indicator", "definition", "period", "period_start", "table", "label_1", "label_2"),
    description="One count of a report.",
    columns=(
        Column("edition", "text", "`internal`: exact; `public`: what may leave"),
        Column("indicator", "text", "Indicator"),
        Column("definition", "text", "Which definition of the indicator"),
        Column("period", "text", "Kind of period"),
        Column("period_start", "date", "First day of the period, in Phnom Penh"),
        Column("table", "text", "What the children are grouped by; `total` for all of them"),
        Column("label_1", "text", "Value of the first grouping", "sensitive"),
        Column("label_1_km", "text", "The same in Khmer, where Primero has it", "sensitive"),
        Column("label_2", "text", "Value of the second grouping", "sensitive"),
        Column("label_2_km", "text", "The same in Khmer, where Primero has it", "sensitive"),
        Column(
            "children",
            "text",
            "Children that count, each once; in the public edition a text such as `<5`",
            "quasi-identifier",
        ),
        Column("note", "text", "That the ministry has confirmed no definition"),
    ),
)
