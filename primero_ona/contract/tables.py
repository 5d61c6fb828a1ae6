"""ONA's tables of children: every column, in the order of the mapped frames, and every field of Primero that is read.

A new column comes last: PostgreSQL extends a view, as the dashboards have, only at its end.
"""

from __future__ import annotations

from typing import get_args

from primero_ona.contract.column import Column, Field, PlaceRule, Table
from primero_ona.contract.derived import DATA_DICTIONARY, INDICATOR_FIGURES, LOCATIONS_LOOKUP

#: Read in memory only: the pull turns it into ages (`mapping/dates.py`) and drops it before anything is stored.
BIRTH_FIELD = "date_of_birth"


def _age(name: str, description: str, purpose: str, day: str, *, hidden: bool = True) -> Column:
    """An age on a day. One of them may be shown: several narrow a birthday down."""
    text = f"{description}, in completed years; empty where the date of birth or that day is unknown"
    return Column(name, "integer", text, "quasi-identifier", purpose, field=BIRTH_FIELD, day=day, within=(0, 130),
                  added=True, hidden=hidden)  # fmt: skip


#: Columns of a place where a child or its caregiver lives: name, description and rule.
_PLACES: tuple[tuple[str, str, PlaceRule], ...] = (
    ("province_{}", "Province of the {}", "province"),
    ("province_{}_code", "Code of the province of the {}, without leading zero", "province_code"),
    ("district_{}", "District of the {}", "district"),
    ("district_{}_code", "Code of the district of the {}, without leading zero", "district_code"),
)


def _places(which: str, of: str, field: str, purpose: str) -> tuple[Column, ...]:
    """Province and district of a place, as names and as codes."""
    return tuple(
        Column(name.format(which), "text", text.format(of), "quasi-identifier", purpose, field=field, rule=rule)
        for name, text, rule in _PLACES
    )


#: Characters of a key. Ids have some forty; an index of PostgreSQL takes 2,704 bytes, and the load may add to a key.
LONGEST_KEY = 200

CASES = Table(
    name="cases",
    key="case_id",
    identity=("primero_id",),
    description="One row per case of indicator 4.8 or 4.11a, in its present state.",
    columns=(
        Column("case_id", "text",
               "Case ID shown in Primero; where another case has the same one, with `~` and the beginning of this case's own id; the key",
               "key", "the dashboards' key; staff find a questioned case by it", field="case_id_display",
               nullable=False),
        Column("last_updated_date", "timestamp", "UTC time of the sync that last changed this row",
               purpose="how fresh the dashboards are", set_by_load=True),
        Column("registration_date", "date", "Date of registration", "quasi-identifier", "period of both indicators",
               field="registration_date", rule="date"),
        Column("case_source", "text", "`oscar` for a case that has an OSCaR number, else `primero`",
               purpose="cases known to OSCaR too are shown apart", field="oscar_number", rule="case_source",
               allowed=("oscar", "primero")),
        Column("disabled", "text", "Recorded disability; empty does not mean none", "sensitive",
               "disaggregation by disability", field="disability_type", rule="label"),
        Column("type_of_case", "text", "Type of case: Primero's option without its number", "sensitive",
               "who belongs to 4.8", field="type_of_case", rule="option_name"),
        Column("sex", "text", "Sex", "quasi-identifier", "disaggregation by sex", field="sex", rule="label_or_code"),
        Column("age", "integer", "Age in completed years", "quasi-identifier",
               "age groups; who belongs to 4.11a without a date of birth", field="age", rule="age", within=(0, 130)),
        Column("protection_concerns", "text",
               "Protection concerns, joined with `, `; an empty text where there are none", "sensitive",
               "disaggregation by concern", field="protection_concerns", rule="labels"),
        Column("placement_type", "text", "Type of placement: Primero's option without its number", "sensitive",
               "which care, in 4.8", field="type_of_placement", rule="option_name"),
        Column("consent_for_reporting", "text", "`true` where consent to share for reporting is recorded, else `false`",
               purpose="whether it may be shared for reporting; the consent policy", field="consent_reporting",
               rule="consent", allowed=("true", "false")),
        Column("location_code", "text", "Code of the current location, as Primero has it", "quasi-identifier",
               "disaggregation by place", field="location_current", rule="location"),
        *_places("current", "current location", "location_current", "disaggregation by place"),
        *_places("caregiver", "caregiver", "location_caregiver", "place of the family in 4.8"),
        Column("primero_id", "uuid", "Primero's own id of the case, never shown to people", "key",
               "tells cases of one Case ID apart; updates and erasure", added=True, hidden=True, origin="id"),
        Column("primero_updated_at", "timestamptz", "When the case was last changed in Primero",
               purpose="which quarter, and which of two states is newer", added=True, origin="last_updated_at"),
        Column("consent_status", "text", "Consent with `refused` and `not recorded` kept apart",
               purpose="whether it may be shared for reporting; the consent policy", field="consent_reporting",
               rule="consent_status", allowed=("given", "refused", "not recorded"), added=True),
        Column("case_status", "text", "Status of the case in Primero, such as open or closed",
               purpose="duplicates and closed cases are shown apart", field="status", rule="codes", added=True),
        Column("age_group", "text", "Age group", "quasi-identifier",
               "age groups; who belongs to 4.11a without a date of birth", field="age", rule="age_group",
               allowed=("0-4", "5-9", "10-14", "15-17", "18+", "unknown"), added=True),
        Column("care_date", "date", "Start of the placement", "quasi-identifier", "period of 4.8: the placement",
               field="care_date", rule="date", added=True),
        Column("date_of_reintegration", "date", "Date of reintegration", "quasi-identifier",
               "period of 4.8: coming home", field="date_of_reintegration", rule="date", added=True),
        Column("date_closure", "date", "Date of the closure of the case", "quasi-identifier",
               "whether a case was open in a period", field="date_closure", rule="date", added=True),
        _age("age_at_registration", "Age on the day of registration", "who belongs to 4.11a; age in past periods",
             "registration_date", hidden=False),
        _age("age_at_placement", "Age at the start of the placement", "age in 4.8 at the placement", "care_date"),
        _age("age_at_reintegration", "Age on the day of reintegration", "age in 4.8 when coming home",
             "date_of_reintegration"),
    ),
    deciding=(
        Column("created_at", "timestamptz", "When the case was created in Primero",
               purpose="which of several cases gets a contested key", origin="created_at"),
    ),
    fields=(
        Field("id", "key", "as `primero_id`"),
        Field("enabled", "none", "whether the case counts, where `record_state` is absent"),
        Field("last_updated_at", "none", "as `primero_updated_at`"),
        Field("oscar_number", "key", "only whether there is one; not kept in ONA"),
        Field(BIRTH_FIELD, "quasi-identifier", "the ages above"),
        Field("module_id", "sensitive", "excludes cases by module"),
        Field("record_state", "none", "whether the case counts: a disabled one leaves ONA"),
        Field("created_at", "none", "order of the walk; registration where no day is stated"),
        Field("services_section", "sensitive", "services of 4.11a; only the keys named here are stored"),
    ),
)  # fmt: skip

SERVICES = Table(
    name="services",
    key="unique_id",
    identity=("primero_case_id", "unique_id", "place"),
    section="services_section",
    description="One row per service recorded in a case.",
    columns=(
        Column("unique_id", "text",
               "Primero's id of the service; where another service has the same one, with `~` and the beginning of the case's "
               "own id; the key", "key", "the dashboards' key of a service", nullable=False, origin="unique_id"),
        Column("case_id", "text", "The case that received the service", "key",
               "the dashboards' key; staff find a questioned case by it", nullable=False, origin="case_id_display"),
        Column("service_type", "text", "Type of service", "sensitive", "disaggregation by service",
               field="service_type", rule="label"),
        Column("service_date", "date", "Day in Phnom Penh on which the service was given", "quasi-identifier",
               "period of 4.11a; the time of day is dropped", field="service_implemented_day_time",
               rule="service_date"),
        Column("primero_case_id", "uuid", "Primero's own id of the case", "key", "which case a service belongs to",
               added=True, hidden=True, origin="id"),
        Column("service_subtypes", "text", "Primero's ids of the subtypes, joined with `, `", "sensitive",
               "which services are placements of 4.8", field="service_subtype", rule="codes", added=True),
        _age("age_at_service", "Age on the day of the service", "age in 4.11a at the service",
             "service_implemented_day_time"),
    ),
    deciding=(
        Column("place", "integer", "Place among the services of the case that share the `unique_id`, from 1",
               purpose="tells services of one case apart that share an id", nullable=False, origin="unique_id"),
    ),
    fields=(
        Field("unique_id", "key", "the dashboards' key of a service"),
        Field("_destroy", "none", "whether the service was removed"),
    ),
)  # fmt: skip

TABLES = (CASES, SERVICES, LOCATIONS_LOOKUP, DATA_DICTIONARY, INDICATOR_FIGURES)

#: The fields that say where a child or its caregiver lives: cut to the location precision at the pull, never named in reports.
LOCATION_FIELDS = tuple(
    dict.fromkeys(column.field for column in CASES.columns if column.field and column.rule in get_args(PlaceRule))
)
