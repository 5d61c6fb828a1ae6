"""The one table contract: which tables and columns ONA has, their types, their meaning, and how personal they are.

What belongs here: facts about columns. The DDL, the staging tables, the Arrow schema of the mapped frames, the checks
before the load and the column schema that the UI shows are all made from it; no column is typed a second time. What
does not belong here: SQL, and how a value is mapped. The order of the columns is that of the mapped frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, LiteralString

if TYPE_CHECKING:
    import pyarrow as pa

ColumnType = Literal["text", "date", "integer", "boolean", "timestamp", "timestamptz", "uuid"]
#: How a column bears on a child: `key` names the case, `quasi-identifier` can help to single a child out, `sensitive`
#: says something about it that must not be known, `none` is neither.
PersonalData = Literal["key", "quasi-identifier", "sensitive", "none"]


@cache
def _arrow_types() -> dict[ColumnType, pa.DataType]:
    """A uuid stays text in frames: pandas and Parquet have no common type for it, PostgreSQL reads the text."""
    import pyarrow as pa  # noqa: PLC0415  every process that loads the graph imports the contract

    return {
        "text": pa.string(),
        "date": pa.date32(),
        "integer": pa.int32(),
        "boolean": pa.bool_(),
        "timestamp": pa.timestamp("ms"),
        "timestamptz": pa.timestamp("ms", tz="UTC"),
        "uuid": pa.string(),
    }


@dataclass(frozen=True)
class Column:
    """One column of a table in ONA.

    `added`: this project brought it, the dashboards do not know it. `labels`: the field of Primero whose label table in
    the mapping gives the values, one or several joined with `, `; `passes_through` where unknown values are kept as they
    are. `allowed`: the values themselves, where they are few and fixed. `within`: smallest and largest number.
    `set_by_load`: not in the mapped frames. `field`: the field of Primero that the column comes from; `derived` where the
    column says something else than the field's own label. `options`: how a value is made of an option's id where no label
    table says it: its words (`names`), or the id itself (`ids`).
    """

    name: str
    type: ColumnType
    description: str
    personal_data: PersonalData = "none"
    nullable: bool = True
    added: bool = False
    labels: str | None = None
    passes_through: bool = False
    allowed: tuple[str, ...] | None = None
    within: tuple[int, int] | None = None
    set_by_load: bool = False
    field: str | None = None
    derived: bool = False
    options: Literal["names", "ids"] | None = None

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of the column in a mapped frame."""
        return _arrow_types()[self.type]


@dataclass(frozen=True)
class Table:
    """One table in ONA; `key` is the name of its key column, which holds every value once and is never null.

    Where one column is not enough, the key goes on with `key_rest`. `section`: the subform of Primero whose elements are
    the rows; None for a table of cases, or of no records at all. `identity` names the columns of a mapped frame that tell
    its rows apart; in these frames `key` is the plain key, which rows may share. `deciding`: columns of the mapped frames
    that are not in ONA; the load decides by them which row bears a plain key.
    """

    name: str
    key: str
    description: str
    columns: tuple[Column, ...]
    key_rest: tuple[str, ...] = ()
    section: str | None = None
    identity: tuple[str, ...] = ()
    deciding: tuple[Column, ...] = ()

    @property
    def frame_columns(self) -> tuple[Column, ...]:
        """The columns of the mapped frames."""
        return (*self.mapped, *self.deciding)

    @property
    def mapped(self) -> tuple[Column, ...]:
        """The columns that ONA takes from the mapped frames: all but those that the load sets itself."""
        return tuple(column for column in self.columns if not column.set_by_load)

    @property
    def mapped_names(self) -> list[str]:
        """The names of the mapped columns, in the order of the mapped frames."""
        return [column.name for column in self.mapped]

    @property
    def frame_names(self) -> list[str]:
        """The names of all columns of the mapped frames, in their order."""
        return [column.name for column in self.frame_columns]

    def column(self, name: str) -> Column:
        """The column of that name; KeyError where the table has none."""
        return {column.name: column for column in self.columns}[name]

    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of the mapped frames."""
        import pyarrow as pa  # noqa: PLC0415  as above

        return pa.schema([pa.field(c.name, c.arrow_type, nullable=c.nullable) for c in self.frame_columns])


def _age(name: str, description: str) -> Column:
    return Column(
        name,
        "integer",
        f"{description}, in completed years; empty where the date of birth or that day is unknown",
        "quasi-identifier",
        added=True,
        within=(0, 130),
        field="date_of_birth",
        derived=True,
    )


def _place(name: str, description: str, field: str, *, derived: bool = True) -> Column:
    return Column(name, "text", description, "quasi-identifier", field=field, derived=derived)


CASES = Table(
    name="cases",
    key="case_id",
    identity=("primero_id",),
    deciding=(Column("created_at", "timestamptz", "When the case was created in Primero"),),
    description="One row per case of indicator 4.8 or 4.11a, in its present state.",
    columns=(
        Column(
            "case_id",
            "text",
            "Case ID shown in Primero; where another case has the same one, with `~` and the beginning of this case's own id; the key",
            "key",
            nullable=False,
            field="case_id_display",
        ),
        Column("last_updated_date", "timestamp", "UTC time of the sync that last changed this row", set_by_load=True),
        Column("registration_date", "date", "Date of registration", "quasi-identifier", field="registration_date"),
        Column(
            "case_source",
            "text",
            "`oscar` for a case that has an OSCaR number, else `primero`",
            allowed=("oscar", "primero"),
            field="oscar_number",
            derived=True,
        ),
        Column(
            "disabled",
            "text",
            "Recorded disability; empty does not mean none",
            "sensitive",
            labels="disability_type",
            field="disability_type",
        ),
        Column(
            "type_of_case",
            "text",
            "Type of case: Primero's option without its number",
            "sensitive",
            field="type_of_case",
            options="names",
        ),
        Column("sex", "text", "Sex", "quasi-identifier", labels="sex", passes_through=True, field="sex"),
        Column("age", "integer", "Age in completed years", "quasi-identifier", within=(0, 130), field="age"),
        Column(
            "protection_concerns",
            "text",
            "Protection concerns, joined with `, `; an empty text where there are none",
            "sensitive",
            labels="protection_concerns",
            field="protection_concerns",
        ),
        Column(
            "placement_type",
            "text",
            "Type of placement: Primero's option without its number",
            "sensitive",
            field="type_of_placement",
            options="names",
        ),
        Column(
            "consent_for_reporting",
            "text",
            "`true` where consent to share for reporting is recorded, else `false`",
            allowed=("true", "false"),
            field="consent_reporting",
        ),
        _place("location_code", "Code of the current location, as Primero has it", "location_current"),
        _place("province_current", "Province of the current location", "location_current"),
        _place(
            "province_current_code",
            "Code of the province of the current location, without leading zero",
            "location_current",
        ),
        _place("district_current", "District of the current location", "location_current"),
        _place(
            "district_current_code",
            "Code of the district of the current location, without leading zero",
            "location_current",
        ),
        _place("province_caregiver", "Province of the caregiver", "location_caregiver"),
        _place(
            "province_caregiver_code",
            "Code of the province of the caregiver, without leading zero",
            "location_caregiver",
        ),
        _place("district_caregiver", "District of the caregiver", "location_caregiver"),
        _place(
            "district_caregiver_code",
            "Code of the district of the caregiver, without leading zero",
            "location_caregiver",
        ),
        Column("primero_id", "uuid", "Primero's own id of the case, never shown to people", "key", added=True),
        Column("primero_updated_at", "timestamptz", "When the case was last changed in Primero", added=True),
        Column(
            "consent_status",
            "text",
            "Consent with `refused` and `not recorded` kept apart",
            added=True,
            allowed=("given", "refused", "not recorded"),
            field="consent_reporting",
            derived=True,
        ),
        Column(
            "case_status",
            "text",
            "Status of the case in Primero, such as open or closed",
            added=True,
            field="status",
            options="ids",
        ),
        Column(
            "age_group",
            "text",
            "Age group",
            "quasi-identifier",
            added=True,
            allowed=("0-4", "5-9", "10-14", "15-17", "18+", "unknown"),
            field="age",
            derived=True,
        ),
        Column("care_date", "date", "Start of the placement", "quasi-identifier", added=True, field="care_date"),
        Column(
            "date_of_reintegration",
            "date",
            "Date of reintegration",
            "quasi-identifier",
            added=True,
            field="date_of_reintegration",
        ),
        Column(
            "date_closure",
            "date",
            "Date of the closure of the case",
            "quasi-identifier",
            added=True,
            field="date_closure",
        ),
        _age("age_at_registration", "Age on the day of registration"),
        _age("age_at_placement", "Age at the start of the placement"),
        _age("age_at_reintegration", "Age on the day of reintegration"),
    ),
)

SERVICES = Table(
    name="services",
    key="unique_id",
    identity=("primero_case_id", "unique_id", "place"),
    deciding=(
        Column(
            "place",
            "integer",
            "Place among the services of the case that share the `unique_id`, from 1",
            nullable=False,
        ),
    ),
    section="services_section",
    description="One row per service recorded in a case.",
    columns=(
        Column(
            "unique_id",
            "text",
            "Primero's id of the service; where another service has the same one, with `~` and the beginning of the case's own "
            "id; the key",
            "key",
            nullable=False,
        ),
        Column("case_id", "text", "The case that received the service", "key", nullable=False),
        Column("service_type", "text", "Type of service", "sensitive", labels="service_type", field="service_type"),
        Column(
            "service_date",
            "date",
            "Day in Phnom Penh on which the service was given",
            "quasi-identifier",
            field="service_implemented_day_time",
        ),
        Column("primero_case_id", "uuid", "Primero's own id of the case", "key", added=True),
        Column(
            "service_subtypes",
            "text",
            "Primero's ids of the subtypes, joined with `, `",
            "sensitive",
            added=True,
            field="service_subtype",
            options="ids",
        ),
        _age("age_at_service", "Age on the day of the service"),
    ),
)

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

#: What stands beside every figure, until the ministry has said which variant is meant.
UNCONFIRMED: LiteralString = "definition not confirmed by the ministry"

_FIGURE_COLUMNS = (
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
    columns=_FIGURE_COLUMNS,
)

TABLES = (CASES, SERVICES, LOCATIONS_LOOKUP, DATA_DICTIONARY, INDICATOR_FIGURES)


@dataclass(frozen=True)
class View:
    """One view that this project makes in ONA: what it shows, and the query, whose placeholders are ONA's tables."""

    name: str
    description: str
    columns: tuple[Column, ...]
    query: LiteralString


_VIEW_COLUMNS = (
    *_FIGURE_COLUMNS[:2],
    Column("definition", "text", "Whether the definition is confirmed", allowed=(UNCONFIRMED,)),
    *_FIGURE_COLUMNS[2:],
)

_DEFAULT_FIGURES: LiteralString = """
SELECT f.indicator, f.variant, i.status AS definition, f.period, f.period_start, f.dimension, f.value, f.children, f.updated_at
  FROM {indicator_figures} AS f
  JOIN (SELECT indicator, variant, 'definition not confirmed by the ministry'::text AS status FROM primero_sync.indicators) AS i
    ON i.indicator = f.indicator AND i.variant = f.variant
 WHERE f.indicator = """

VIEWS = (
    View(
        name="indicator_4_8",
        description="Indicator 4.8 by the definition that the settings choose.",
        columns=_VIEW_COLUMNS,
        query=_DEFAULT_FIGURES + "'4.8'",
    ),
    View(
        name="indicator_4_11a",
        description="Indicator 4.11a by the definition that the settings choose.",
        columns=_VIEW_COLUMNS,
        query=_DEFAULT_FIGURES + "'4.11a'",
    ),
    View(
        name="data_dicitonary",
        description="The table data_dictionary, spelt as older documents spell it.",
        columns=DATA_DICTIONARY.columns,
        query="SELECT * FROM {data_dictionary}",
    ),
)
