"""What ONA must hold, worked out naively from the sandbox's own store: the second witness of soak and suite.

Nothing of `mapping/`, `primero/` or `ona/` is used here: plain loops over plain dicts, slow and easy to check by eye. It
knows which cases belong, who has a key of its own, and the values that can be told without label tables. Who of two
claimants keeps a contested key depends on history, so of those it demands that exactly one of them, and one that belongs,
stands there. What does not belong here: running anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.mapping.expected_labels import EXPECTED

Sql = Callable[[str], list[tuple[Any, ...]]]
Case = Mapping[str, Any]

#: Stands for a value of a shape that only the mapping's own tests judge, such as a list where a code is due.
SKIPPED = object()

LOCAL = timezone(timedelta(hours=7))
SEXES = {code: label for field, code, label in EXPECTED if field == "sex"}
SERVICE_TYPES = {code: label for field, code, label in EXPECTED if field == "service_type"}
TYPE = "children_undergoing_reintegration_55427"


def text(value: Any) -> str | None:
    """A value as a text without blanks around it; None for nothing, and for what is no text or number."""
    if isinstance(value, bool) or value is None or isinstance(value, (dict, list)):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return str(value).replace("\0", "").strip() or None


def age_of(case: Case) -> int | None:
    found = case.get("age")
    if isinstance(found, str):
        found = found.replace("\0", "").strip()
        whole, _, rest = found.partition(".")
        if not (whole.isascii() and whole.isdigit()) or rest.strip("0") or found.endswith("."):
            return None
        found = int(whole)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or found != int(found):
        return None
    return int(found) if 0 <= found <= 130 else None


def is_nothing(value: Any) -> bool:
    """Whether a value is as good as absent: null, blank, or a list of such."""
    if isinstance(value, list):
        return all(is_nothing(part) and not isinstance(part, list) for part in value)
    return value is None or (isinstance(value, str) and text(value) is None)


def belongs(case: Case) -> bool:
    state = case.get("record_state")
    state = case.get("enabled") if is_nothing(state) else state
    if str(state).strip().lower() != "true":
        return False
    kinds = case.get("type_of_case")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    age = age_at(case, registered(case))
    age = age_of(case) if age is None else age
    return TYPE in [text(kind) for kind in kinds] or (age is not None and age < 18)


def registered(case: Case) -> str | None:
    """The day of registration: the date stated, else that of the creation; neither after today nor before the birth."""
    for field in ("registration_date", "created_at"):
        day, birth = day_of(case.get(field)), day_of(case.get("date_of_birth"))
        if day and day <= str(datetime.now(LOCAL).date()) and (birth is None or birth <= day):
            return day
    return None


def age_at(case: Case, day: str | None) -> int | None:
    """How often the birthday has come round by a day; None where there is no telling, and above 130."""
    birth = day_of(case.get("date_of_birth"))
    if birth is None or day is None or birth > day:
        return None
    years = int(day[:4]) - int(birth[:4])
    years -= day[5:] < birth[5:]
    return years if years <= 130 else None


def day_of(value: Any) -> str | None:
    """The day in Phnom Penh of a date or a stamp; None where there is none, or no real one."""
    found = text(value) if isinstance(value, str) else None
    if found is None or not found[:4].isdigit() or found[4:5] + found[7:8] != "--":
        return None
    try:
        if len(found) == 10:
            return str(date.fromisoformat(found))
        moment = datetime.fromisoformat(found)
        return str((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(LOCAL).date())
    except (ValueError, OverflowError):
        return None


def services_of(case: Case) -> list[Mapping[str, Any]]:
    """The elements that are services with a key, the first of each key."""
    section = case.get("services_section")
    found: dict[str, Mapping[str, Any]] = {}
    for element in section if isinstance(section, list) else []:
        if not isinstance(element, dict) or str(element.get("_destroy")).strip().lower() == "true":
            continue
        key = text(element.get("unique_id"))
        if key:
            found.setdefault(key, element)
    return [{**element, "unique_id": key} for key, element in found.items()]


def differences(primero: SandboxPrimero, sql: Sql, since: datetime | None = None) -> list[str]:
    """Everything in which ONA differs from what it must hold, by Primero's ids; empty where all is right.

    Cases last changed before `since` are not expected there.
    """
    truth = {
        case["id"]: case
        for case in primero.cases.records()
        if belongs(case) and (since is None or datetime.fromisoformat(case["last_updated_at"]) >= since)
    }
    claims: dict[str, set[str]] = defaultdict(set)
    for case in truth.values():
        if key := text(case.get("case_id_display")):
            claims[key].add(case["id"])
    ona = {row[0]: row[1:] for row in sql(_CASES)}
    aside = _aside(truth, ona)
    found = list(_of_cases(truth, claims, ona, aside))
    standing = {case: truth[case] for case in ona if case in truth and case not in aside}
    return found + list(_of_services(standing, aside, sql(_SERVICES)))


def _aside(truth: Mapping[str, Case], ona: Mapping[str, Any]) -> set[str]:
    """Cases that wait: without a key, or for one that a case holds that has it in Primero, too, or that waits itself.

    A case that waits and stands in ONA from before keeps the row, and the key, that it has there.
    """
    keys = {case: text(record.get("case_id_display")) for case, record in truth.items()}
    holder = {row[0]: case for case, row in ona.items()}
    aside = {case for case, key in keys.items() if key is None}
    while True:
        more = {
            case
            for case, key in keys.items()
            if case not in aside
            and (there := holder.get(key)) not in (None, case)
            and (keys.get(there) == key or there in aside)
        }
        if not more:
            return aside
        aside |= more


def _of_cases(
    truth: Mapping[str, Case], claims: Mapping[str, set[str]], ona: Mapping[str, Any], aside: set[str]
) -> Iterable[str]:
    for case in ona.keys() - truth.keys():
        yield f"{case} stands in ONA and does not belong there"
    for claimants in claims.values():
        holders = [case for case in claimants if case in ona and case not in aside]
        if len(holders) != 1 and not claimants <= aside:
            yield f"{sorted(claimants)}: {len(holders)} of them stand in ONA where one must"
    for case, row in ona.items():
        expected = _row(truth[case]) if case in truth and case not in aside else row
        fields = [name for name, a, b in zip(_FIELDS, expected, row, strict=True) if a != b and a is not SKIPPED]
        if fields:
            yield f"{case}: other {', '.join(fields)} than in Primero"


def _row(case: Case) -> tuple[Any, ...]:
    stamp = datetime.fromisoformat(case["last_updated_at"])
    sex, status = (case.get(name) for name in ("sex", "status"))
    label = SEXES.get(text(sex) or "", text(sex)) if sex is None or isinstance(sex, str) else SKIPPED
    told = text(status) if status is None or isinstance(status, str) else SKIPPED
    days = registered(case), day_of(case.get("care_date")), day_of(case.get("date_of_reintegration"))
    return text(case.get("case_id_display")), stamp, age_of(case), label, told, *(age_at(case, day) for day in days)


def _of_services(cases: Mapping[str, Case], aside: set[str], rows: Iterable[tuple[Any, ...]]) -> Iterable[str]:
    claims: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for case, record in cases.items():
        for service in services_of(record):
            claims[service["unique_id"]][case] = service
    held = {row[0]: row[1:] for row in rows}
    kept = {key for key, row in held.items() if row[0] in aside}
    for key in held.keys() - claims.keys() - kept:
        yield f"a service of {held[key][0]} stands in ONA that no case has"
    for key, claimants in claims.items():
        if key not in held:
            yield f"a service of {sorted(claimants)} is not in ONA"
            continue
        owner, *row = held[key]
        if key in kept:
            continue
        if owner not in claimants:
            yield f"a service of {sorted(claimants)} stands in ONA under {owner}"
            continue
        yield from _of_service(cases[owner], claimants[owner], row)


def _of_service(case: Case, service: Mapping[str, Any], row: list[Any]) -> Iterable[str]:
    kind, day, age = row
    code = service.get("service_type")
    if day != day_of(service.get("service_implemented_day_time")):
        yield f"a service of {case['id']} has another date than in Primero"
    if age != age_at(case, day):
        yield f"a service of {case['id']} has another age than that on its day"
    if isinstance(code, str) and kind != SERVICE_TYPES.get(text(code) or ""):
        yield f"a service of {case['id']} has another type than in Primero"


_AGES = ("age_at_registration", "age_at_placement", "age_at_reintegration")
_FIELDS = ("case_id", "primero_updated_at", "age", "sex", "case_status", *_AGES)
_CASES = f"SELECT primero_id::text, {', '.join(_FIELDS)} FROM cases"
_SERVICES = "SELECT unique_id, primero_case_id::text, service_type, service_date::text, age_at_service FROM services"
