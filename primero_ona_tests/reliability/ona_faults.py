"""What ONA's database can do to a load, by name: each fault breaks a real database, and repairs it afterwards.

A fault that is added here is proved in `test_ona_side.py`, where ONA has to be whole afterwards, and in `canary/`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import psycopg

from primero_ona.errors import DataError, RefusedError, SyncError, TransientError
from primero_ona.ona.connection import connect
from primero_ona.ona.migrations import apply, plan

#: Breaks the database at a URL while the block runs; yields the URL by which a load meets the fault.
Breaking = Callable[[str], AbstractContextManager[str]]


@dataclass(frozen=True)
class OnaFault:
    """One fault; `limits` are what `connect` must be told for it to show soon (seconds)."""

    breaking: Breaking
    kind: type[SyncError]
    words: tuple[str, ...]
    limits: Mapping[str, float] = field(default_factory=dict)


def _run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement.encode())


def _with_option(url: str, option: str) -> str:
    """The URL, with a setting of the server for each session."""
    return f"{url}{'&' if '?' in url else '?'}options={quote(f'-c {option}')}"


@contextmanager
def refused(_url: str) -> Iterator[str]:
    """Nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"postgresql://u:p@127.0.0.1:{closed.getsockname()[1]}/x"


def statements(break_: str, mend: str, option: str = "") -> Breaking:
    """Faults that SQL makes and takes away again; `option` is a setting of the load's session."""

    @contextmanager
    def breaking(url: str) -> Iterator[str]:
        _run(url, break_)
        try:
            yield _with_option(url, option) if option else url
        finally:
            _run(url, mend)

    return breaking


_CUT = """
    CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5); RETURN NEW; END $$;
"""


def cut(when: str, table: str, kind: str = "TRIGGER") -> OnaFault:
    """A trigger ends the session that fires it."""
    breaking = statements(
        f"{_CUT} CREATE {kind} cut {when} ON {table} FOR EACH ROW EXECUTE FUNCTION cut()", "DROP FUNCTION cut() CASCADE"
    )
    return OnaFault(breaking, TransientError, ("loading 2024-Q1 into ONA", "nothing was changed", "next try"))


def cut_while_staging(table: str) -> OnaFault:
    """The session ends at the first row that COPY brings into a temporary table, which gets its trigger when it is made."""
    arm = f"""
        {_CUT}
        CREATE FUNCTION arm() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity = 'pg_temp.{table}') THEN
                CREATE TRIGGER cut BEFORE INSERT ON pg_temp.{table} FOR EACH ROW EXECUTE FUNCTION cut();
            END IF;
        END $$;
        CREATE EVENT TRIGGER arm ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION arm()
    """
    disarm = "DROP EVENT TRIGGER arm; DROP FUNCTION arm(); DROP FUNCTION cut() CASCADE"
    return OnaFault(statements(arm, disarm), TransientError, ("loading 2024-Q1 into ONA", "next try"))


def locked(statement: str) -> OnaFault:
    """Another session holds what the load needs."""

    @contextmanager
    def breaking(url: str) -> Iterator[str]:
        with psycopg.connect(url) as other:
            other.execute(statement.encode())
            yield url
            other.rollback()

    words = ("another session kept a lock for too long", "nothing was changed", "55P03")
    return OnaFault(breaking, TransientError, words, {"lock_timeout": 0.2})


def lacking(privilege: str) -> OnaFault:
    """The login may do everything but one thing."""
    grant = f"""
        DROP ROLE IF EXISTS loader_under_test;
        CREATE ROLE loader_under_test;
        GRANT USAGE ON SCHEMA public, primero_sync TO loader_under_test;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, primero_sync TO loader_under_test;
        REVOKE {privilege} FROM loader_under_test
    """
    take_away = "DROP OWNED BY loader_under_test; DROP ROLE loader_under_test"
    words = ("lacks a privilege", "ask ONA's administrators to grant it", "42501")
    return OnaFault(statements(grant, take_away, "role=loader_under_test"), RefusedError, words)


def other_column(column: str, type_: str, said: str) -> OnaFault:
    """A column has a type that the values do not fit; the column as it was waits beside it."""
    breaking = statements(
        f"ALTER TABLE cases RENAME {column} TO kept; ALTER TABLE cases ADD {column} {type_}",
        f"ALTER TABLE cases DROP {column}; ALTER TABLE cases RENAME kept TO {column}",
    )
    return OnaFault(breaking, DataError, (said, f"column {column}", "ask ONA's administrators"))


def keyless(table: str) -> OnaFault:
    """Somebody restored a table without its keys."""

    @contextmanager
    def breaking(url: str) -> Iterator[str]:
        with psycopg.connect(url, autocommit=True) as conn:
            query = "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype IN ('p', 'u')"
            for (name,) in conn.execute(query, (table,)).fetchall():
                conn.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name} CASCADE".encode())
        try:
            yield url
        finally:
            with connect(url) as conn:
                apply(conn, plan(conn))

    return OnaFault(breaking, DataError, ("unique index is missing", "primero-ona schema apply", "42P10"))


def raising(sqlstate: str, kind: type[SyncError], *words: str) -> OnaFault:
    """A trigger of ONA's own reports an SQLSTATE, as the server does itself where the cause cannot be made in a test."""
    make = f"""
        CREATE FUNCTION raising() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'case-1 is Male' USING ERRCODE = '{sqlstate}'; END $$;
        CREATE TRIGGER raising BEFORE INSERT OR UPDATE ON cases FOR EACH ROW EXECUTE FUNCTION raising()
    """
    return OnaFault(statements(make, "DROP FUNCTION raising() CASCADE"), kind, (*words, f"SQLSTATE {sqlstate}"))


def remade(table: str, definition: str, said: str, *words: str, kind: type[SyncError] = DataError) -> OnaFault:
    """The table stands under another name, and something else in its place."""
    make = f"ALTER TABLE {table} RENAME TO kept; {definition}"
    drop = f"""
        DO $$ DECLARE other text; BEGIN
            SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END INTO other
              FROM pg_class WHERE oid = '{table}'::regclass;
            EXECUTE format('DROP %s {table}', other);
        END $$;
        ALTER TABLE kept RENAME TO {table}
    """
    return OnaFault(statements(make, drop), kind, (said, *words))


def owned_by_rules(statements_: str, undo: str, kind: type[SyncError], *words: str) -> OnaFault:
    """A login that is no superuser, under what ONA's administrators have set up for it."""
    make = f"""
        DROP ROLE IF EXISTS loader_under_test;
        CREATE ROLE loader_under_test;
        GRANT USAGE ON SCHEMA public, primero_sync TO loader_under_test;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, primero_sync TO loader_under_test;
        {statements_}
    """
    take_away = f"{undo}; DROP OWNED BY loader_under_test; DROP ROLE loader_under_test"
    return OnaFault(statements(make, take_away, "role=loader_under_test"), kind, words)


_SLOW = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE UPDATE ON cases FOR EACH ROW EXECUTE FUNCTION slow()
"""
_NO_FIT = "does not fit the type"

#: A load meets them where it changes a case and a service, inserts a case and a service, and removes a service.
FAULTS: dict[str, OnaFault] = {
    "refused": OnaFault(
        refused, TransientError, ("not listening there", "check host and port in ONA_DATABASE_URL, or try later")
    ),
    "dropped in mid-COPY of cases": cut_while_staging("staged_cases"),
    "dropped in mid-COPY of services": cut_while_staging("staged_services"),
    "dropped at an update of a case": cut("AFTER UPDATE", "cases"),
    "dropped at a new case": cut("AFTER INSERT", "cases"),
    "dropped at a removed service": cut("BEFORE DELETE", "services"),
    "dropped at a new service": cut("AFTER INSERT", "services"),
    "dropped while it is recorded": cut("AFTER INSERT", "primero_sync.runs"),
    "dropped at commit": cut("AFTER INSERT OR UPDATE", "cases DEFERRABLE INITIALLY DEFERRED", "CONSTRAINT TRIGGER"),
    "cases locked": locked("LOCK TABLE cases IN ACCESS EXCLUSIVE MODE"),
    "services locked": locked("LOCK TABLE services IN ACCESS EXCLUSIVE MODE"),
    "rows locked": locked("SELECT FROM cases FOR UPDATE"),
    "too slow": OnaFault(
        statements(_SLOW, "DROP FUNCTION slow() CASCADE"),
        TransientError,
        ("took too long", "nothing was changed", "57014"),
        {"statement_timeout": 0.3},
    ),
    "read-only": OnaFault(
        statements("", "", "default_transaction_read_only=on"),
        RefusedError,
        ("read-only", "ONA_DATABASE_URL", "25006"),
    ),
    **{
        f"may not {privilege}": lacking(privilege)
        for privilege in ("UPDATE ON cases", "INSERT ON services", "DELETE ON services", "INSERT ON primero_sync.runs")
    },
    "sex too narrow": other_column("sex", "varchar(3)", "longer than its column in ONA allows; ask"),
    "concerns yes or no": other_column("protection_concerns", "boolean", _NO_FIT),
    "sex a number": other_column("sex", "integer", _NO_FIT),
    "date a number": other_column("registration_date", "integer", _NO_FIT),
    "age a date": other_column("age", "date", _NO_FIT),
    "cases without keys": keyless("cases"),
    "services without keys": keyless("services"),
    "cases a view": remade(
        "cases", "CREATE VIEW cases AS SELECT * FROM kept UNION ALL SELECT * FROM kept", "schema plan"
    ),
    "cases a materialized view": remade("cases", "CREATE MATERIALIZED VIEW cases AS SELECT * FROM kept", "schema plan"),
    "a generated column": OnaFault(
        statements(
            "ALTER TABLE cases RENAME age_group TO kept; ALTER TABLE cases ADD age_group text GENERATED ALWAYS AS ('x') VIRTUAL",
            "ALTER TABLE cases DROP age_group; ALTER TABLE cases RENAME kept TO age_group",
        ),
        DataError,
        ("filled by the server itself", "schema plan", "SQLSTATE 428C9"),
    ),
    "published without replica identity": OnaFault(
        statements(
            "ALTER TABLE cases REPLICA IDENTITY NOTHING; CREATE PUBLICATION reports FOR TABLE cases",
            "DROP PUBLICATION reports; ALTER TABLE cases REPLICA IDENTITY DEFAULT",
        ),
        DataError,
        ("takes no changes", "replica identity", "schema plan", "SQLSTATE 55000"),
    ),
    "row security refuses": owned_by_rules(
        "ALTER TABLE cases ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE cases DISABLE ROW LEVEL SECURITY",
        RefusedError,
        "row level security",
        "exempt it",
        "SQLSTATE 42501",
    ),
    "row security hides": owned_by_rules(
        "ALTER TABLE services ENABLE ROW LEVEL SECURITY; CREATE POLICY part ON services USING (unique_id <> 'service-1')",
        "DROP POLICY part ON services; ALTER TABLE services DISABLE ROW LEVEL SECURITY",
        RefusedError,
        "row level security",
        "exempt it",
    ),
    "a trigger that refuses": raising("P0001", DataError, "a function or a trigger of ONA's own"),
    "a trigger with a code of its own": raising("ONA01", DataError, "a function or a trigger of ONA's own"),
    "a trigger that misses a column": raising("42703", DataError, "a function or a trigger of ONA's own"),
    "a row must refer to another": OnaFault(
        statements(
            "CREATE TABLE reviews (case_id text PRIMARY KEY); "
            "ALTER TABLE cases ADD CONSTRAINT reviewed FOREIGN KEY (case_id) REFERENCES reviews NOT VALID",
            "DROP TABLE reviews CASCADE",
        ),
        DataError,
        ("refers to another", "constraint reviewed", "SQLSTATE 23503"),
    ),
    "a row that others refer to": OnaFault(
        statements(
            "CREATE TABLE notes (service text REFERENCES services (unique_id)); "
            "INSERT INTO notes SELECT unique_id FROM services",
            "DROP TABLE notes",
        ),
        DataError,
        ("refers to another", "SQLSTATE 23503"),
    ),
    "an added column that must not be empty": OnaFault(
        statements(
            "ALTER TABLE cases ADD office text NOT NULL DEFAULT ''; ALTER TABLE cases ALTER office DROP DEFAULT",
            "ALTER TABLE cases DROP office",
        ),
        DataError,
        ("must not be empty", "column office", "SQLSTATE 23502"),
    ),
    "a domain's rule": OnaFault(
        statements(
            "CREATE DOMAIN short AS text; ALTER TABLE cases RENAME sex TO kept; ALTER TABLE cases ADD sex short; "
            "ALTER DOMAIN short ADD CHECK (length(value) < 4) NOT VALID",
            "ALTER TABLE cases DROP sex; ALTER TABLE cases RENAME kept TO sex; DROP DOMAIN short",
        ),
        DataError,
        ("a rule of ONA's tables", "SQLSTATE 23514"),
    ),
    "no partition": remade(
        "cases",
        "CREATE TABLE cases (LIKE kept) PARTITION BY LIST (case_id); "
        "DO $$ BEGIN EXECUTE (SELECT format('CREATE TABLE p PARTITION OF cases FOR VALUES IN (%s)', "
        "string_agg(quote_literal(case_id), ',')) FROM kept); END $$; "
        "ALTER TABLE cases ADD PRIMARY KEY (case_id); INSERT INTO cases SELECT * FROM kept",
        "no partition",
        "SQLSTATE 23514",
    ),
    "an index that is too small": OnaFault(
        statements(
            "CREATE TABLE short AS SELECT DISTINCT sex FROM cases; "
            "CREATE FUNCTION wide(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT string_agg(md5(n::text || t), '') "
            "FROM generate_series(1, CASE WHEN t IN (SELECT sex FROM public.short) THEN 1 ELSE 900 END) AS n $$; "
            "CREATE INDEX small ON cases (wide(sex))",
            "DROP INDEX small; DROP FUNCTION wide(text); DROP TABLE short",
        ),
        DataError,
        ("larger than an index", "SQLSTATE 54000"),
    ),
    "idle in its transaction": raising("25P03", TransientError, "idle_in_transaction_session_timeout"),
    "idle": raising("57P05", TransientError, "idle_session_timeout"),
    "too long a transaction": raising("25P04", TransientError, "transaction_timeout"),
    "disk full": raising("53100", TransientError, "the disk of ONA's server is full", "tell ONA's administrators"),
    "out of memory": raising("53200", TransientError, "lacks memory", "tell ONA's administrators"),
    "too many connections": raising("53300", TransientError, "no free connection", "tell ONA's administrators"),
    "server stopping": raising("57P01", TransientError, "stopping or starting", "next try"),
    "deadlock": raising("40P01", TransientError, "another session was in the way", "next try"),
    "broken files": raising("58030", TransientError, "trouble with its own files", "tell ONA's administrators"),
    "a server behind the server": raising("HV000", TransientError, "a server on which ONA's tables stand"),
    "a rule of ONA's own": OnaFault(
        statements(
            "ALTER TABLE cases ADD CONSTRAINT nobody CHECK (age IS NULL) NOT VALID",
            "ALTER TABLE cases DROP CONSTRAINT nobody",
        ),
        DataError,
        ("a rule of ONA's tables is violated", "SQLSTATE 23514", "constraint nobody"),
    ),
}
