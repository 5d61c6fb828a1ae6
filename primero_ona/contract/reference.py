"""ONA's small tables, which describe places and columns and hold no child."""

from __future__ import annotations

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
        Column(
            "status",
            "text",
            "`retired` where Primero has the district no more, or has disabled it; else `current`",
            added=True,
            allowed=(CURRENT, RETIRED),
        ),
    ),
)

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
        Column(
            "field_label_km",
            "text",
            "What the column means, in Khmer; untranslated where it equals the English text: then `reviewed` is false",
        ),
        Column(
            "option_id", "text", "Id of the option; empty in the row that describes the column itself", nullable=False
        ),
        Column("option_value", "text", "The option exactly as it stands in the table; empty in the column's own row"),
        Column(
            "option_value_km",
            "text",
            "The option in Khmer; untranslated where it equals `option_value`: then `reviewed` is false",
        ),
        Column("sort_order", "integer", "Place of the column in its table, and of the option among its options"),
        Column("reviewed", "boolean", "Whether a person approved the Khmer text; new and changed texts begin as false"),
    ),
)
