"""Keep ONA's `data_dictionary`, read it for export, and find options that it does not describe.

A Khmer text that was reviewed stays while the English option stays, no translation gives way to the lack of one, and a row that
is no longer in the source stays, since old cases may still show its option.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from primero_ona.contract.column import Column, Table
from primero_ona.contract.derived import DATA_DICTIONARY
from primero_ona.contract.tables import CASES, SERVICES
from primero_ona.ona.connection import translate_errors
from primero_ona.ona.target import Row, Target, Upkeep, insert_rows, locked, read_rows, update_row
from primero_ona.texts import normalize, same_text

Key = tuple[str | None, ...]

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
            if changes := _changes(there[_key(row)], row):
                update_row(conn, target, DATA_DICTIONARY, {name: row[name] for name in _KEY}, changes)
                updated += 1
    return Upkeep(len(new), updated, len(known) - updated)


def _key(row: Row) -> Key:
    return tuple(row[name] for name in _KEY)


def _changes(there: Row, wanted: Row) -> Row:
    """The columns that differ, once what people did is respected."""
    # The approval was for a translation of these English texts.
    same_english = all(same_text(there[english], wanted[english]) for english in _KHMER.values())
    reviewed = (there["reviewed"] or "").lower() in _TRUE and same_english
    kept = {khmer: _khmer(there, wanted, khmer, reviewed=reviewed) for khmer in _KHMER}
    meant: Row = {**wanted, **kept}
    changes = {name: text for name, text in meant.items() if name != "reviewed" and there[name] != text}
    if reviewed or there["reviewed"] == wanted["reviewed"]:
        return changes
    return changes | ({"reviewed": wanted["reviewed"]} if changes or there["reviewed"] is None else {})


def _khmer(there: Row, wanted: Row, name: str, *, reviewed: bool) -> str | None:
    english = _KHMER[name]
    translated_there = bool(normalize(there[name])) and not same_text(there[name], there[english])
    untranslated_now = same_text(wanted[name], wanted[english])
    same_meaning = same_text(there[english], wanted[english])
    if translated_there and (reviewed or (untranslated_now and same_meaning)):
        return there[name]
    # What differs by marks that show nothing is the same text; Primero's is taken, for it is what is shown.
    return wanted[name]


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


@dataclass(frozen=True)
class Undescribed:
    """Options of one column that occur in ONA without a row in the dictionary: how many texts, in how many rows."""

    column: str
    texts: int
    rows: int


def undescribed_options(conn: psycopg.Connection) -> list[Undescribed]:
    """Options that occur in `cases` or `services` and have no row in the dictionary; counts only, no texts.

    A text that stands where an option is due may be anything that a person wrote.
    """
    with translate_errors("looking for options without a row in ONA's data_dictionary"):
        target = Target.find(conn)
        found = [
            _undescribed(conn, target, table, column)
            for table in (CASES, SERVICES)
            for column in table.columns
            if column.has_options
        ]
    return [entry for entry in found if entry.texts]


def _undescribed(conn: psycopg.Connection, target: Target, table: Table, column: Column) -> Undescribed:
    query = sql.SQL(_UNDESCRIBED).format(
        **{**target.names, "column": sql.Identifier(column.name), "occurring": target.name(table)}
    )
    row = conn.execute(query, {"table": table.name, "column": column.name}).fetchone()
    texts, rows = row or (0, 0)
    return Undescribed(f"{table.name}.{column.name}", int(texts), int(rows))


def count_label(conn: psycopg.Connection, wanted: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], int]:
    """Rows in which a label occurs, alone or among others; by (field of Primero, code) of the labels asked for."""
    columns = {c.labels: (table, c) for table in (CASES, SERVICES) for c in table.columns if c.labels}
    counts: dict[tuple[str, str], int] = {}
    with translate_errors("counting the rows with a label in ONA"):
        target = Target.find(conn)
        for (field, code), label in wanted.items():
            table, column = columns[field]
            query = sql.SQL(_COUNT_LABEL).format(sql.Identifier(column.name), target.name(table))
            row = conn.execute(query, {"label": f", {label}, "}).fetchone()
            counts[field, code] = int(row[0]) if row else 0
    return counts


def count_unmapped(conn: psycopg.Connection) -> dict[tuple[str, str], int]:
    """How often each code that the mapping does not know occurred at the last sync of each quarter, all quarters together."""
    with translate_errors("reading the unmapped codes"):
        rows = conn.execute(_UNMAPPED).fetchall()
    return {(field, code): int(count) for field, code, count in rows}


# A label may hold `, ` itself, so the dictionary's texts are taken apart like those of the rows.
_UNDESCRIBED = """
WITH occurring AS (
    SELECT {column}::text AS text, count(*) AS rows FROM {occurring} WHERE {column} IS NOT NULL GROUP BY 1
),
parts AS (
    SELECT part, sum(rows) AS rows
      FROM occurring, unnest(string_to_array(text, ', ')) AS part
     WHERE part <> ''
     GROUP BY part
)
SELECT count(*), COALESCE(sum(rows), 0)
  FROM parts
 WHERE part NOT IN (
    SELECT known
      FROM {data_dictionary}, unnest(string_to_array(option_value::text, ', ')) AS known
     WHERE table_name = %(table)s AND column_name = %(column)s)
"""

_COUNT_LABEL = "SELECT count(*) FROM {1} WHERE strpos(', ' || {0}::text || ', ', %(label)s) > 0"

_UNMAPPED = """
SELECT field, code, sum(count)
  FROM primero_sync.unmapped
 WHERE code IS NOT NULL
 GROUP BY field, code
"""
