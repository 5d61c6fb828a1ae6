"""What of a case may come at all: how exact its location is, which modules, and which consent. Applied before storing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from primero_ona.texts import listed, location_digits

LocationPrecision = Literal["village", "commune", "district"]
ConsentPolicy = Literal["include", "exclude_refused", "given_only"]

#: Digits that are kept of an official Cambodian code: two each for province, district, commune and village.
_DIGITS: Mapping[LocationPrecision, int] = {"village": 8, "commune": 6, "district": 4}

#: Primero's module for survivors of gender-based violence.
GBV_MODULE = "primeromodule-gbv"


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
    """The location code, or list of codes, no more exact than `precision`; what cannot be cut for certain is dropped.

    Codes go without leading zeros, as Primero keeps them. At `village` everything stays as it came.
    """
    if precision == "village" or value is None:
        return value
    value = listed(value)
    if isinstance(value, list):
        cut = [cut_location(element, precision) for element in value]
        return list(dict.fromkeys(None if isinstance(code, list) else code for code in cut))
    digits = location_digits(str(value).strip()) if isinstance(value, (str, int)) else None
    return None if digits is None else digits[: _DIGITS[precision]].lstrip("0")
