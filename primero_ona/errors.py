"""The exceptions of a sync, psycopg's errors as one of them, and what a look at an installation found.

Their text says what was tried, what is so and what to do; it never holds a value of a case, a URL with its query, a response
body or SQL parameters. Raise them `from None`: the text of the original may quote rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    import psycopg


#: Cases named in one message, by Primero's id; more of them have one cause, which the first ones show.
NAMED_CASES = 5

#: The kind of whatever ends a step or a command without being an error of ours.
UNEXPECTED = "unexpected"

#: The page that says by fault what it means and what to do, and its sections that messages name.
PAGE = "docs/operations.md"
Anchor = Literal[
    "operations", "refused-login", "primero-unreachable", "primero-gave-up", "lost-scope", "missing-field",
    "lost-field", "not-primero", "unreliable-answers", "moving-list", "stamped-ahead", "places", "reference-missing",
    "ona-unreachable", "ona-refuses", "ona-schema", "ona-value", "ona-rule", "ona-busy", "ona-server", "pooler",
    "settings", "open-secret", "unverified", "storage-keys", "stored-partition", "two-pulls", "storage-bucket", "machine",
    "dagster", "stuck-run", "refused-run", "usage", "alert-address", "internal-error", "checks", "what-verify-says",
    "overdue", "figures",
]  # fmt: skip


def with_anchor(text: str, anchor: Anchor) -> str:
    """A message as people see it: with the section that says more, once."""
    return text if PAGE in text else f"{text} (see {PAGE}#{anchor})"


class SyncError(Exception):
    """Any failure of a sync; its text is safe to show to anybody who may open the UI.

    `see`: the section of the documents where the class has one that says too little.
    """

    retry: ClassVar[bool] = False
    anchor: Anchor = "operations"

    def __init__(self, *args: object, see: Anchor | None = None) -> None:
        super().__init__(*args)
        self.anchor = see or self.anchor

    @property
    def shown(self) -> str:
        """The text as people see it; `str` has the text alone, for other texts to hold."""
        return with_anchor(str(self), self.anchor)

    @property
    def kind(self) -> str:
        """The name of the class of this module that the error is, or is derived from; exit codes go by it."""
        return next(found.__name__ for found in type(self).__mro__ if found.__module__ == __name__)


class PermanentError(SyncError):
    """Trying again cannot help; what the message says has to be done."""


class DataError(PermanentError):
    """Data that came, or that stands in ONA, is not as it must be."""


class CheckError(DataError):
    """An asset check of severity ERROR failed: the same rows would fail it again."""

    anchor = "checks"


class ConfigError(PermanentError):
    """A setting, a permission or the installation has to change."""

    anchor = "settings"


class UsageError(PermanentError):
    """A command or a run was started wrongly: not a quarter, an unknown name, options that exclude each other."""

    anchor = "usage"


class RefusedError(PermanentError):
    """Primero or ONA was reached and refuses: login, permission, a field, a privilege, an address not admitted."""


class TransientError(SyncError):
    """Primero or ONA could not be reached or broke off; the same run may succeed later."""

    retry = True


# PostgreSQL. Only SQLSTATE and names of tables and columns are taken from an error: its text and detail can quote rows.

#: The kind of a failure by the section that is named with it.
_KINDS: dict[Anchor, type[SyncError]] = {
    "ona-refuses": RefusedError, "unverified": RefusedError, "pooler": ConfigError, "settings": ConfigError,
    "ona-schema": DataError, "ona-value": DataError, "ona-rule": DataError, "internal-error": DataError,
    "ona-busy": TransientError, "ona-unreachable": TransientError, "ona-server": TransientError,
}  # fmt: skip

_ASK_ADMIT = (
    "ONA's administrators admit listed addresses only: ask them to admit this machine's address, "
    "and to let the login use this database"
)
_LOGIN = "ONA's database refuses the login; check user and password in ONA_DATABASE_URL"
_PRIVILEGE = "the login lacks a privilege in ONA's database; ask ONA's administrators to grant it"
_DATABASE = "ONA's server has no such database; check the database name in ONA_DATABASE_URL"
_OWN = "a function or a trigger of ONA's own fails; ask ONA's administrators about it"
_APPLY = "run `primero-ona schema apply`"
_PLAN = "`primero-ona schema plan` says what is in the way"
_LATER = "nothing was changed; the next try may succeed"
_IF_IT_LASTS = "nothing was changed; tell ONA's administrators if it lasts"

#: What an SQLSTATE means, and the routine of PostgreSQL that reports it; ` inside` follows where it was in a function of ONA's own,
#: whose tables and columns the entries below that one do not mean. The first that fits decides. Of PostgreSQL's classes
#: those are left out that only a fault of primero-ona can cause.
_BY_SQLSTATE: tuple[tuple[str, Anchor, str], ...] = (
    (
        "^42501 (check_enable_rls|ExecWithCheckOptions)", "ona-refuses",
        "row level security hides rows of ONA from this login, or refuses them; ask ONA's administrators to exempt it",
    ),
    ("^23514 ExecFindPartition", "ona-rule", "no partition of ONA's table takes a row; ask ONA's administrators to add one for it"),
    ("^55P03", "ona-busy", f"another session kept a lock for too long; {_LATER}"),
    ("^55006", "ona-busy", f"another session is using what has to change; {_LATER}"),
    ("^57014", "ona-busy", f"the statement took too long or was cancelled; {_LATER}"),
    ("^57P04", "ona-refuses", "ONA's database was dropped; ask ONA's administrators where it is"),
    ("^57P05", "ona-server", f"ONA's server ended a session for being idle (idle_session_timeout); {_IF_IT_LASTS}"),
    ("^25P03", "ona-server", f"ONA's server ended a transaction for being idle (idle_in_transaction_session_timeout); {_IF_IT_LASTS}"),
    ("^25P04", "ona-server", f"ONA's server ended a transaction for its length (transaction_timeout); {_IF_IT_LASTS}"),
    ("^40", "ona-busy", f"another session was in the way; {_LATER}"),
    ("^08", "ona-unreachable", f"the connection to ONA's database broke; {_LATER}"),
    ("^57P", "ona-unreachable", f"ONA's database is stopping or starting; {_LATER}"),
    ("^53100", "ona-server", f"the disk of ONA's server is full; {_IF_IT_LASTS}"),
    ("^53200", "ona-server", f"ONA's server lacks memory; {_IF_IT_LASTS}"),
    ("^53300", "ona-server", f"ONA's server has no free connection; {_IF_IT_LASTS}"),
    ("^53", "ona-server", f"ONA's server lacks disk, memory or connections; {_IF_IT_LASTS}"),
    ("^58", "ona-server", f"ONA's server has trouble with its own files; {_IF_IT_LASTS}"),
    ("^F0", "ona-server", f"ONA's server has trouble with its own configuration; {_IF_IT_LASTS}"),
    ("^HV", "ona-server", f"a server on which ONA's tables stand failed; {_IF_IT_LASTS}"),
    ("^72", "ona-server", f"ONA's server gave up what a long query needs; {_LATER}"),
    (" inside$|^38|^39", "ona-rule", _OWN),
    ("^28", "ona-refuses", _LOGIN),
    ("^42501", "ona-refuses", _PRIVILEGE),
    ("^25006", "ona-refuses", "ONA's database is read-only here (a replica?); let ONA_DATABASE_URL name the main server"),
    ("^3D000", "ona-refuses", _DATABASE),
    ("^42P01", "ona-schema", f"a table is missing in ONA; {_APPLY}"),
    ("^42703", "ona-schema", f"a column is missing in ONA; {_APPLY}"),
    ("^3F000", "ona-schema", f"a schema is missing in ONA; {_APPLY}"),
    ("^42P10", "ona-schema", f"a unique index is missing in ONA; {_APPLY}"),
    ("^42P07", "ona-schema", f"something else in ONA has the name of a table or an index of ours; {_PLAN}"),
    ("^42710", "ona-schema", f"something else in ONA has a name of ours; {_PLAN}"),
    ("^42809", "ona-schema", f"what should be a table in ONA is none (a view?); {_PLAN}"),
    ("^428C9", "ona-schema", f"a column of ONA is filled by the server itself, so it cannot be written; {_PLAN}"),
    (
        "^55000", "ona-schema",
        f"a table of ONA takes no changes (a view, published without a replica identity, or a deferrable key); {_PLAN}",
    ),
    ("^0A", "ona-schema", f"ONA's tables are made in a way in which they cannot be loaded into; {_PLAN}"),
    ("^22001", "ona-value", "a value is longer than its column in ONA allows; ask ONA's administrators to widen it"),
    ("^22021|^22P05", "ona-value", "ONA's database cannot hold a character; its encoding must be UTF8"),
    (
        "^22|^42804|^42846|^42883", "ona-value",
        "a value does not fit the type of its column in ONA; ask ONA's administrators about the type",
    ),
    ("^54", "ona-value", "a value is larger than an index or a table of ONA can hold; ask ONA's administrators about it"),
    ("^23505", "ona-rule", "a key would occur twice in ONA; run `primero-ona verify`"),
    ("^23502", "ona-rule", "a column in ONA must not be empty, but would be; ask ONA's administrators to allow it"),
    ("^23503", "ona-rule", "a row of ONA refers to another that is not there, or is to go; ask ONA's administrators about the constraint"),
    ("^23|^44", "ona-rule", "a rule of ONA's tables is violated; ask ONA's administrators about the constraint"),
    ("^P0", "ona-rule", "a function or a trigger of ONA's own refuses; ask ONA's administrators about it"),
    ("^XX", "internal-error", "ONA's server failed inside; tell ONA's administrators the SQLSTATE, its log says more"),
    ("", "internal-error", "ONA's database rejects what primero-ona asks; report this with the version of primero-ona"),
)  # fmt: skip

#: While connecting there is no SQLSTATE, only libpq's text; what a refusal says comes before what silence says, since
#: one error can tell of several addresses.
_BY_CONNECT_TEXT: tuple[tuple[str, Anchor, str], ...] = (
    ("pg_hba", "ona-refuses", f"ONA's database does not admit us; {_ASK_ADMIT}"),
    ("authentication failed|no password supplied|role .* does not exist|not permitted to log in", "ona-refuses", _LOGIN),
    ("permission denied", "ona-refuses", _PRIVILEGE),
    ("database .* does not exist|no such database", "ona-refuses", _DATABASE),
    (
        "unsupported startup parameter", "pooler",
        "the pooler before ONA's database takes no `options`; leave them out of ONA_DATABASE_URL, and set them for the login",
    ),
    (
        "certificate|does not support SSL|SSL error", "unverified",
        "no secure connection to ONA's database; check sslmode and sslrootcert in ONA_DATABASE_URL",
    ),
    ("invalid port|invalid .* value|unexpected spaces", "settings", "ONA_DATABASE_URL is malformed; check its port and options"),
    (
        "resolve host|translate host name", "ona-unreachable",
        "the host name in ONA_DATABASE_URL is not known; check it, and this machine's network",
    ),
    (
        "refused|No such file", "ona-unreachable",
        "ONA's server is not listening there; check host and port in ONA_DATABASE_URL, or try later",
    ),
    ("time-?out|timed out", "ona-unreachable", f"ONA's server does not answer; try later. If it never does: {_ASK_ADMIT}"),
    ("", "ona-unreachable", "ONA's database could not be reached, or the connection broke; try later"),
)  # fmt: skip

#: Where an error says that it comes from a function: names only. primero-ona has none, so it is one of ONA's own.
_IN_FUNCTION = re.compile(r"^(?:PL/\w+|SQL) function", re.MULTILINE)

#: Where a server that admits listed addresses only says which one it sees, in whatever language.
_NOT_ADMITTED = re.compile(r"pg_hba\.conf\b.*?([0-9a-fA-F]*[.:][0-9a-fA-F.:]*[0-9a-fA-F])")

#: Where COPY says which column it was reading: names only, the value stands behind them.
_COPY_COLUMN = re.compile(r"COPY (\w+), line \d+, column (\w+)")


def database_error(error: psycopg.Error, action: str) -> SyncError:
    """The failure that an error of psycopg stands for; `action` says what was tried, as in `loading 2024-Q1 into ONA`.

    The message names the SQLSTATE and, where the server names them, table and column; never a value.
    """
    from psycopg import InterfaceError, OperationalError  # noqa: PLC0415 - importing failures stays cheap

    if error.sqlstate is None and isinstance(error, (OperationalError, InterfaceError)):
        meanings, said = _BY_CONNECT_TEXT, str(error)
    else:
        inside = " inside" if _IN_FUNCTION.search(error.diag.context or "") else ""
        meanings, said = _BY_SQLSTATE, f"{error.sqlstate} {error.diag.source_function}{inside}"
    section, text = next((where, what) for pattern, where, what in meanings if re.search(pattern, said, re.IGNORECASE))
    facts = ", ".join(_facts(error))
    return _KINDS[section](f"{action} failed: {text}" + (f" ({facts})" if facts else ""), see=section)


def _facts(error: psycopg.Error) -> Iterator[str]:
    """What may be shown: the SQLSTATE, else the address by which a server that refuses this machine knows it; and names.

    Of COPY the names of table and column stand in the context alone.
    """
    if error.sqlstate:
        yield f"SQLSTATE {error.sqlstate}"
    elif found := _NOT_ADMITTED.search(str(error)):
        with suppress(ValueError):
            yield f"it sees this machine as {ip_address(found[1])}"
    table, column = error.diag.table_name, error.diag.column_name
    if copied := _COPY_COLUMN.match(error.diag.context or ""):
        table, column = copied.groups()
    names = {"table": table, "column": column, "constraint": error.diag.constraint_name}
    yield from (f"{kind} {name}" for kind, name in names.items() if name)


State = Literal["ok", "warning", "failed", "not looked at"]


@dataclass(frozen=True)
class Diagnosis:
    """One thing of an installation: whether it is well, what was found, and what to do where it is not.

    `kind` is that of the failure where `state` is `failed`.
    """

    area: str
    what: str
    state: State
    text: str
    kind: str | None = None


@dataclass(frozen=True)
class Area:
    """Makes the lines of one area."""

    name: str

    def ok(self, what: str, text: str) -> Diagnosis:
        """Make a line about what is well."""
        return Diagnosis(self.name, what, "ok", text)

    def warning(self, what: str, text: str) -> Diagnosis:
        """Make a line about what works and should be looked into."""
        return Diagnosis(self.name, what, "warning", text)

    def failed(self, what: str, text: str, kind: type[SyncError], see: Anchor | None = None) -> Diagnosis:
        """Make a line about what has to change; the text says how. `see`: as of SyncError."""
        return self.failure(what, kind(text, see=see))

    def failure(self, what: str, failure: SyncError) -> Diagnosis:
        """Make the line of a failure, whose message says what to do."""
        return Diagnosis(self.name, what, "failed", failure.shown, failure.kind)

    def skipped(self, what: str, why: str) -> Diagnosis:
        """Make a line about what cannot be looked at as long as something else is not well."""
        return Diagnosis(self.name, what, "not looked at", why)
