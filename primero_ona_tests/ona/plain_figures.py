"""The figures worked out a second time from the words of the definition, in pandas: slow, and easy to check by eye.

Nothing of `primero_ona` is used here. What does not belong here: running anything.
"""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

import pandas as pd

P = {"biological family", "kinship care", "foster care"}
R = {
    "family_based_care_family_reunification",
    "family_based_care_kinship",
    "family_based_care_emergency_foster",
    "family_based_care_longterm_foster",
}
KINDS = {"month": "M", "quarter": "Q", "year": "Y"}
Key = tuple[str, str, str, date, str, str]


def plain_figures(cases: pd.DataFrame, services: pd.DataFrame, first_year: int, today: date) -> Counter[Key]:
    """All figures that are not zero, and those of `all` that are.

    The frames are ONA's tables; dates are of type `datetime64`, ages floats with NaN for null, texts objects with None.
    """
    counted = cases[cases["primero_id"].notna() & (cases["case_status"] != "duplicate")]
    children = {row["primero_id"]: row for row in counted.to_dict("records")}
    of_children: dict[str, list[dict[str, Any]]] = {child: [] for child in children}
    for row in services.to_dict("records"):
        if row["primero_case_id"] in of_children:
            of_children[row["primero_case_id"]].append(row)
    found: Counter[Key] = Counter()
    for kind, letter in KINDS.items():
        for period in pd.period_range(pd.Period(f"{first_year}-01-01", letter), pd.Period(today, letter)):
            for (indicator, variant), rule in RULES.items():
                if variant == "open" and kind == "month":
                    continue
                key = (indicator, variant, kind, period.start_time.date())
                found[*key, "all", "all"] += 0
                for child, row in children.items():
                    mine = of_children[child]
                    found.update((*key, *part) for part in _count(rule(row, mine, period), row, mine, period))
                    if _would_count(variant, row, mine, period):
                        found[*key, "coverage", "undated"] += 1
    return found


def _would_count(variant, row, mine, period):
    """Whether nothing but a date keeps a child from counting, as far as its day of registration tells when."""
    child = _in(row["registration_date"], period) and _is_child(_age(row["age_at_registration"], row))
    return child and variant in UNDATED and UNDATED[variant](row, mine)


def _in(day: Any, period: pd.Period) -> bool:
    return not pd.isna(day) and period.start_time <= day <= period.end_time


def _holds(text: Any, options: set[str]) -> bool:
    """A column that holds several values joined by `, ` holds each of them."""
    return bool(text) and any(part in options for part in text.split(", "))


def _age(at_event: Any, row: dict[str, Any]) -> float | None:
    """That event's age; where it is null, `age`; where that is null, unknown."""
    for age in (at_event, row["age"]):
        if not pd.isna(age):
            return float(age)
    return None


def _is_child(age: float | None) -> bool:
    return age is None or age < 18


def _event(row, mine, period):
    events = []
    if _holds(row["placement_type"], P):
        events.append((row["care_date"], row["age_at_placement"]))
    events.append((row["date_of_reintegration"], row["age_at_reintegration"]))
    events += [(s["service_date"], s["age_at_service"]) for s in mine if _holds(s["service_subtypes"], R)]
    return [(day, age) for day, age in events if _in(day, period)]


def _registered(row, mine, period):
    reintegration = row["placement_type"] is None and _holds(row["type_of_case"], {"children undergoing reintegration"})
    if _in(row["registration_date"], period) and (_holds(row["placement_type"], P) or reintegration):
        return [(row["registration_date"], row["age_at_registration"])]
    return []


def _served(row, mine, period):
    return [(s["service_date"], s["age_at_service"]) for s in mine if _in(s["service_date"], period)]


def _open(row, mine, period):
    registered, closed, first = row["registration_date"], row["date_closure"], period.start_time
    if pd.isna(registered) or registered > period.end_time:
        return []
    if (row["case_status"] == "closed" and pd.isna(closed)) or (not pd.isna(closed) and closed < first):
        return []
    years = first.year - registered.year - ((first.month, first.day) < (registered.month, registered.day))
    return [(max(registered, first), row["age_at_registration"] + max(years, 0))]


def _registered_or_served(row, mine, period):
    registered = (row["registration_date"], row["age_at_registration"])
    return [day for day in [registered] if _in(day[0], period)] + _served(row, mine, period)


RULES = {
    ("4.8", "event"): _event,
    ("4.8", "registered"): _registered,
    ("4.11a", "served"): _served,
    ("4.11a", "open"): _open,
    ("4.11a", "registered_or_served"): _registered_or_served,
}

UNDATED = {
    "event": lambda row, mine: (
        _holds(row["placement_type"], P)
        and pd.isna(row["care_date"])
        and pd.isna(row["date_of_reintegration"])
        and all(pd.isna(s["service_date"]) for s in mine if _holds(s["service_subtypes"], R))
    ),
    "served": lambda row, mine: bool(mine) and all(pd.isna(s["service_date"]) for s in mine),
}


def _count(events, row, mine, period):
    """Each dimension and value in which a child counts; nothing where no event counts."""
    ages = [(day, _age(age, row)) for day, age in events]
    ages = sorted(
        ((day, age) for day, age in ages if _is_child(age)), key=lambda e: (e[0], 999 if e[1] is None else e[1])
    )
    if not ages:
        return
    age = ages[0][1]
    group = "unknown" if age is None else next(name for name, top in GROUPS.items() if age <= top)
    sex, province, district = (_shown(row[name]) for name in ("sex", "province_current", "district_current"))
    yield "all", "all"
    for name in ("sex", "placement_type", "type_of_case", "case_source", "consent_status"):
        yield name, _shown(row[name])
    yield "age_group", group
    yield "disability", "recorded" if row["disabled"] else "not recorded"
    yield "disability_type", _shown(row["disabled"])
    yield "province", province
    yield "district", f"{province} / {district}"
    for concern in set(_shown(row["protection_concerns"]).split(", ")):
        yield "protection_concern", concern
    types = [_shown(s["service_type"]).split(", ") for s in mine if _in(s["service_date"], period)]
    for kind in {part for parts in types for part in parts}:
        yield "service_type", kind
    yield "sex_age", f"{sex} × {group}"
    yield "province_sex", f"{province} × {sex}"
    if age is None:
        yield "coverage", "age unknown"


GROUPS = {"0-4": 4, "5-9": 9, "10-14": 14, "15-17": 17}


def _shown(text: Any) -> str:
    return text or "(empty)"
