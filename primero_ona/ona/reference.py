"""Keep ONA's `locations_lookup` and `data_dictionary` up to date, and find options that the dictionary does not describe.

The dashboards group by names, so a changed name of a place waits in `primero_sync.place_names` until a person accepts it. A code
that Primero no longer has stays, marked `retired`: old cases still carry it. In the dictionary a Khmer text that was reviewed
stays while the English option stays, no translation gives way to the lack of one, and a row that is no longer in the source stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import pandas as pd
import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.types.json import Jsonb

from primero_ona.contract.derived import CURRENT, DATA_DICTIONARY, LOCATIONS_LOOKUP, RETIRED, District
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.errors import DataError, UsageError
from primero_ona.ona.connection import read_as, scalar, translate_errors
from primero_ona.ona.target import Row, Target, Text, Upkeep, insert_rows, locked, read_rows, update_row
from primero_ona.texts import normalize, same_text

#: What people see of a place, and therefore does not change by itself.
_NAMES = ("district", "province", "province_code", "district_km", "province_km")


@dataclass(frozen=True)
class ChangedName:
    """A name that Primero has changed: the district's code in ONA, the column, the text in use, and Primero's."""

    code: str
    column_name: str
    in_use: str | None
    primeros: str


@dataclass(frozen=True)
class LookupResult:
    """What keeping the lookup did; `retired` are all districts of ONA that Primero has no more, or has disabled.

    `odd`: codes of Primero's that are no clear districts; rows of ONA that have one stayed as they were.
    """

    rows: Upkeep
    retired: list[str]
    changed_names: list[ChangedName]
    odd: list[str]


def sync_lookup(
    conn: psycopg.Connection, districts: Sequence[District], now: datetime, odd: Collection[str] = ()
) -> LookupResult:
    """Bring `locations_lookup` up to date; `now` is aware and dates the changed names.

    New districts are added, what was empty is filled, a district that is gone is marked. Names in use stay as they are, and
    so do the districts with an `odd` code: Primero has them, but does not say clearly where they lie.
    Raises DataError where Primero names no district or a code twice, TransientError where the table is kept locked.
    """
    wanted = {district.code: _row(district) for district in districts}
    if not wanted or len(wanted) != len(districts):
        text = "Primero's districts are none, or have a code twice; ONA's locations_lookup was left as it is"
        raise DataError(text, see="places")
    with locked(conn, LOCATIONS_LOOKUP, "keeping ONA's locations_lookup up to date") as target:
        there = {(row["code"] or "").lstrip("0"): row for row in read_rows(conn, target, LOCATIONS_LOOKUP)}
        provinces = {row["province_code"]: row for row in there.values()}
        new = [_in_use(row, provinces) for code, row in wanted.items() if code not in there]
        insert_rows(conn, target, LOCATIONS_LOOKUP, new)
        updated = 0
        for code, row in there.items():
            if code not in odd and (changes := _changes(row, wanted.get(code), code)):
                update_row(conn, target, LOCATIONS_LOOKUP, row, changes)
                updated += 1
        present = {**there, **{row["code"] or "": row for row in new}}
        changed = [name for code, row in wanted.items() for name in _changed_names(present[code], row)]
        findings = {"now": now, "seen": Jsonb([asdict(name) for name in changed])}
        conn.execute(_RESOLVE_GONE, findings)
        conn.execute(_OPEN_NEW, findings)
    retired = sorted(code for code in present if code not in odd and wanted.get(code, {}).get("status") != CURRENT)
    return LookupResult(Upkeep(len(new), updated, len(there) - updated), retired, changed, sorted(odd))


def _row(district: District) -> Row:
    names = {name: text or None for name, text in district._asdict().items() if name != "current"}
    status = CURRENT if district.current else RETIRED
    return {**names, "gazetteer_code": _gazetteer_code(district.code), "status": status}


def _gazetteer_code(code: str) -> Text:
    """The official code: two digits for the province, two for the district."""
    return code.zfill(4) if code.isdecimal() else None


def _in_use(row: Row, provinces: dict[Text, Row]) -> Row:
    """A new district, with the names that its province already has in ONA."""
    known = provinces.get(row["province_code"], {})
    return {**row, **{name: known[name] for name in ("province", "province_km") if normalize(known.get(name))}}


def _changes(row: Row, wanted: Row | None, code: str) -> Row:
    """What to write into a row that is there: what it lacks, and its status."""
    wanted = wanted or {"gazetteer_code": _gazetteer_code(code), "status": RETIRED}
    filled = {name: text for name, text in wanted.items() if text and not normalize(row[name])}
    return filled | ({"status": wanted["status"]} if row["status"] != wanted["status"] else {})


def _changed_names(row: Row, wanted: Row) -> list[ChangedName]:
    """Where both have a name and they differ to a reader; what was empty has been filled, what Primero lost stays."""
    return [
        ChangedName(row["code"] or "", name, row[name], wanted[name] or "")
        for name in _NAMES
        if normalize(row[name]) and normalize(wanted[name]) and not same_text(row[name], wanted[name])
    ]


def changed_names(conn: psycopg.Connection) -> list[ChangedName]:
    """The changed names that are not accepted yet, by code."""
    return read_as(conn, ChangedName, "reading the changed names of places", _READ_OPEN)


def accept_names(conn: psycopg.Connection, codes: Collection[str] | None, now: datetime) -> list[ChangedName]:
    """Take Primero's names for the districts, or all districts of the provinces, with these codes; None means all.

    Returns what was changed. Raises UsageError where a code has no changed name.
    """
    with locked(conn, LOCATIONS_LOOKUP, "accepting names of places") as target:
        provinces = {row["code"]: row["province_code"] for row in read_rows(conn, target, LOCATIONS_LOOKUP)}
        of_codes = [(name, {name.code, provinces.get(name.code)}) for name in changed_names(conn)]
        chosen = [name for name, its_codes in of_codes if codes is None or its_codes & set(codes)]
        if unknown := sorted(set(codes or ()).difference(*(its_codes for _, its_codes in of_codes))):
            text = f"no name has changed for the code {', '.join(unknown)}; nothing was accepted"
            raise UsageError(f"{text}; `primero-ona places changes` lists those that have")
        for name in chosen:
            update_row(conn, target, LOCATIONS_LOOKUP, {"code": name.code}, {name.column_name: name.primeros})
            conn.execute(_ACCEPT, {"now": now, "code": name.code, "column_name": name.column_name})
    return chosen


_RESOLVE_GONE = """
UPDATE primero_sync.place_names AS p
   SET resolved_at = %(now)s
 WHERE p.resolved_at IS NULL
   AND NOT EXISTS (
    SELECT FROM jsonb_to_recordset(%(seen)s) AS s (code text, column_name text, in_use text, primeros text)
     WHERE (s.code, s.column_name, s.primeros) = (p.code, p.column_name, p.primeros)
       AND s.in_use IS NOT DISTINCT FROM p.in_use)
"""

_OPEN_NEW = """
INSERT INTO primero_sync.place_names (code, column_name, in_use, primeros, first_seen)
SELECT code, column_name, in_use, primeros, %(now)s
  FROM jsonb_to_recordset(%(seen)s) AS s (code text, column_name text, in_use text, primeros text)
ON CONFLICT (code, column_name) WHERE resolved_at IS NULL DO NOTHING
"""

_READ_OPEN = """
SELECT code, column_name, in_use, primeros
  FROM primero_sync.place_names
 WHERE resolved_at IS NULL
 ORDER BY length(code), code, column_name
"""

_ACCEPT = """
UPDATE primero_sync.place_names
   SET resolved_at = %(now)s, accepted = true
 WHERE code = %(code)s AND column_name = %(column_name)s AND resolved_at IS NULL
"""


def read_places(conn: psycopg.Connection) -> pd.DataFrame:
    """The districts that ONA knows: columns code, district, province, province_code, all text."""
    names = [column.name for column in LOCATIONS_LOOKUP.columns if not column.added]
    as_text = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
    query = sql.SQL("SELECT {} FROM {} WHERE code IS NOT NULL ORDER BY 1")
    with translate_errors("reading ONA's locations_lookup"):
        target = Target.find(conn)
        rows = conn.execute(query.format(as_text, target.name(LOCATIONS_LOOKUP))).fetchall()
    return pd.DataFrame(rows, columns=pd.Index(names), dtype=pd.ArrowDtype(pa.string()))


_KEY = (DATA_DICTIONARY.key, *DATA_DICTIONARY.key_rest)
#: Each Khmer column and the English one that stands in its place where there is no translation.
_KHMER = {"field_label_km": "field_label_en", "option_value_km": "option_value"}
_TRUE = frozenset({"true", "t", "yes", "1"})


def sync_dictionary(conn: psycopg.Connection, rows: Sequence[Row]) -> Upkeep:
    """Bring `data_dictionary` up to date with the rows, one for each key.

    Raises TransientError where another session keeps the table locked.
    """
    with locked(conn, DATA_DICTIONARY, "keeping ONA's data_dictionary up to date") as target:
        there = {_key(row): row for row in read_rows(conn, target, DATA_DICTIONARY)}
        new = [row for row in rows if _key(row) not in there]
        insert_rows(conn, target, DATA_DICTIONARY, new)
        updated = 0
        known = [row for row in rows if _key(row) in there]
        for row in known:
            if changes := _changed_row(there[_key(row)], row):
                update_row(conn, target, DATA_DICTIONARY, row, changes)
                updated += 1
    return Upkeep(len(new), updated, len(known) - updated)


def _key(row: Row) -> tuple[Text, ...]:
    return tuple(row[name] for name in _KEY)


def _changed_row(there: Row, wanted: Row) -> Row:
    """The columns that differ, once what people did is respected."""
    # The approval was for a translation of these English texts.
    same_english = {khmer: same_text(there[english], wanted[english]) for khmer, english in _KHMER.items()}
    reviewed = (there["reviewed"] or "").lower() in _TRUE and all(same_english.values())
    meant = dict(wanted)
    for khmer, english in _KHMER.items():
        translated_there = bool(normalize(there[khmer])) and not same_text(there[khmer], there[english])
        untranslated_now = same_text(wanted[khmer], wanted[english]) and same_english[khmer]
        # Else Primero's is taken, for it is what is shown, also where it differs by marks alone that show nothing.
        if translated_there and (reviewed or untranslated_now):
            meant[khmer] = there[khmer]
    changes = {name: text for name, text in meant.items() if name != "reviewed" and there[name] != text}
    if reviewed or there["reviewed"] == wanted["reviewed"]:
        return changes
    return changes | ({"reviewed": wanted["reviewed"]} if changes or there["reviewed"] is None else {})


def read_dictionary(conn: psycopg.Connection) -> list[Row]:
    """All rows as texts, in the order of tables, columns and options."""
    with translate_errors("reading ONA's data_dictionary"):
        rows = read_rows(conn, Target.find(conn), DATA_DICTIONARY)
    own = [row for row in rows if row["table_name"] and row["column_name"]]
    places = {(row["table_name"], row["column_name"]): _place(row) for row in own if not row["option_id"]}
    return sorted(
        own,
        key=lambda row: (
            row["table_name"] or "",
            places.get((row["table_name"], row["column_name"]), 0),
            row["column_name"] or "",
            bool(row["option_id"]),
            _place(row),
            row["option_id"] or "",
        ),
    )


def _place(row: Row) -> int:
    return int(row["sort_order"] or 0)


def undescribed_options(conn: psycopg.Connection) -> dict[str, int]:
    """By column how many options occur in `cases` or `services` and have no row in the dictionary; counts only, no texts.

    A text that stands where an option is due may be anything that a person wrote.
    """
    found = {}
    with translate_errors("looking for options without a row in ONA's data_dictionary"):
        target = Target.find(conn)
        for table in (CASES, SERVICES):
            for column in (column for column in table.columns if column.has_options):
                parts = {"column": sql.Identifier(column.name), "occurring": target.name(table)}
                query = sql.SQL(_UNDESCRIBED).format(**target.names, **parts)
                found[f"{table.name}.{column.name}"] = scalar(conn, query, {"table": table.name, "column": column.name})
    return {column: count for column, count in found.items() if count}


def count_label(conn: psycopg.Connection, wanted: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], int]:
    """Rows in which a label occurs, alone or among others; by (field of Primero, code) of the labels asked for."""
    columns = {c.labels: (table, c) for table in (CASES, SERVICES) for c in table.columns if c.labels}
    counts: dict[tuple[str, str], int] = {}
    with translate_errors("counting the rows with a label in ONA"):
        target = Target.find(conn)
        for (field, code), label in wanted.items():
            table, column = columns[field]
            with_label = sql.SQL("SELECT count(*) FROM {} WHERE strpos(', ' || {}::text || ', ', %(label)s) > 0")
            query = with_label.format(target.name(table), sql.Identifier(column.name))
            counts[field, code] = scalar(conn, query, {"label": f", {label}, "})
    return counts


def count_unmapped(conn: psycopg.Connection) -> dict[tuple[str, str], int]:
    """How often each code that the mapping does not know occurred at the last sync of each quarter, all quarters together."""
    query = "SELECT field, code, sum(count)::bigint FROM primero_sync.unmapped WHERE code IS NOT NULL GROUP BY 1, 2"
    with translate_errors("reading the unmapped codes"):
        return {(field, code): count for field, code, count in conn.execute(query).fetchall()}


# A label may hold `, ` itself, so the dictionary's texts are taken apart like those of the rows.
_UNDESCRIBED = """
SELECT count(DISTINCT part)
  FROM (SELECT DISTINCT {column}::text AS text FROM {occurring}) AS occurring, unnest(string_to_array(text, ', ')) AS part
 WHERE part <> ''
   AND part NOT IN (
    SELECT known
      FROM {data_dictionary}, unnest(string_to_array(option_value::text, ', ')) AS known
     WHERE table_name = %(table)s AND column_name = %(column)s)
"""
