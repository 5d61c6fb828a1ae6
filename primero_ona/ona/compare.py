"""Compare the tables of the legacy pipeline with ours, each in a schema of its own, and class what differs by the known differences.

Read only, in one snapshot, and all in SQL. Whether ours hold what Primero holds is not asked here: `verify` proves that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, get_args

import psycopg
from psycopg import IsolationLevel, sql

from primero_ona.contract.column import Column, LabelRule, PlaceRule, Table
from primero_ona.contract.tables import CASES, LONGEST_KEY, SERVICES
from primero_ona.errors import NAMED_CASES, UsageError
from primero_ona.ona.connection import translate_errors
from primero_ona.ona.target import Target

#: What rows may differ by, in the order in which they are shown; the legacy pipeline is `there`, this one `here`.
KNOWN = {
    "later": "changed in Primero since the legacy pipeline last ran; its next run may bring it",
    "lost": "changed before the legacy pipeline last ran, and never came there: an update that it lost",
    "before": "last changed before the legacy pipeline began, which never asked for it",
    "eighteen": "18 years old, which the legacy pipeline counted as a child",
    "grown up": "a child when registered, and older than 18 when the legacy pipeline asked",
    "removed": "left here, being disabled or of neither indicator or not included; the legacy pipeline removes nothing",
    "merged": "several cases with one Case ID: there one row, here one each",
    "shared": "services of several children, or of one child, with one `unique_id`: there one row, here one each",
    "its case": "a service of a case that only one side has, which is counted among the cases",
    "quarantine": "a service without a key, or with one that is too long: here in quarantine, see `primero-ona quarantine list`",
    "last word": "an option without a number at its end, which lost its last word there",
    "unknown code": "codes that the legacy pipeline does not know: nothing there, or an empty place between commas",
    "place": "a province, or a code with leading zeros, that the legacy pipeline does not find",
    "precision": "the location, which PRIMERO_ONA_LOCATION_PRECISION cuts here",
    "day": "the day in Phnom Penh here, the one before in UTC there",
    "age": "the present age, which Primero raises by itself: each side has that of the day on which it last wrote",
}

#: What no known difference explains: a person has to look.
UNEXPLAINED = {
    "unseen": "only there, and no sync here has seen it leave: `primero-ona verify` says whether it is missing here",
    "unexplained": "no known difference explains it",
}

TABLES = (CASES, SERVICES)

#: Columns that every comparison needs there.
_NEEDED = {CASES.name: ("case_id", "age", "type_of_case", "last_updated_date"), SERVICES.name: ("unique_id", "case_id")}


@dataclass(frozen=True)
class Difference:
    """Rows of a table that differ for one reason; of rows that both sides have, how many differ in which column.

    A row may differ for several reasons. `ids`: the first few cases, by Primero's id, or by Case ID where only the legacy
    pipeline has them.
    """

    name: str
    rows: int
    columns: dict[str, int]
    ids: list[str]

    @property
    def is_known(self) -> bool:
        """Whether it is one of the known differences."""
        return self.name in KNOWN

    @property
    def text(self) -> str:
        """What the difference means."""
        return {**KNOWN, **UNEXPLAINED}[self.name]


@dataclass(frozen=True)
class TableComparison:
    """What one table has on both sides; `only_there` and `only_here` are names of columns."""

    table: str
    there: int
    here: int
    equal: int
    differences: list[Difference]
    only_there: list[str]
    only_here: list[str]


@dataclass(frozen=True)
class Comparison:
    """Both tables; `legacy_run`: the last time (UTC) at which the legacy pipeline wrote a case, None where no row says it."""

    there: str
    here: str
    legacy_run: datetime | None
    tables: list[TableComparison]

    @property
    def unexplained(self) -> int:
        """How many rows differ for no known reason."""
        return sum(each.rows for table in self.tables for each in table.differences if not each.is_known)


def compare(conn: psycopg.Connection, legacy: str) -> Comparison:
    """Compare the tables in the schema `legacy` with ours. `conn` is in no transaction and is used for nothing else.

    Raises UsageError where that schema is ours, or does not have the legacy pipeline's tables.
    """
    conn.isolation_level, conn.read_only = IsolationLevel.REPEATABLE_READ, True
    with translate_errors("comparing the legacy pipeline's tables with ours"), conn.transaction():
        here, there = Target.find(conn), Target(legacy)
        if here.schema == legacy:
            raise UsageError(f"{legacy} is the schema that primero-ona loads; name the legacy pipeline's")
        for table in TABLES:
            if missing := [name for name in _NEEDED[table.name] if name not in there.columns(conn, table)]:
                raise UsageError(
                    f"the schema {legacy} has no table {table.name} of the legacy pipeline with {', '.join(missing)}, or this "
                    "login may not see it; --legacy names the schema"
                )
        last_run = there.run(conn, "SELECT max({stamp}) FROM {cases}", stamp=sql.SQL(_STAMP)).fetchall()[0][0]
        tables = [_compare(conn, table, there, here, last_run) for table in TABLES]
    return Comparison(legacy, here.schema, last_run, tables)


def _compare(
    conn: psycopg.Connection, table: Table, there: Target, here: Target, last_run: datetime | None
) -> TableComparison:
    theirs, ours = there.columns(conn, table).keys(), here.columns(conn, table).keys()
    # The keys pair the rows; whose a service is follows from the key of its case, which may be one of our own.
    both = [column for column in table.mapped if column.name in theirs & ours and not column.added]
    parts = {
        **{f"there_{name}": found for name, found in there.names.items()},
        **{f"here_{name}": found for name, found in here.names.items()},
        "stamp": sql.SQL(_STAMP),
        "why": sql.SQL(_WHY),
        "columns": sql.SQL(", ").join(_both(column) for column in both if column.name not in {table.key, CASES.key}),
    }
    rows = sql.SQL(_CASES if table is CASES else _SERVICES).format(**parts)
    query = sql.SQL(_QUERY).format(rows=rows, **parts)
    found = conn.execute(query, {**_kinds(table), "last_run": last_run}).fetchall()
    differences = {name: Difference(name, *counted) for name, *counted in found}
    equal = differences.pop("equal", None)
    return TableComparison(
        table.name,
        there.size(conn, table),
        here.size(conn, table),
        equal.rows if equal else 0,
        [differences[name] for name in (*KNOWN, *UNEXPLAINED) if name in differences],
        sorted(theirs - {column.name for column in table.columns}),
        sorted(ours - theirs),
    )


def _both(column: Column) -> sql.Composed:
    """A column's name with its text there and here; an empty text is as good as none, and a day has no time."""
    text = "left(replace({}, '/', '-'), 10)" if column.type == "date" else "{}"
    value = sql.SQL("btrim(COALESCE(" + text + ", ''))")
    sides = [value.format(sql.SQL("{}::text").format(sql.Identifier(side, column.name))) for side in ("l", "o")]
    return sql.SQL("({}, {}, {})").format(sql.Literal(column.name), *sides)


def _kinds(table: Table) -> dict[str, Any]:
    """The names of columns that a known difference can be of."""

    def of(*rules: object) -> list[str]:
        return [column.name for column in table.columns if column.rule in rules]

    return {
        "options": of("option_name"),
        "labels": of(*get_args(LabelRule)),
        "places": [name for name in of(*get_args(PlaceRule)) if name != "location_code"],
        "days": [column.name for column in table.columns if column.type == "date"],
        "named": NAMED_CASES,
        "longest_key": LONGEST_KEY,
    }


#: When the legacy pipeline last wrote a case, by its clock in UTC.
_STAMP: LiteralString = r"""
CASE WHEN last_updated_date::text ~ '^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d'
     THEN left(last_updated_date::text, 19)::timestamp AT TIME ZONE 'UTC' END
"""

# Of each difference: the row, the case that it is of, the column where both sides have the row, and why. A row that is only there
# goes by its place in the table: its key may be null, or that of another row, too.
_QUERY = """
WITH stamps AS MATERIALIZED (SELECT case_id, max({stamp}) AS at FROM {there_cases} GROUP BY case_id),
found AS MATERIALIZED ({rows}),
ranked AS (
    SELECT why, row, id, row_number() OVER (PARTITION BY why ORDER BY id, row, col) AS place FROM found
),
by_column AS (
    SELECT why, jsonb_object_agg(col, rows) AS columns
      FROM (SELECT why, col, count(*) AS rows FROM found WHERE col IS NOT NULL GROUP BY why, col) AS counted
     GROUP BY why
)
SELECT why, rows, COALESCE(columns, '{{}}'), ids
  FROM (SELECT why, count(DISTINCT row) AS rows,
               COALESCE(array_agg(DISTINCT id ORDER BY id) FILTER (WHERE place <= %(named)s AND id IS NOT NULL), '{{}}') AS ids
          FROM ranked GROUP BY why) AS counted
  LEFT JOIN by_column USING (why)
"""

# Why a row that both sides have differs in a column; `d` has the texts, `p` what is so of the row.
_WHY: LiteralString = r"""
CASE WHEN d.col IS NULL THEN 'equal'
     WHEN p.moved IS NOT NULL THEN p.moved
     WHEN p.several IS NOT NULL THEN p.several
     WHEN d.col = ANY (%(options)s) AND regexp_replace(d.here, '(^| )[^ ]+$', '') = d.there THEN 'last word'
     WHEN d.col = ANY (%(labels)s) AND (d.there = ''
          OR array_to_string(array_remove(string_to_array(d.there, ', '), ''), ', ') = d.here
          OR btrim(d.there, ', ') = d.here) THEN 'unknown code'
     WHEN d.col = ANY (%(places)s) AND d.there = '' THEN 'place'
     WHEN d.col = 'location_code' AND d.here <> '' AND starts_with(d.there, d.here) THEN 'precision'
     WHEN d.col = ANY (%(days)s) AND d.here ~ '^\d{4}-\d\d-\d\d$' AND (d.here::date - 1)::text = d.there THEN 'day'
     WHEN d.col = 'age' AND d.there ~ '^\d{1,3}$' AND d.here ~ '^\d{1,3}$'
          AND abs(d.there::integer - d.here::integer) <= 1 + p.years THEN 'age'
     ELSE 'unexplained'
END
"""

# A key of our own is the plain one, `~` and digits of the case's id; see ona/keys.py.
_CASES: LiteralString = r"""
WITH ours AS MATERIALIZED (
    SELECT *, regexp_replace(case_id, '~[0-9a-f]{{8}}([0-9a-f]{{24}})?$', '') AS plain,
           primero_updated_at::timestamptz AS changed_at
      FROM {here_cases}
),
-- The oldest change that it has, or its first write of what still stands.
began AS (SELECT LEAST(min(ours.changed_at), (SELECT min(at) FROM stamps)) AS at FROM ours JOIN stamps USING (case_id)),
several AS (SELECT plain FROM ours GROUP BY plain HAVING count(*) > 1)
SELECT o.case_id AS row, o.primero_id::text AS id, d.col, {why} AS why
  FROM {there_cases} AS l
  JOIN ours AS o ON o.case_id = l.case_id
  JOIN stamps AS s ON s.case_id = l.case_id
  LEFT JOIN several ON several.plain = o.plain
 CROSS JOIN LATERAL (
    SELECT CASE WHEN o.changed_at > s.at THEN CASE WHEN o.changed_at < %(last_run)s THEN 'lost' ELSE 'later' END END AS moved,
           CASE WHEN several.plain IS NOT NULL THEN 'merged' END AS several,
           COALESCE(extract(epoch FROM now() - s.at)::bigint / 31536000, 0) AS years) AS p
  LEFT JOIN LATERAL (SELECT * FROM (VALUES {columns}) AS v (col, there, here) WHERE there <> here) AS d ON true
 UNION ALL
SELECT concat(l.tableoid, l.ctid), COALESCE(e.primero_id::text, l.case_id), NULL,
       CASE WHEN l.age::text = '18' AND l.type_of_case IS DISTINCT FROM 'children undergoing reintegration' THEN 'eighteen'
            WHEN e.primero_id IS NOT NULL THEN 'removed' ELSE 'unseen' END
  FROM {there_cases} AS l
  LEFT JOIN (SELECT case_id, min(primero_id::text) AS primero_id FROM primero_sync.exits GROUP BY 1) AS e ON e.case_id = l.case_id
 WHERE NOT EXISTS (SELECT FROM ours WHERE ours.case_id = l.case_id)
 UNION ALL
SELECT o.case_id, o.primero_id::text, NULL,
       CASE WHEN o.plain <> o.case_id AND EXISTS (SELECT FROM stamps WHERE stamps.case_id = o.plain) THEN 'merged'
            WHEN NULLIF(btrim(o.age::text), '')::integer > 18
                 AND o.type_of_case IS DISTINCT FROM 'children undergoing reintegration' THEN 'grown up'
            WHEN o.changed_at >= %(last_run)s THEN 'later'
            WHEN %(last_run)s::timestamptz IS NULL THEN 'unexplained'
            WHEN o.changed_at >= began.at THEN 'lost'
            WHEN o.changed_at < began.at THEN 'before' ELSE 'unexplained' END
  FROM ours AS o
 CROSS JOIN began
 WHERE NOT EXISTS (SELECT FROM stamps WHERE stamps.case_id = o.case_id)
"""

_SERVICES: LiteralString = r"""
WITH plain AS MATERIALIZED (
    SELECT *, regexp_replace(unique_id, '~[0-9a-f]{{8}}([0-9a-f]{{24}})?(~[0-9]+)?$', '') AS plain,
           regexp_replace(case_id, '~[0-9a-f]{{8}}([0-9a-f]{{24}})?$', '') AS of_case
      FROM {here_services}
),
several AS (SELECT plain FROM plain GROUP BY plain HAVING count(*) > 1),
ours AS MATERIALIZED (
    SELECT v.*, s.case_id IS NOT NULL AS has_case, CASE WHEN several.plain IS NOT NULL THEN 'shared' END AS several,
           CASE WHEN c.changed_at > s.at THEN CASE WHEN c.changed_at < %(last_run)s THEN 'lost' ELSE 'later' END END AS moved
      FROM plain AS v
      LEFT JOIN several ON several.plain = v.plain
      LEFT JOIN (SELECT case_id, primero_updated_at::timestamptz AS changed_at FROM {here_cases}) AS c ON c.case_id = v.case_id
      LEFT JOIN stamps AS s ON s.case_id = v.of_case
)
SELECT o.unique_id AS row, o.primero_case_id::text AS id, d.col, {why} AS why
  FROM {there_services} AS l
  JOIN ours AS o ON o.unique_id = l.unique_id
 CROSS JOIN LATERAL (SELECT o.moved, o.several, 0 AS years) AS p
  LEFT JOIN LATERAL (
    SELECT * FROM (VALUES ('case_id', l.case_id, o.of_case), {columns}) AS v (col, there, here)
     WHERE there IS DISTINCT FROM here) AS d ON true
 UNION ALL
SELECT concat(l.tableoid, l.ctid), COALESCE(c.primero_id::text, l.case_id), NULL,
       CASE WHEN c.case_id IS NULL AND s.case_id IS NOT NULL THEN 'its case'
            WHEN c.primero_updated_at::timestamptz > s.at THEN
                 CASE WHEN c.primero_updated_at::timestamptz < %(last_run)s THEN 'lost' ELSE 'later' END
            WHEN (COALESCE(btrim(l.unique_id), '') = '' OR length(l.unique_id) > %(longest_key)s)
                 AND EXISTS (SELECT FROM primero_sync.quarantine AS q WHERE q.table_name = 'services' AND q.resolved_at IS NULL
                                AND q.primero_id = c.primero_id::text) THEN 'quarantine'
            ELSE 'unseen' END
  FROM {there_services} AS l
  LEFT JOIN {here_cases} AS c ON c.case_id = l.case_id
  LEFT JOIN stamps AS s ON s.case_id = l.case_id
 WHERE NOT EXISTS (SELECT FROM ours WHERE ours.unique_id = l.unique_id)
 UNION ALL
SELECT o.unique_id, o.primero_case_id::text, NULL,
       CASE WHEN NOT has_case THEN 'its case' WHEN several IS NOT NULL THEN several
            WHEN moved IS NOT NULL THEN moved ELSE 'unexplained' END
  FROM ours AS o
 WHERE NOT EXISTS (SELECT FROM {there_services} AS l WHERE l.unique_id = o.unique_id)
"""
