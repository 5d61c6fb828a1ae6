"""What ONA must hold, worked out naively from the sandbox's own store: the second witness of soak and suite.

Nothing of `mapping/`, `primero/` or `ona/` is used here: plain loops over plain dicts, slow and easy to check by eye. It
knows which cases belong, and the values that can be told without label tables. Which of several rows bears a plain key
depends on history, so it demands that each row bears the plain one or one of its own.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
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


def key_of(value: Any) -> str | None:
    """The key that a value is; None for nothing, and for what is too long for one."""
    found = text(value)
    return None if found is None or len(found) > 200 else found


def opened(value: Any) -> Any:
    """A value, or the list that it is when it is a text that holds one."""
    if isinstance(value, str) and value.strip()[:1] == "[":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


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
    value = opened(value)
    if isinstance(value, list):
        return all(is_nothing(part) and not isinstance(part, list) for part in value)
    return value is None or (isinstance(value, str) and text(value) is None)


def belongs(case: Case) -> bool:
    state = case.get("record_state")
    state = case.get("enabled") if is_nothing(state) else state
    if str(state).strip().lower() != "true":
        return False
    kinds = opened(case.get("type_of_case"))
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
    """How often the birthday has come round by a day; None where there is no with_label_versions, and above 130."""
    birth = day_of(case.get("date_of_birth"))
    if birth is None or day is None or birth > day:
        return None
    years = int(day[:4]) - int(birth[:4])
    years -= day[5:] < birth[5:]
    return years if years <= 130 else None


def day_of(value: Any) -> str | None:
    """The day in Phnom Penh of a date or a stamp; None where there is none, or no real one."""
    found = text(value) if isinstance(value, str) else None
    if found is not None and found[4:5] == "/" and found[7:8] == "/":
        found = found.replace("/", "-", 2)
    if found is None or not found[:4].isdigit() or found[4:5] + found[7:8] != "--":
        return None
    try:
        if len(found) == 10:
            return str(date.fromisoformat(found))
        moment = datetime.fromisoformat(found.replace(" +", "+").replace(" -", "-"))
        return str((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(LOCAL).date())
    except (ValueError, OverflowError):
        return None


def services_of(case: Case) -> list[Mapping[str, Any]]:
    """The elements that are services with a key, each with its `place` among those of its key; copies are left out."""
    section = opened(case.get("services_section"))
    found: list[Mapping[str, Any]] = []
    seen: dict[str, list[str]] = defaultdict(list)
    for element in section if isinstance(section, list) else []:
        if not isinstance(element, dict) or str(element.get("_destroy")).strip().lower() == "true":
            continue
        key, content = key_of(element.get("unique_id")), json.dumps([element.get(name) for name in _SERVICE_FIELDS])
        if key and content not in seen[key]:
            seen[key].append(content)
            found.append({**element, "unique_id": key, "place": len(seen[key])})
    return found


def keys_of(plain: str, case: str, place: int = 1) -> set[str]:
    """The keys that a case, or a service of it, may bear in ONA."""
    suffix = f"~{place}" if place > 1 else ""
    own = {f"{plain}~{case[:8]}{suffix}", f"{plain}~{case.replace('-', '')}{suffix}"}
    return own if suffix else own | {plain}


def differences(
    primero: SandboxPrimero, sql: Sql, since: datetime | None = None, erased: Collection[str] = ()
) -> list[str]:
    """Everything in which ONA differs from what it must hold, by Primero's ids; empty where all is right.

    Cases last changed before `since` are not expected there, and none that was `erased`.
    """
    truth = {
        case["id"]: case
        for case in primero.cases.records()
        if case["id"] not in erased
        and belongs(case)
        and (since is None or datetime.fromisoformat(case["last_updated_at"]) >= since)
    }
    # A case that has lost its display id is quarantined; what ONA has of it from before stays as it is.
    keyless = {case for case, record in truth.items() if key_of(record.get("case_id_display")) is None}
    ona = {row[0]: row[1:] for row in sql(_CASES) if row[0] not in keyless}
    expected = {case: record for case, record in truth.items() if case not in keyless}
    services = [row for row in sql(_SERVICES) if row[1] not in keyless]
    for case, record in expected.items():
        expected[case] = {**record, "last_updated_at": _possible(record["last_updated_at"], primero.clock())}
    return list(_of_cases(expected, ona)) + list(_of_services(expected, services))


def _possible(stamp: str, now: datetime) -> str:
    """The stamp, or the beginning of the quarter of `now` for one more than an hour ahead, or beyond that quarter."""
    local = now.astimezone(LOCAL)
    begins = datetime(local.year, 3 * ((local.month - 1) // 3) + 1, 1, tzinfo=LOCAL)
    ends = (begins + timedelta(days=100)).replace(day=1)
    ahead = datetime.fromisoformat(stamp) > min(now + timedelta(hours=1), ends - timedelta(microseconds=1))
    return begins.astimezone(UTC).isoformat() if ahead else stamp


def _of_cases(truth: Mapping[str, Case], ona: Mapping[str, Any]) -> Iterable[str]:
    for case in ona.keys() - truth.keys():
        yield f"{case} stands in ONA and does not belong there"
    for case in truth.keys() - ona.keys():
        yield f"{case} is not in ONA"
    for case in ona.keys() & truth.keys():
        key, *row = ona[case]
        if key not in keys_of(text(truth[case].get("case_id_display")) or "", case):
            yield f"{case}: a key that is neither the plain one nor its own"
        fields = [
            name for name, a, b in zip(_FIELDS, _row(truth[case]), row, strict=True) if a != b and a is not SKIPPED
        ]
        if fields:
            yield f"{case}: other {', '.join(fields)} than in Primero"


def _row(case: Case) -> tuple[Any, ...]:
    stamp = datetime.fromisoformat(case["last_updated_at"])
    sex, status = (opened(case.get(name)) for name in ("sex", "status"))
    label = SEXES.get(text(sex) or "", text(sex)) if sex is None or isinstance(sex, str) else SKIPPED
    told = text(status) if status is None or isinstance(status, str) else SKIPPED
    days = registered(case), day_of(case.get("care_date")), day_of(case.get("date_of_reintegration"))
    return stamp, age_of(case), label, told, *(age_at(case, day) for day in days)


def _of_services(cases: Mapping[str, Case], rows: Iterable[tuple[Any, ...]]) -> Iterable[str]:
    held: dict[str, dict[str, tuple[Any, ...]]] = defaultdict(dict)
    for key, owner, *row in rows:
        held[owner][key] = tuple(row)
    for owner in held.keys() - cases.keys():
        yield f"services of {owner} stand in ONA without their case"
    for case, record in cases.items():
        mine = held[case]
        for service in services_of(record):
            keys = keys_of(service["unique_id"], case, service["place"]) & mine.keys()
            if len(keys) != 1:
                yield f"a service of {case} stands {len(keys)} times in ONA"
                continue
            yield from _of_service(record, service, mine.pop(keys.pop()))
        if mine:
            yield f"{len(mine)} services of {case} stand in ONA that it does not have"


def _of_service(case: Case, service: Mapping[str, Any], row: tuple[Any, ...]) -> Iterable[str]:
    kind, day, age = row
    code = opened(service.get("service_type"))
    if day != day_of(service.get("service_implemented_day_time")):
        yield f"a service of {case['id']} has another date than in Primero"
    if age != age_at(case, day):
        yield f"a service of {case['id']} has another age than that on its day"
    if isinstance(code, str) and kind != SERVICE_TYPES.get(text(code) or ""):
        yield f"a service of {case['id']} has another type than in Primero"


_SERVICE_FIELDS = ("unique_id", "service_type", "service_subtype", "service_implemented_day_time", "_destroy")
_AGES = ("age_at_registration", "age_at_placement", "age_at_reintegration")
_FIELDS = ("primero_updated_at", "age", "sex", "case_status", *_AGES)
_CASES = f"SELECT primero_id::text, case_id, {', '.join(_FIELDS)} FROM cases"
_SERVICES = "SELECT unique_id, primero_case_id::text, service_type, service_date::text, age_at_service FROM services"
