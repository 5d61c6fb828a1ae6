"""Look at ONA's database as a load will meet it: its name, TLS, login and rights, its tables, and what stands in between."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import psycopg

from primero_ona.contract.tables import TABLES
from primero_ona.errors import Area, ConfigError, DataError, Diagnosis, RefusedError, SyncError, TransientError
from primero_ona.ona.connection import connect, parameters_of, translate_errors
from primero_ona.ona.migrations import plan
from primero_ona.ona.roles import foreign_grants, lacking_rights
from primero_ona.ona.target import Target
from primero_ona.tls import database_protection, is_local, own_address, resolve

AREA = Area("ONA")

#: Seconds for one question, and for a lock.
_PATIENCE = 15

#: Things named in one line; more of them have one cause, or `schema plan` lists them.
_NAMED = 5

#: Cases of ONA that Primero is asked about one by one.
SAMPLE = 5


def diagnose(url: str, *, insecure: bool) -> Iterator[Diagnosis]:
    """Look at one thing after the other; a connection that fails is the last. Changes nothing."""
    try:
        parameters = parameters_of(url)
        protection = database_protection(parameters, override=insecure)
    except ConfigError as failure:
        yield AREA.failure("address", failure)
        return
    hosts = [host for host in str(parameters.get("host") or "").split(",") if not is_local(host)]
    unknown = [host for host in hosts if not resolve(host)]
    for host in unknown:
        text = (
            f"the host {host} of ONA_DATABASE_URL is not known; check it, then this machine's name server and network"
        )
        yield AREA.failed("name", text, TransientError, "ona-unreachable")
    if unknown:
        return
    yield AREA.ok(
        "name", ", ".join(f"{host} has the address {resolve(host)[0]}" for host in hosts) or "on this machine"
    )
    try:
        connection = connect(url, statement_timeout=_PATIENCE, lock_timeout=_PATIENCE, insecure=insecure)
    except SyncError as failure:
        yield AREA.failure("connection", failure)
        yield from map(_outgoing, hosts)
        return
    with connection:
        yield AREA.ok("connection", f"{protection}{', TLS' if connection.pgconn.ssl_in_use else ''}")
        for look in (_server, _in_between, _role, _tables, _types, _rights, _others):
            try:
                with translate_errors("looking at ONA's database"):
                    yield look(connection)
            except SyncError as failure:
                yield AREA.failure(look.__name__.strip("_").replace("_", " "), failure)


def newest_cases(conn: psycopg.Connection) -> list[str]:
    """The Primero ids of the cases that ONA was given last, a few."""
    with translate_errors("reading ONA's newest cases"):
        target = Target.find(conn)
        if "primero_id" not in target.columns(conn, TABLES[0]):
            return []
        query = _NEWEST.format(name=target.name(TABLES[0]).as_string(conn))
        return [str(case) for (case,) in conn.execute(query.encode(), {"limit": SAMPLE}).fetchall()]


def _outgoing(host: str) -> Diagnosis:
    """The address that ONA's administrators may have to list, as this machine sees it."""
    own = own_address(resolve(host)[0])
    if own is None:
        return AREA.failed(
            "our address",
            f"this machine knows no way to {host}; check its network and its routes",
            TransientError,
            "ona-unreachable",
        )
    text = (
        f"this machine goes out to {host} from {own}; where ONA admits listed addresses only, that is the one to list"
    )
    if ipaddress.ip_address(own.partition("%")[0]).is_private:
        text += ", or that of the router on the way (this one is private): ask the network's administrators for it"
    return AREA.warning("our address", text)


def _server(conn: psycopg.Connection) -> Diagnosis:
    row = conn.execute("SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'").fetchone()
    if row and any(row):
        text = "it is read-only (a replica?); let ONA_DATABASE_URL name the main server"
        return AREA.failed("server", text, RefusedError, "ona-refuses")
    number = conn.info.server_version
    return AREA.ok("server", f"PostgreSQL {number // 10_000}.{number % 10_000}, takes changes")


def _in_between(conn: psycopg.Connection) -> Diagnosis:
    """A pooler gives its clients numbers of its own for the server's processes."""
    row = conn.execute("SELECT pg_backend_pid(), host(inet_client_addr())").fetchone()
    pid, seen = row or (0, None)
    if pid != conn.info.backend_pid:
        return AREA.ok("in between", "a pooler (as PgBouncer), which is no fault: all works through one")
    return AREA.ok("in between", f"nothing; it sees this machine as {seen}" if seen else "nothing")


def _role(conn: psycopg.Connection) -> Diagnosis:
    row = conn.execute(_ROLE).fetchone()
    name, above, member = row or ("", False, False)
    if above:
        text = f"{name} may do everything; load as a member of ona_loader instead (`primero-ona schema roles` prints the SQL)"
        return AREA.warning("role", text)
    return AREA.ok("role", f"{name}, a member of ona_loader" if member else f"{name}, no member of ona_loader")


def _tables(conn: psycopg.Connection) -> Diagnosis:
    """Tables, columns and constraints, as `schema plan` compares them."""
    if not (changes := plan(conn)):
        return AREA.ok("tables", "all tables, columns and constraints are there")
    more = f", and {len(changes) - _NAMED} more" if len(changes) > _NAMED else ""
    text = f"{len(changes)} additions are due: {'; '.join(change.why for change in changes[:_NAMED])}{more}"
    return AREA.failed("tables", f"{text}; run `primero-ona schema plan`, then `schema apply`", DataError, "ona-schema")


def _types(conn: psycopg.Connection) -> Diagnosis:
    """A column takes a value of another type where PostgreSQL assigns it without being asked to."""
    target = Target.find(conn)
    odd = []
    for table in TABLES:
        present = target.columns(conn, table)
        for column in table.columns:
            known = {"ours": column.type, "theirs": present.get(column.name)}
            if known["theirs"] and conn.execute(_ASSIGNED, known).fetchone() != (True,):
                odd.append(f"{table.name}.{column.name} is {known['theirs']}, not {column.type}")
    if odd:
        more = f", and {len(odd) - _NAMED} more" if len(odd) > _NAMED else ""
        text = f"{'; '.join(odd[:_NAMED])}{more}; ask ONA's administrators about the type"
        return AREA.failed("types", text, DataError, "ona-schema")
    return AREA.ok("types", "every column takes what is loaded into it")


def _rights(conn: psycopg.Connection) -> Diagnosis:
    if not (lacking := lacking_rights(conn)):
        return AREA.ok("rights", "the login may do all that a sync does")
    more = f", and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
    text = f"the login lacks {', '.join(lacking[:_NAMED])}{more}"
    advice = "ask ONA's administrators to grant it, or to run what `primero-ona schema roles` prints"
    return AREA.failed("rights", f"{text}; {advice}", RefusedError, "ona-refuses")


def _others(conn: psycopg.Connection) -> Diagnosis:
    """Rights that others hold, where ONA's administrators have made the roles that are to replace them."""
    made = conn.execute("SELECT FROM pg_catalog.pg_roles WHERE rolname = 'ona_loader'").fetchone()
    if made is None:
        text = (
            "the database has none of our roles yet; `primero-ona schema roles` prints the SQL for ONA's administrators"
        )
        return AREA.ok("others", text)
    if held := foreign_grants(conn, Target.find(conn)):
        text = f"{len(held)} rights on ONA's tables or ours are held by others than the roles; `primero-ona schema roles` lists them"
        return AREA.warning("others", text)
    return AREA.ok("others", "none but the owners and the roles holds a right on ONA's tables or ours")


_ROLE = """
SELECT r.rolname, r.rolsuper,
       EXISTS (SELECT FROM pg_catalog.pg_roles AS l WHERE l.rolname = 'ona_loader' AND pg_has_role(r.oid, l.oid, 'MEMBER'))
  FROM pg_catalog.pg_roles AS r
 WHERE r.rolname = current_user
"""

# Of a domain the type below it decides; what its rule refuses is seen when a row comes.
_ASSIGNED = """
WITH theirs AS (
    SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END AS oid
      FROM pg_catalog.pg_type AS t WHERE t.oid = to_regtype(%(theirs)s)
)
SELECT b.oid = o.oid OR b.typcategory = 'S'
       OR EXISTS (SELECT FROM pg_catalog.pg_cast AS c
                   WHERE c.castsource = o.oid AND c.casttarget = b.oid AND c.castcontext IN ('a', 'i'))
  FROM theirs JOIN pg_catalog.pg_type AS b ON b.oid = theirs.oid, pg_catalog.pg_type AS o
 WHERE o.oid = to_regtype(%(ours)s)
"""

_NEWEST = "SELECT primero_id FROM {name} WHERE primero_id IS NOT NULL ORDER BY last_updated_date DESC NULLS LAST LIMIT %(limit)s"
