"""ONA's tables that hold no child: places, the dictionary of columns, and the figures of the indicators."""

from __future__ import annotations

from typing import LiteralString, NamedTuple

from primero_ona.contract.column import Column, Table

#: The texts of `status` in locations_lookup: a code that Primero has no more, or has disabled, is retired, and stays.
CURRENT, RETIRED = "current", "retired"

LOCATIONS_LOOKUP = Table(
    name="locations_lookup",
    key="code",
    description="The districts of Cambodia with their provinces.",
    columns=(
        Column("code", "text", "Code of the district, without leading zero", nullable=False),
        Column("district", "text", "Name of the district"),
        Column("province", "text", "Name of the province"),
        Column("province_code", "text", "Code of the province, without leading zero"),
        Column("district_km", "text", "Name of the district in Khmer", added=True),
        Column("province_km", "text", "Name of the province in Khmer", added=True),
        Column("gazetteer_code", "text", "Official code of the district, four digits", added=True),
        Column("status", "text", "`retired` where Primero has the district no more, or has disabled it; else `current`",
               added=True, allowed=(CURRENT, RETIRED)),
    ),
)  # fmt: skip


class District(NamedTuple):
    """One district; names as Primero has them, codes without leading zeros. `current`: not disabled."""

    code: str
    district: str
    province: str
    province_code: str
    district_km: str
    province_km: str
    current: bool


DATA_DICTIONARY = Table(
    name="data_dictionary",
    key="table_name",
    key_rest=("column_name", "option_id"),
    description="What the columns of ONA's tables mean, and their options, in English and Khmer.",
    columns=(
        Column("table_name", "text", "Table or view", nullable=False),
        Column("column_name", "text", "Column of it", nullable=False),
        Column("primero_form", "text", "Form of Primero that shows the field; empty where there is none"),
        Column("primero_field", "text", "Field of Primero that the column comes from; empty where there is none"),
        Column("field_label_en", "text", "What the column means, in English"),
        Column("field_label_km", "text",
               "What the column means, in Khmer; untranslated where it equals the English text: then `reviewed` is false"),
        Column("option_id", "text", "Id of the option; empty in the row that describes the column itself",
               nullable=False),
        Column("option_value", "text", "The option exactly as it stands in the table; empty in the column's own row"),
        Column("option_value_km", "text",
               "The option in Khmer; untranslated where it equals `option_value`: then `reviewed` is false"),
        Column("sort_order", "integer", "Place of the column in its table, and of the option among its options"),
        Column("reviewed", "boolean", "Whether a person approved the Khmer text; new and changed texts begin as false"),
    ),
)  # fmt: skip

#: What stands beside every figure, until the ministry has said which variant is meant.
UNCONFIRMED: LiteralString = "definition not confirmed by the ministry"

FIGURE_COLUMNS = (
    Column("indicator", "text", "Indicator", nullable=False, allowed=("4.8", "4.11a")),
    Column("variant", "text", "Which definition of the indicator; the ministry has confirmed none", nullable=False,
           allowed=("event", "registered", "served", "open", "registered_or_served")),
    Column("period", "text", "Kind of period", nullable=False, allowed=("month", "quarter", "year")),
    Column("period_start", "date", "First day of the period, in Phnom Penh", nullable=False),
    Column("dimension", "text", "What the children are grouped by, such as sex or province; `all` for all of them",
           nullable=False),
    Column("value", "text", "Value of the dimension; `(empty)` where it is not recorded", "sensitive", nullable=False),
    Column("children", "integer", "Children that count, each once", "quasi-identifier", nullable=False),
    Column("updated_at", "timestamptz", "When this figure last changed", nullable=False),
)  # fmt: skip

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
        Column("children", "text", "Children that count, each once; in the public edition a text such as `<5`",
               "quasi-identifier"),
        Column("note", "text", "That the ministry has confirmed no definition"),
    ),
)  # fmt: skip
