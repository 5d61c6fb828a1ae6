"""Where our labels and Primero's part, and the text of `labels.yaml` once they agree again.

What belongs here: comparing label tables, and editing the file's text line by line, so that its comments stay. Which rows
are affected is counted in ONA; who decides is a person.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from primero_ona.errors import DataError
from primero_ona.mapping.labels import Labels
from primero_ona.texts import same

#: An entry of `labels.yaml`: both texts quoted, as YAML and JSON quote alike.
_ENTRY = re.compile(r'  ("(?:[^"\\]|\\.)*"): ("(?:[^"\\]|\\.)*")\s*')
_SECTION = re.compile(r"([a-z_]+):\s*")


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
            elif not same(ours[code], theirs):
                found.append(LabelChange(Kind.DIFFERENT, field, code, ours[code], theirs))
        unknown = sorted(
            code for name, code in unmapped if name == field and code not in known and labels.label(field, code) is None
        )
        found += [LabelChange(Kind.UNKNOWN, field, code, "", "") for code in unknown]
    return found


def accepted(text: str, changes: Collection[LabelChange]) -> str:
    """The text of `labels.yaml` with Primero's labels for these changes; those that Primero does not know are no part of it.

    Raises DataError where a field has no section in the text.
    """
    wanted: dict[str, dict[str, str]] = {}
    for change in changes:
        if change.primeros:
            wanted.setdefault(change.field, {})[change.code] = change.primeros
    lines: list[str] = []
    section: str | None = None
    for line in text.splitlines():
        if heading := _SECTION.fullmatch(line):
            _append_rest(lines, wanted.pop(section or "", {}))
            section = heading[1]
        lines.append(_edited(line, wanted.get(section or "", {})))
    _append_rest(lines, wanted.pop(section or "", {}))
    if wanted:
        raise DataError(f"labels.yaml has no section {', '.join(sorted(wanted))}; nothing was written")
    return "\n".join(lines) + "\n"


def _edited(line: str, wanted: dict[str, str]) -> str:
    """The line with its new label, which is then no longer wanted."""
    entry = _ENTRY.fullmatch(line)
    code = json.loads(entry[1]) if entry else None
    return _line(code, wanted.pop(code)) if code in wanted else line


def _append_rest(lines: list[str], rest: Mapping[str, str]) -> None:
    """Add new codes at the end of a section, before the blank line that ends it."""
    blank = bool(rest and lines and not lines[-1].strip())
    if blank:
        lines.pop()
    lines += [_line(code, label) for code, label in rest.items()]
    if blank:
        lines.append("")


def _line(code: str, label: str) -> str:
    return f"  {json.dumps(code, ensure_ascii=False)}: {json.dumps(label, ensure_ascii=False)}"
