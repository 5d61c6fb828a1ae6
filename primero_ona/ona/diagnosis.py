"""Look at ONA's database as a load will meet it: its name, TLS, login and rights, its tables, and what stands in between."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from primero_ona.contract.tables import CASES, TABLES
from primero_ona.errors import Area, ConfigError, DataError, Diagnosis, RefusedError, SyncError, TransientError
from primero_ona.ona.connection import connect, parameters_of, scalar, translate_errors
from primero_ona.ona.migrations import plan
from primero_ona.ona.roles import foreign_grants, lacking_rights
from primero_ona.ona.target import Target
from primero_ona.tls import database_protection, is_local, own_address, resolve

AREA = Area("ONA")


def diagnose(url: str, *, insecure: bool) -> Iterator[Diagnosis]:
    """Look at one thing after the other; a connection that fails is the last. Changes nothing."""
    try:
        parameters = parameters_of(url)
        protection = database_protection(parameters, override=insecure)
    except ConfigError as failure:
        yield AREA.failure("address", failure)
        return
    hosts = str(parameters.get("host") or "").split(",")
    addresses = {host: resolve(host) for host in hosts if not is_local(host)}
    for host in (host for host, found in addresses.items() if not found):
        text = (
            f"the host {host} of ONA_DATABASE_URL is not known; check it, then this machine's name server and network"
        )
        yield AREA.failed("name", text, TransientError, "ona-unreachable")
    if not all(addresses.values()):
        return
    known = ", ".join(f"{host} has the address {found[0]}" for host, found in addresses.items())
    yield AREA.ok("name", known or "on this machine")
    try:
        connection = connect(url, statement_timeout=15, lock_timeout=15, insecure=insecure)
    except SyncError as failure:
        yield AREA.failure("connection", failure)
        yield from (_outgoing(host, found[0]) for host, found in addresses.items())
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
        if "primero_id" not in target.columns(conn, CASES):
            return []
        query = "SELECT primero_id::text FROM {} WHERE primero_id IS NOT NULL ORDER BY last_updated_date DESC NULLS LAST LIMIT 5"
        return [case for (case,) in conn.execute(sql.SQL(query).format(target.name(CASES))).fetchall()]


def _outgoing(host: str, address: str) -> Diagnosis:
    """The address that ONA's administrators may have to list, as this machine sees it."""
    own = own_address(address)
    if own is None:
        text = f"this machine knows no way to {host}; check its network and its routes"
        return AREA.failed("our address", text, TransientError, "ona-unreachable")
    text = (
        f"this machine goes out to {host} from {own}; where ONA admits listed addresses only, that is the one to list"
    )
    if ipaddress.ip_address(own.partition("%")[0]).is_private:
        text += ", or that of the router on the way (this one is private): ask the network's administrators for it"
    return AREA.warning("our address", text)


def _server(conn: psycopg.Connection) -> Diagnosis:
    if scalar(conn, "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'"):
        text = "it is read-only (a replica?); let ONA_DATABASE_URL name the main server"
        return AREA.failed("server", text, RefusedError, "ona-refuses")
    number = conn.info.server_version
    return AREA.ok("server", f"PostgreSQL {number // 10_000}.{number % 10_000}, takes changes")


def _in_between(conn: psycopg.Connection) -> Diagnosis:
    """A pooler gives its clients numbers of its own for the server's processes."""
    ((pid, seen),) = conn.execute("SELECT pg_backend_pid(), host(inet_client_addr())").fetchall()
    if pid != conn.info.backend_pid:
        return AREA.ok("in between", "a pooler (as PgBouncer), which is no fault: all works through one")
    return AREA.ok("in between", f"nothing; it sees this machine as {seen}" if seen else "nothing")


def _role(conn: psycopg.Connection) -> Diagnosis:
    ((name, above, member),) = conn.execute(_ROLE).fetchall()
    if above:
        text = f"{name} may do everything; load as a member of ona_loader instead (`primero-ona schema roles` prints the SQL)"
        return AREA.warning("role", text)
    return AREA.ok("role", f"{name}, {'a' if member else 'no'} member of ona_loader")


def _tables(conn: psycopg.Connection) -> Diagnosis:
    """Tables, columns and constraints, as `schema plan` compares them."""
    if not (changes := plan(conn)):
        return AREA.ok("tables", "all tables, columns and constraints are there")
    text = f"{len(changes)} additions are due: {_first([change.why for change in changes], '; ')}"
    return AREA.failed("tables", f"{text}; run `primero-ona schema plan`, then `schema apply`", DataError, "ona-schema")


def _types(conn: psycopg.Connection) -> Diagnosis:
    """A column takes a value of another type where PostgreSQL assigns it without being asked to."""
    target = Target.find(conn)
    odd = []
    for table in TABLES:
        present = target.columns(conn, table)
        for column in table.columns:
            known = {"ours": column.type, "theirs": present.get(column.name)}
            if known["theirs"] and not scalar(conn, _ASSIGNED, known):
                odd.append(f"{table.name}.{column.name} is {known['theirs']}, not {column.type}")
    if odd:
        text = f"{_first(odd, '; ')}; ask ONA's administrators about the type"
        return AREA.failed("types", text, DataError, "ona-schema")
    return AREA.ok("types", "every column takes what is loaded into it")


def _rights(conn: psycopg.Connection) -> Diagnosis:
    if not (lacking := lacking_rights(conn)):
        return AREA.ok("rights", "the login may do all that a sync does")
    advice = "ask ONA's administrators to grant it, or to run what `primero-ona schema roles` prints"
    return AREA.failed("rights", f"the login lacks {_first(lacking, ', ')}; {advice}", RefusedError, "ona-refuses")


def _others(conn: psycopg.Connection) -> Diagnosis:
    """Rights that others hold, where ONA's administrators have made the roles that are to replace them."""
    printed = "`primero-ona schema roles`"
    if scalar(conn, "SELECT to_regrole('ona_loader') IS NULL"):
        text = f"the database has none of our roles yet; {printed} prints the SQL for ONA's administrators"
        return AREA.ok("others", text)
    if held := foreign_grants(conn, Target.find(conn)):
        text = f"{len(held)} rights on ONA's tables or ours are held by others than the roles; {printed} lists them"
        return AREA.warning("others", text)
    return AREA.ok("others", "none but the owners and the roles holds a right on ONA's tables or ours")


def _first(texts: Sequence[str], between: str) -> str:
    """Join the first few; more of them have one cause, or `schema plan` lists them."""
    return between.join(texts[:5]) + (f", and {len(texts) - 5} more" if len(texts) > 5 else "")


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
