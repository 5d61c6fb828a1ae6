"""What of a case may come: the allow-list, and the policy on its location, module and consent. Applied before storing.

The allow-list is what `contract/tables.py` declares. Another field is never asked for; one that comes nevertheless is cut before
anything is stored. Names, addresses, telephone numbers, notes and photographs have no place there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from primero_ona.contract.tables import BIRTH_FIELD, CASES, SERVICES
from primero_ona.texts import listed, location_digits

#: Asked for by name. `id`, `enabled` and `last_updated_at` come always.
CASE_FIELDS = tuple(name for name in CASES.field_names if name not in {"id", "enabled", "last_updated_at"})

#: On these stand the key, the membership and the services (4.11a). Any other field that no case has leaves its columns
#: empty, and this is said: Primero gives only keys that are stored, so none may have it yet.
ESSENTIAL_FIELDS = frozenset({"case_id_display", "type_of_case", "age", "services_section"})

#: What it costs when no case shows it.
WITHOUT_BIRTH = (
    f"no case shows a {BIRTH_FIELD} to this account, so the present age decides who is a child: figures of past years shrink "
    "as children grow up. Where Primero records dates of birth, ask its administrators to grant the form with this field to "
    "the account's role; they are read in memory and never stored"
)

#: All that is asked about a case that may have to leave because of its module.
LEAVING_FIELDS = ("case_id_display", "module_id", "created_at")

#: Kept of each element of `services_section`; all other nested keys (free-text notes among them) are cut on arrival.
SERVICE_FIELDS = SERVICES.field_names

#: What is said of fields that no case has. Not which: the first case with one would show what was filled in for it.
FIELDS_MISSING = (
    "some fields that are asked for occur in no case, so their columns stay empty: no case has them yet, or the account's "
    "role may not read their form; `primero-ona fields list` names them"
)

#: The columns of a raw case as pulled, and in words what they are. Times are UTC. Every field whose type Primero does not
#: guarantee is kept as the JSON text of its value ('"male"', '12', '["refugee"]'; absent and null are both null), so that
#: odd values survive until the mapping judges them.
PULLED_COLUMNS = {
    "id": "text",
    "last_updated_at": "time",
    "created_at": "time",
    **{name: "JSON" for name in ("enabled", *CASE_FIELDS) if name not in {"created_at", "services_section"}},
    "services_section": f"list of services, each with {', '.join(SERVICE_FIELDS)} as JSON",
}

#: The columns of a raw case as stored: as pulled, with ages in place of the date of birth.
RAW_COLUMNS = {
    **{name: kind for name, kind in PULLED_COLUMNS.items() if name != BIRTH_FIELD},
    **{column.name: "whole number" for column in CASES.ages},
    "services_section": f"{PULLED_COLUMNS['services_section']}, and "
    + ", ".join(f"{column.name} as a whole number" for column in SERVICES.ages),
}

#: What is kept of a case that belongs to neither set any more: enough to remove its rows, and to know since when.
EXIT_COLUMNS = {"id": "text", "case_id_display": "JSON", "last_updated_at": "time"}


@dataclass(frozen=True)
class KnownFields:
    """The fields that earlier pulls were shown, and those of them whose loss an operator has accepted."""

    shown: frozenset[str] = frozenset()
    accepted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class FieldsFound:
    """The asked-for fields that occur among Primero's cases, those that do not, and the accepted ones that are back."""

    shown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()


def warn_of_fields(missing: Collection[str]) -> list[str]:
    """What is said of the asked-for fields that occur in no case; nothing where there are none."""
    return [FIELDS_MISSING] * bool(missing) + [WITHOUT_BIRTH] * (BIRTH_FIELD in missing)


LocationPrecision = Literal["village", "commune", "district"]
ConsentPolicy = Literal["include", "exclude_refused", "given_only"]

#: Primero's module for survivors of gender-based violence, as a raw case has it.
GBV_MODULE = '"primeromodule-gbv"'

#: Why a case of it is counted apart.
GBV_REASON = "included: of the module for gender-based violence"


@dataclass(frozen=True)
class PullPolicy:
    """The rules of one installation; the default is that of the legacy pipeline: everything of the allow-list comes.

    `modules` are Primero's module ids, sorted; none means all.
    """

    precision: LocationPrecision = "village"
    consent: ConsentPolicy = "include"
    modules: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """What the version of a stored partition ends with, so that one made under other rules is refused; "" by default."""
        rules = {"location": self.precision, "consent": self.consent, "modules": "+".join(self.modules)}
        default = {"location": "village", "consent": "include", "modules": ""}
        return "".join(f",{name}={value}" for name, value in rules.items() if value != default[name])

    @property
    def description(self) -> str:
        """The rules in one line for people."""
        modules = " and ".join(self.modules) or "all modules"
        return f"location to the {self.precision}, consent: {self.consent.replace('_', ' ')}, {modules}"


def cut_location(value: Any, precision: LocationPrecision) -> Any:  # noqa: ANN401
    """The code, or list of codes, no more exact than `precision`, without leading zeros; what cannot be cut is dropped."""
    if precision == "village" or value is None:
        return value
    value = listed(value)
    if isinstance(value, list):
        cut = [cut_location(element, precision) for element in value]
        return list(dict.fromkeys(None if isinstance(code, list) else code for code in cut))
    digits = location_digits(str(value).strip()) if isinstance(value, (str, int)) else None
    kept = {"commune": 6, "district": 4}[precision]  # two each for province, district and commune
    return None if digits is None else digits[:kept].lstrip("0")
