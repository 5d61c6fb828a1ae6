"""English and Khmer of what a report says, and its numbers. Khmer is Primero's, by ONA's dictionary and lookup; none is made here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from primero_ona.quarters import Quarter
from primero_ona.texts import same_text


@dataclass(frozen=True)
class Text:
    """A text in English, and in Khmer where a source has it."""

    en: str
    km: str | None = None


#: The gazetteer's word for the 24 provinces; Phnom Penh is the capital.
PROVINCE = Text("Province", "ខេត្ត")

#: How the two parts of a title, or of a value, are joined.
AND = " × "

#: By dimension of the figures: the table and column whose Khmer the dictionary has, and the English of a heading.
_HEADINGS: dict[str, tuple[str, str, str]] = {
    "sex": ("cases", "sex", "Sex"),
    "age_group": ("cases", "age", "Age"),
    "placement_type": ("cases", "placement_type", "Type of placement"),
    "type_of_case": ("cases", "type_of_case", "Type of case"),
    "disability": ("cases", "disabled", "Recorded disability"),
    "disability_type": ("cases", "disabled", "Recorded disability"),
    "service_type": ("services", "service_type", "Type of service"),
    "case_source": ("cases", "case_source", "Source of the case"),
}

#: What the figures have where a column is empty.
EMPTY = "(empty)"

#: Values of the figures that are no options of Primero's, by dimension.
_OWN = {
    ("age_group", "unknown"): Text("unknown"),
    ("disability", "recorded"): Text("disability recorded"),
    ("disability", "not recorded"): Text("no disability recorded"),
}


class Words:
    """What headings and labels are in both languages.

    `dictionary`: the rows of ONA's data_dictionary; `provinces`: code, name and Khmer name of each.
    """

    def __init__(
        self, dictionary: Iterable[Mapping[str, str | None]], provinces: Iterable[Sequence[str | None]] = ()
    ) -> None:
        self._headings: dict[tuple[str, str], str] = {}
        self._options: dict[tuple[str, str], dict[str, Text]] = {}
        for row in dictionary:
            place = str(row["table_name"]), str(row["column_name"])
            if not row["option_id"]:
                if khmer := _khmer(row["field_label_en"], row["field_label_km"]):
                    self._headings[place] = khmer
            elif value := row["option_value"]:
                self._options.setdefault(place, {}).setdefault(
                    value, Text(value, _khmer(value, row["option_value_km"]))
                )
        #: By code, without leading zero.
        self.provinces = {str(code): Text(str(en), _khmer(en, km)) for code, en, km in provinces}
        self._by_name = {text.en: text for text in self.provinces.values()}

    def heading(self, dimension: str) -> Text:
        """What a dimension is called."""
        if dimension == "province":
            return PROVINCE
        if dimension not in _HEADINGS:
            return Text(dimension)
        table, column, english = _HEADINGS[dimension]
        return Text(english, self._headings.get((table, column)))

    def value(self, dimension: str, value: str) -> Text:
        """What a value of a dimension is called; of several labels joined by `, `, all of them."""
        if value == EMPTY:
            return Text("not recorded")
        if (dimension, value) in _OWN:
            return _OWN[dimension, value]
        if dimension == "province":
            return self._by_name.get(value, Text(value))
        options = self.options(dimension)
        if value in options:
            return options[value]
        if dimension == "age_group":
            return Text(value, value)
        parts = [options.get(part) for part in value.split(", ")]
        khmer = [part.km for part in parts if part and part.km]
        return Text(value, ", ".join(khmer) if len(khmer) == len(parts) else None)

    def options(self, dimension: str) -> Mapping[str, Text]:
        """The known labels of a dimension, in their order."""
        if dimension == "province":
            return self._by_name
        table, column, _ = _HEADINGS.get(dimension, ("", "", ""))
        return self._options.get((table, column), {})


def both(texts: Sequence[Text]) -> Text:
    """Several texts as one; in Khmer only where all are."""
    khmer = [text.km for text in texts if text.km]
    return Text(AND.join(text.en for text in texts), AND.join(khmer) if len(khmer) == len(texts) else None)


def _khmer(english: str | None, khmer: str | None) -> str | None:
    """The Khmer text; none where it is missing, or is the English one that stands in its place."""
    return khmer if khmer and khmer.strip() and not same_text(english, khmer) else None


@dataclass(frozen=True)
class Number:
    """A count as it is written; `value` is None where it is not known exactly, or not at all."""

    text: str
    value: int | None

    @classmethod
    def of(cls, cell: int | str | None) -> Number:
        """The number of a cell of a table."""
        if cell is None:
            return cls("–", None)
        digits = str(cell).replace(",", "")
        return cls(f"{int(digits):,}", int(digits)) if digits.isdigit() else cls(str(cell), None)


def difference(before: Number, after: Number) -> str:
    """The change in children and percent, from what is shown; empty where one of the two is not known."""
    if before.value is None or after.value is None:
        return ""
    difference = after.value - before.value
    sign = "+" if difference > 0 else "\u2212" if difference else "±"
    percent = f" ({sign}{abs(difference) * 100 / before.value:.0f}\u00a0%)" if before.value else ""
    return f"{sign}{abs(difference):,}{percent}"


def trend(quarters: Sequence[Quarter], numbers: Sequence[Number]) -> str:
    """The first and the last quarter, and the extremes, in a sentence."""
    known = [(quarter, number) for quarter, number in zip(quarters, numbers, strict=True) if number.value is not None]
    if not known:
        return "No quarter has a figure."
    highest = max(known, key=lambda pair: pair[1].value or 0)
    lowest = min(known, key=lambda pair: pair[1].value or 0)
    first, last = known[0], known[-1]
    return (
        f"{first[1].text} in {first[0]}, {last[1].text} in {last[0]}; "
        f"most in {highest[0]} ({highest[1].text}), fewest in {lowest[0]} ({lowest[1].text})."
    )
