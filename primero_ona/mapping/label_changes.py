"""Compare the labels of `labels.yaml` with Primero's, and write the lines that would make them agree; a person decides."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from primero_ona.mapping.labels import Labels
from primero_ona.texts import same_text


class Kind(StrEnum):
    """How a label differs; the texts are what people read."""

    DIFFERENT = "label differs from Primero's"
    ONLY_PRIMERO = "code known to Primero only; its label is used"
    UNKNOWN = "code unknown to Primero, too; it has no label"


@dataclass(frozen=True)
class LabelChange:
    """One finding: field and code, our label and Primero's (empty where there is none), and the rows in ONA it concerns."""

    kind: Kind
    field: str
    code: str
    ours: str
    primeros: str
    rows: int = 0


def label_changes(labels: Labels, unmapped: Iterable[tuple[str, str]] = ()) -> list[LabelChange]:
    """Where `labels.yaml` and Primero's labels differ, and which `unmapped` (field, code) neither of them knows.

    Accepted codes are no finding.
    """
    found = []
    for field, ours in labels.tables.items():
        primeros, known = labels.primeros.get(field, {}), labels.accepted.get(field, frozenset())
        for code, theirs in primeros.items():
            if code in known:
                continue
            if code not in ours:
                found.append(LabelChange(Kind.ONLY_PRIMERO, field, code, "", theirs))
            elif not same_text(ours[code], theirs):
                found.append(LabelChange(Kind.DIFFERENT, field, code, ours[code], theirs))
        unknown = sorted(
            code for name, code in unmapped if name == field and code not in known and labels.label(field, code) is None
        )
        found += [LabelChange(Kind.UNKNOWN, field, code, "", "") for code in unknown]
    return found


def as_lines(changes: Iterable[LabelChange]) -> str:
    """Write Primero's labels as sections of `labels.yaml`; codes that Primero does not know have none and are left out."""
    sections: dict[str, list[str]] = {}
    for change in changes:
        if change.primeros:
            entry = [json.dumps(text, ensure_ascii=False) for text in (change.code, change.primeros)]
            sections.setdefault(change.field, []).append("  " + ": ".join(entry))
    return "\n".join("\n".join([f"{field}:", *lines]) for field, lines in sections.items())
