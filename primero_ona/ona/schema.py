"""The one table contract: which tables and columns ONA has, their types, their meaning, and how personal they are.

What belongs here: facts about columns. The DDL, the staging tables, the Arrow schema of the mapped frames, the checks
before the load and the column schema that the UI shows are all made from it; no column is typed a second time. What
does not belong here: SQL, and how a value is mapped. The order of the columns is that of the mapped frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

ColumnType = Literal["text", "date", "integer", "timestamp", "timestamptz", "uuid"]
#: How a column bears on a child: `key` names the case, `quasi-identifier` can help to single a child out, `sensitive`
#: says something about it that must not be known, `none` is neither.
PersonalData = Literal["key", "quasi-identifier", "sensitive", "none"]

#: A uuid stays text in frames: pandas and Parquet have no common type for it, PostgreSQL reads the text.
_ARROW: dict[ColumnType, pa.DataType] = {
    "text": pa.string(),
    "date": pa.date32(),
    "integer": pa.int32(),
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
    `set_by_load`: not in the mapped frames.
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

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of the column in a mapped frame."""
        return _ARROW[self.type]


@dataclass(frozen=True)
class Table:
    """One table in ONA; `key` is the name of its key column, which holds every value once and is never null."""

    name: str
    key: str
    description: str
    columns: tuple[Column, ...]

    @property
    def mapped(self) -> tuple[Column, ...]:
        """The columns of the mapped frames: all but those that the load sets itself."""
        return tuple(column for column in self.columns if not column.set_by_load)

    @property
    def mapped_names(self) -> list[str]:
        """The names of the mapped columns, in the order of the mapped frames."""
        return [column.name for column in self.mapped]

    def column(self, name: str) -> Column:
        """The column of that name; KeyError where the table has none."""
        return {column.name: column for column in self.columns}[name]

    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of the mapped frames."""
        return pa.schema([pa.field(c.name, c.arrow_type, nullable=c.nullable) for c in self.mapped])


def _place(name: str, description: str) -> Column:
    return Column(name, "text", description, "quasi-identifier")


CASES = Table(
    name="cases",
    key="case_id",
    description="One row per case of indicator 4.8 or 4.11a, in its present state.",
    columns=(
        Column("case_id", "text", "Case ID shown in Primero; the key", "key", nullable=False),
        Column("last_updated_date", "timestamp", "UTC time of the sync that last changed this row", set_by_load=True),
        Column("registration_date", "date", "Date of registration", "quasi-identifier"),
        Column(
            "case_source",
            "text",
            "`oscar` for a case that has an OSCaR number, else `primero`",
            allowed=("oscar", "primero"),
        ),
        Column(
            "disabled", "text", "Recorded disability; empty does not mean none", "sensitive", labels="disability_type"
        ),
        Column("type_of_case", "text", "Type of case: Primero's option without its number", "sensitive"),
        Column("sex", "text", "Sex", "quasi-identifier", labels="sex", passes_through=True),
        Column("age", "integer", "Age in completed years", "quasi-identifier", within=(0, 130)),
        Column(
            "protection_concerns",
            "text",
            "Protection concerns, joined with `, `; an empty text where there are none",
            "sensitive",
            labels="protection_concerns",
        ),
        Column("placement_type", "text", "Type of placement: Primero's option without its number", "sensitive"),
        Column(
            "consent_for_reporting",
            "text",
            "`true` where consent to share for reporting is recorded, else `false`",
            allowed=("true", "false"),
        ),
        _place("location_code", "Code of the current location, as Primero has it"),
        _place("province_current", "Province of the current location"),
        _place("province_current_code", "Code of the province of the current location, without leading zero"),
        _place("district_current", "District of the current location"),
        _place("district_current_code", "Code of the district of the current location, without leading zero"),
        _place("province_caregiver", "Province of the caregiver"),
        _place("province_caregiver_code", "Code of the province of the caregiver, without leading zero"),
        _place("district_caregiver", "District of the caregiver"),
        _place("district_caregiver_code", "Code of the district of the caregiver, without leading zero"),
        Column("primero_id", "uuid", "Primero's own id of the case, never shown to people", "key", added=True),
        Column("primero_updated_at", "timestamptz", "When the case was last changed in Primero", added=True),
        Column(
            "consent_status",
            "text",
            "Consent with `refused` and `not recorded` kept apart",
            added=True,
            allowed=("given", "refused", "not recorded"),
        ),
        Column("case_status", "text", "Status of the case in Primero, such as open or closed", added=True),
        Column(
            "age_group",
            "text",
            "Age group",
            "quasi-identifier",
            added=True,
            allowed=("0-4", "5-9", "10-14", "15-17", "18+", "unknown"),
        ),
        Column("care_date", "date", "Start of the placement", "quasi-identifier", added=True),
        Column("date_of_reintegration", "date", "Date of reintegration", "quasi-identifier", added=True),
        Column("date_closure", "date", "Date of the closure of the case", "quasi-identifier", added=True),
    ),
)

SERVICES = Table(
    name="services",
    key="unique_id",
    description="One row per service recorded in a case.",
    columns=(
        Column("unique_id", "text", "Primero's id of the service; the key", "key", nullable=False),
        Column("case_id", "text", "The case that received the service", "key", nullable=False),
        Column("service_type", "text", "Type of service", "sensitive", labels="service_type"),
        Column("service_date", "date", "Day in Phnom Penh on which the service was given", "quasi-identifier"),
        Column("primero_case_id", "uuid", "Primero's own id of the case", "key", added=True),
        Column("service_subtypes", "text", "Primero's ids of the subtypes, joined with `, `", "sensitive", added=True),
    ),
)

LOCATIONS_LOOKUP = Table(
    name="locations_lookup",
    key="code",
    description="The districts of Cambodia with their provinces.",
    columns=(
        Column("code", "text", "Code of the district, without leading zero", nullable=False),
        Column("district", "text", "Name of the district"),
        Column("province", "text", "Name of the province"),
        Column("province_code", "text", "Code of the province, without leading zero"),
    ),
)

TABLES = (CASES, SERVICES, LOCATIONS_LOOKUP)
