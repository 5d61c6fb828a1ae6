"""What is processed of a child, why, where it is stored and for how long: the facts, and the page made from them.

One entry for each field of Primero that is asked for (`primero/fields.py`); ONA's columns take their class from the table
contract and their purpose from the field that they come from. `python -m primero_ona.data_protection` writes
`docs/data-protection.md`; tests keep both lists complete and the page in step. Who is responsible, and on which legal
ground, is not known to a program: those lines of the page are to be filled in by people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from primero_ona.ona.schema import CASES, INDICATOR_FIGURES, SERVICES, Column, PersonalData, Table
from primero_ona.primero.fields import AGE_COLUMNS, BIRTH_FIELD, EXIT_COLUMNS, SERVICE_AGE
from primero_ona.primero.policy import LOCATION_FIELDS

#: Where the page is, seen from the root of the repository.
PAGE = Path("docs/data-protection.md")


@dataclass(frozen=True)
class Use:
    """Why a field of Primero is asked for, and how it bears on a child."""

    purpose: str
    personal_data: PersonalData


_BOTH = "4.8 and 4.11a"

#: Fields of a case, `id`, `enabled` and `last_updated_at` included, which come unasked.
CASE_USES = {
    "id": Use("tells cases apart whose short Case ID clashes; finds the case again for updates and erasure", "key"),
    "enabled": Use("whether the case counts, where `record_state` is absent", "none"),
    "last_updated_at": Use("which quarter the case belongs to; an older state never overwrites a newer one", "none"),
    "case_id_display": Use("the dashboards' key; staff find a case by it when a figure is questioned", "key"),
    "registration_date": Use(f"period of {_BOTH}", "quasi-identifier"),
    "oscar_number": Use(
        "only whether there is one: cases known to OSCaR too are shown apart; the number is not kept in ONA", "key"
    ),
    "disability_type": Use(f"disaggregation of {_BOTH} by recorded disability", "sensitive"),
    "type_of_case": Use("who belongs to 4.8", "sensitive"),
    "sex": Use(f"disaggregation of {_BOTH}", "quasi-identifier"),
    "age": Use(
        "age groups of both indicators; who belongs to 4.11a, where the date of birth is unknown", "quasi-identifier"
    ),
    BIRTH_FIELD: Use("ages on the days that count, which growing up does not change; see below", "quasi-identifier"),
    "protection_concerns": Use(f"disaggregation of {_BOTH} by protection concern", "sensitive"),
    "type_of_placement": Use("which care a child of 4.8 came into", "sensitive"),
    "consent_reporting": Use("whether the case may be shared for reporting; the consent policy decides by it", "none"),
    "location_current": Use(f"disaggregation of {_BOTH} by place, cut to the location precision", "quasi-identifier"),
    "location_caregiver": Use("place of the family in 4.8, cut to the location precision", "quasi-identifier"),
    "care_date": Use("period of 4.8: when a placement began", "quasi-identifier"),
    "date_of_reintegration": Use("period of 4.8: when a child came home", "quasi-identifier"),
    "date_closure": Use("whether a case was open in a period", "quasi-identifier"),
    "module_id": Use("cases of modules that are not included stay out", "sensitive"),
    "status": Use("whether a case counts: duplicates and closed cases are shown apart", "none"),
    "record_state": Use("whether the case counts: a disabled one leaves ONA", "none"),
    "created_at": Use(
        "the order in which Primero is walked; which of several cases gets a key that all of them want", "none"
    ),
    "services_section": Use("the services of 4.11a; cut to the keys below before anything is stored", "sensitive"),
}

#: What is made of the date of birth: of a case, and of each of its services.
AGE_USES = {
    "age_at_registration": Use(
        "who belongs to 4.11a: under 18 on the day of registration; age in past periods", "quasi-identifier"
    ),
    "age_at_placement": Use("age of a child of 4.8 when a placement began", "quasi-identifier"),
    "age_at_reintegration": Use("age of a child of 4.8 when it came home", "quasi-identifier"),
    SERVICE_AGE: Use("age of a child of 4.11a when a service was given", "quasi-identifier"),
}

#: Keys of an element of `services_section`; every other key, free-text notes among them, is cut on arrival.
SERVICE_USES = {
    "unique_id": Use("the dashboards' key of a service", "key"),
    "service_type": Use("disaggregation of 4.11a by service", "sensitive"),
    "service_subtype": Use("which services are placements that count for 4.8", "sensitive"),
    "service_implemented_day_time": Use(
        "the day on which a service was given; the time of day is dropped", "quasi-identifier"
    ),
    "_destroy": Use("whether the service was removed", "none"),
}

#: Columns of ONA that come from no single field.
_COLUMN_PURPOSES = {
    "last_updated_date": "how fresh the dashboards are",
    "primero_id": CASE_USES["id"].purpose,
    "primero_updated_at": CASE_USES["last_updated_at"].purpose,
    "unique_id": SERVICE_USES["unique_id"].purpose,
    "case_id": CASE_USES["case_id_display"].purpose,
    "primero_case_id": "which case a service belongs to",
    "indicator": "which indicator a figure is of",
    "variant": "by which definition a figure is counted; the ministry has confirmed none",
    "period": "over which kind of period a figure is counted",
    "period_start": "over which period a figure is counted",
    "dimension": "what the children of a figure are grouped by",
    "value": "which of these children a figure counts; it may be few, in a district or with a concern",
    "children": f"the figures of {_BOTH} themselves, exact",
    "updated_at": "how fresh a figure is",
}

#: What the sync keeps in ONA beside the two tables, and for how long. Named by table of the schema primero_sync.
BOOKKEEPING = {
    "runs": ("counts of each load, and the versions of pull and mapping", "none", "no limit: the proof of what was loaded"),
    "quarantine": (
        "rows set aside, by Primero's id, with the reason", "key",
        "resolved entries until ONA's administrators delete them; all entries of an erased case at once",
    ),
    "unmapped": ("codes that no label table knows, with counts", "none", "until the next sync of the quarter"),
    "exits": (
        "Primero's id and Case ID of cases that left, so that older data cannot bring them back", "key",
        "until the case returns or is erased",
    ),
    "fields": ("names of the fields that Primero has shown, and which losses were accepted", "none", "no limit"),
    "place_names": ("names of places that Primero has changed", "none", "no limit"),
    "erasures": (
        "SHA-256 of the Primero id of an erased case, when, how many rows", "none",
        "no limit: it keeps the case out; it tells nothing to whoever does not know the id already",
    ),
    "schema_version": ("which version of this schema stands", "none", "no limit"),
    "indicators": ("which definition the views show, and from how many rows, when, figures come", "none", "the last computation"),
    "indicator_history": (
        "figures of closed periods that were revised: what they were, what they became, and why", "sensitive",
        "no limit: what was published is answered for by it; it has counts, and no id",
    ),
    "load_lock": ("nothing: a load locks it, so that one follows the other", "none", "never has a row"),
}  # fmt: skip

_RAW = "raw partitions (encrypted)"
_NOWHERE = f"stored nowhere, shown nowhere: read in memory, turned into {', '.join(f'`{name}`' for name in AGE_USES)}, and dropped"
_STORED_UNTIL = "until purged: `PRIMERO_ONA_RETENTION_QUARTERS`, or `primero-ona purge`"
_ONA_UNTIL = (
    "as long as the case belongs: it leaves when it is disabled, leaves both indicators, its module or consent is not "
    "included any more, or it is erased"
)


def purpose_of(column: Column, table: Table) -> str:
    """Why a column of ONA is filled."""
    uses = CASE_USES if table is CASES else SERVICE_USES
    if column.name in AGE_USES:
        return AGE_USES[column.name].purpose
    if column.field in uses:
        return uses[column.field].purpose
    return _COLUMN_PURPOSES[column.name]


def _columns_of(field: str, table: Table) -> str:
    names = [f"`{column.name}`" for column in table.columns if column.field == field]
    return f"{_RAW}; mapped partitions (encrypted) and ONA `{table.name}`: {', '.join(names)}" if names else _RAW


def _field_rows() -> Iterator[str]:
    for name, use in CASE_USES.items():
        where = _columns_of(name, CASES)
        if name == "id":
            where = f"{_RAW}; ONA `cases.primero_id`, `services.primero_case_id`, bookkeeping"
        if name == BIRTH_FIELD:
            where = _NOWHERE
        if name == "last_updated_at":
            where = f"{_RAW}; ONA `cases.primero_updated_at`, bookkeeping"
        yield f"| `{name}` | {use.purpose} | {use.personal_data} | {where} |"
    for name, use in SERVICE_USES.items():
        where = _columns_of(name, SERVICES)
        if name == "unique_id":
            where = f"{_RAW}; mapped partitions (encrypted) and ONA `services`: `unique_id`"
        yield f"| `services_section`: `{name}` | {use.purpose} | {use.personal_data} | {where} |"
    for name, use in AGE_USES.items():
        table = "cases" if name in AGE_COLUMNS else "services"
        where = f"{_RAW}; mapped partitions (encrypted) and ONA `{table}`: `{name}`"
        yield f"| made of `{BIRTH_FIELD}`: `{name}` | {use.purpose} | {use.personal_data} | {where} |"


def _column_rows() -> Iterator[str]:
    for table in (CASES, SERVICES, INDICATOR_FIGURES):
        for column in table.columns:
            yield f"| `{table.name}.{column.name}` | {purpose_of(column, table)} | {column.personal_data} |"


_HEAD = f"""# Data protection

Made from `primero_ona/data_protection.py` by `make docs`; change it there. What could go wrong, and what stops it, is in
[threat-model.md](threat-model.md).

A row with sex, age, place and protection concern is personal data of a child, name or no name: in a village there may be
one girl of nine with a given disability. Everything below follows from that.

## Record of processing

| | |
| --- | --- |
| purpose | indicators 4.8 and 4.11a of the child-protection dashboards; nothing else |
| persons concerned | children with a case in Primero (CPIMS+) in Cambodia; their caregivers by place only |
| categories of data | the fields below; no name, address, telephone number, note or photograph; the date of birth is read, not stored |
| source | Primero, read only, by an account of its own |
| recipient | ONA's database, which the dashboards of UNICEF and the ministries read |
| controller, processors, focal points | **to be filled in by people** |
| legal ground, sharing protocol, impact assessment | **to be filled in by people**: links to the signed documents |
| transfers | **to be filled in by people**: where ONA's server, this installation and its storage stand |
| retention | table below; periods to be confirmed by people |
| rights of the child | correction: made in Primero, comes with the next sync; erasure: `primero-ona forget`, below |

## Data flow

1. **Primero** sends, over https, only what is asked for by name (`primero/fields.py`). What comes beyond is cut in memory,
   nested keys of services too, and never stored: a test sends everything and searches for it.
2. **At the door**, in memory, before anything is stored: the date of birth becomes ages and is dropped; locations are
   cut to `PRIMERO_ONA_LOCATION_PRECISION`
   ({" and ".join(f"`{name}`" for name in LOCATION_FIELDS)}; a value that is no code is dropped, except at `village`); cases
   that `PRIMERO_ONA_CONSENT_POLICY` or `PRIMERO_ONA_MODULES` keep out, and cases in neither indicator, shrink to
   {", ".join(f"`{name}`" for name in EXIT_COLUMNS)}; erased cases are dropped altogether. How many cases are
   not included is in the metadata of each run; why, is printed by `primero-ona findings`. The rules are part of the version
   of a stored partition.
3. **Stored partitions** hold raw and mapped rows, each part encrypted (Fernet: AES-128-CBC and HMAC-SHA256) with a key that
   is not beside them, files 0600, folders 0700, replaced by rename. Of their manifests, row
   counts, versions and names of columns are in the clear; what was found beside the rows (codes, reasons, Primero's ids of
   cases in quarantine) is encrypted like a part. `primero-ona keys rotate` also seals what an older version left in the clear.
4. **ONA** is written over a verified TLS connection. Dashboards read views (`primero-ona schema roles`).
5. **Logs, events, metadata, tags, messages** hold run ids, what became of cases (received, inserted, removed, not included,
   quarantined, …), the sizes of the two sets, the national totals of the two indicators by quarter, and Primero's opaque ids where
   an operator must find a case. No other count by value, no code and no place of a case is there, and not why a case is not
   included: of a case that comes between two syncs a viewer
   learns that it came, what became of it, how many services it has, whether it counts in 4.8 and in 4.11a, and in which quarters.

No telemetry is sent, and no third party sees anything.

## Fields that are asked for

| field of Primero | purpose | class | stored where |
| --- | --- | --- | --- |
"""

_KEPT = f"""
The date of birth is asked for because Primero raises ages by itself, each night, for those whose birthday it is: by the present
age alone, children would leave ONA, and the figures of years that are over, as they grow up. Instead of the date ONA has
ages in completed years on four kinds of days. **Ages on several days can narrow a birthday down**: who was 9 on 4 May and 10 on
6 May was born on 5 or 6 May. Therefore the dashboards' views leave out all of them but `age_at_registration`, and people
who read the tables themselves must not publish them side by side. Where the account may not read the date of birth, the present
age decides, the ages stay empty, and a check warns of what that costs.

Class: `key` names the case, `quasi-identifier` can help to single a child out, `sensitive` says something about it that must
not be known, `none` is neither.

## How long

| store | how long |
| --- | --- |
| raw and mapped partitions | {_STORED_UNTIL} |
| ONA `cases` and `services` | {_ONA_UNTIL} |
| ONA `indicator_figures` | as long as it is counted: what is erased or leaves is counted until the next night at the latest |
| Dagster's history | what became of cases, and sizes, as above; ticks as `dagster.yaml` says, runs without limit |
| memory, temporary files | the length of a step; nothing is spooled to disk, core dumps are off |
| backups | **to be filled in by people**: a purge or an erasure does not reach them |

| table of `primero_sync` | what it holds | class | how long |
| --- | --- | --- | --- |
"""

_TAIL = """
## Columns in ONA

| column | purpose | class |
| --- | --- | --- |
"""

_RULES = """
## Policies

- `PRIMERO_ONA_LOCATION_PRECISION` cuts locations at the door. Stored partitions of another precision are refused; after
  a change, `primero-ona backfill` pulls anew, and then nothing more exact is left in ONA.
- `PRIMERO_ONA_CONSENT_POLICY` keeps cases out by consent. After tightening it, `backfill` takes out what is kept out; after
  loosening it, `backfill` brings back what belongs again.
- `PRIMERO_ONA_MODULES` asks Primero for these modules and checks each row; then the window is walked once more without the
  filter, asking for ids and modules only, so that cases of other modules, and cases that moved there, leave ONA. After a
  change: as for consent.
- Cases of `primeromodule-gbv` are included by default; the check `gbv_agreed` warns of them, with a rough number, until
  `PRIMERO_ONA_GBV_AGREED=yes` says that this is agreed in writing, or `PRIMERO_ONA_MODULES` excludes them.
- `PRIMERO_ONA_RETENTION_QUARTERS` deletes older stored partitions each night.

## Erasure

`primero-ona forget --primero-id <id> …` removes a case and its services from ONA, from the quarantine and the exits, and from
every stored partition and its summary. What stays is one line in `primero_sync.erasures` with a hash of the id. As long as the
case is still in Primero, each pull drops it before anything is stored, counts it as *kept out as erased*, and the load
removes it a second time, whatever brought it; so erase it in Primero, too. To admit it again, ONA's administrators delete its
line as `ona_owner`. Backups and Primero's own audit log are not reached.

## Keys

`PRIMERO_ONA_STORAGE_KEYS` holds Fernet keys, newest first. To rotate: `primero-ona keys new`, put the new key first, restart,
`primero-ona keys rotate`, take the old key away, restart. Do so each year, when somebody who knew the key leaves, and at once
when it may have leaked; whoever copied partitions before can still read those copies with the old key.
"""


def protection_page() -> str:
    """The page, in Markdown."""
    books = [f"| `{name}` | {what} | {kind} | {until} |" for name, (what, kind, until) in BOOKKEEPING.items()]
    return (
        _HEAD
        + "\n".join(_field_rows())
        + "\n"
        + _KEPT
        + "\n".join(books)
        + "\n"
        + _TAIL
        + "\n".join(_column_rows())
        + "\n"
        + _RULES
    )


if __name__ == "__main__":
    PAGE.write_text(protection_page(), encoding="utf-8")
