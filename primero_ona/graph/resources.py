"""Settings in, client or connection out: how the steps reach Primero, ONA and the stored partitions.

A resource takes its settings from the environment when a step asks for it, so that a missing variable is named in one
sentence; tests give them in Python. None of them is configuration of Dagster, on purpose: configuration can be replaced
by all who may start a run, and read by all who may open the UI.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from primero_ona.errors import ConfigError
from primero_ona.pipeline.stored import StoredAssets
from primero_ona.settings import (
    GraphSettings,
    OnaSettings,
    PrimeroSettings,
    StorageSettings,
    read_one,
    refuse_open_secret,
)
from primero_ona.tls import database_protection

if TYPE_CHECKING:
    import psycopg

    from primero_ona.primero.client import PrimeroClient
    from primero_ona.storage.partitions import PartitionStore


#: Where the secret of a bucket stands, if it stands in a file: AWS's own variable.
_CREDENTIALS_FILE = "AWS_SHARED_CREDENTIALS_FILE"


class PrimeroResource(dg.ResourceDefinition):
    """The Primero that the settings PRIMERO_… name, or the one given here."""

    def __init__(
        self, url: str | None = None, username: str | None = None, password: str | None = None, pause: float = 1.0
    ) -> None:
        self._given, self._pause = (url, username, password), pause
        super().__init__(lambda _context: self, config_schema={}, description="The Primero that the settings name.")

    def client(self, total: float | None = None) -> "PrimeroClient":
        """A client; use it as a context manager. `total`: seconds that all its questions may take together."""
        from primero_ona.graph.due import OnaLoginMemory
        from primero_ona.primero.client import PrimeroClient

        url, username, password = self._given
        if url and username and password:
            return PrimeroClient(url, username, password, pause=self._pause, total=total)
        settings = read_one(PrimeroSettings)
        return PrimeroClient(
            settings.url,
            settings.username,
            settings.password.get_secret_value(),
            settings.ca_bundle,
            pause=self._pause,
            insecure=settings.insecure,
            total=total,
            logins=OnaLoginMemory(OnaDatabaseResource(), settings),
        )


class OnaDatabaseResource(dg.ResourceDefinition):
    """The database that ONA_DATABASE_URL names, or the one given here."""

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        super().__init__(lambda _context: self, config_schema={}, description="The database that the settings name.")

    @contextmanager
    def connection(self, statement_timeout: float | None = None) -> "Iterator[psycopg.Connection]":
        """A connection that is closed at the end, whatever happened; the timeout is in seconds, by default that of a load."""
        from primero_ona.ona.connection import connect

        url, insecure = self._target()
        limits: dict[str, Any] = {} if statement_timeout is None else {"statement_timeout": statement_timeout}
        with connect(url, insecure=insecure, **limits) as connection:
            yield connection

    def protection(self) -> str:
        """How the connection is protected, in words for the metadata of a load."""
        from primero_ona.ona.connection import parameters_of

        url, insecure = self._target()
        return database_protection(parameters_of(url), override=insecure)

    def _target(self) -> tuple[str, bool]:
        if self._url:
            return self._url, False
        settings = read_one(OnaSettings)
        return settings.database_url.get_secret_value(), settings.insecure


class PartitionStorage(dg.ResourceDefinition):
    """The encrypted partitions that the settings PRIMERO_ONA_STORAGE_… name, or those given here.

    `rules`: the suffix of the policy under which they are pulled; default: that of the settings. A step gets StoredAssets,
    which find the store when the step first needs it.
    """

    def __init__(self, url: str | None = None, fernet_keys: str | None = None, rules: str | None = None) -> None:
        self._given, self._rules = (url, fernet_keys), rules
        super().__init__(
            lambda context: self.assets(context.instance),
            config_schema={},
            description="The encrypted partitions that the settings name.",
        )

    def assets(self, instance: dg.DagsterInstance | None = None) -> StoredAssets:
        """The stored assets, for steps and for commands that work on partitions without a run."""
        if not self._given[0]:
            refuse_local_storage(instance)
        rules = read_one(GraphSettings).policy.suffix if self._rules is None else self._rules
        return StoredAssets(lambda: self._store(instance), rules)

    def _store(self, instance: dg.DagsterInstance | None) -> "PartitionStore":
        from primero_ona.storage.partitions import PartitionStore

        url, keys = self._given
        if url and keys:
            return PartitionStore(url, keys)
        settings = read_one(StorageSettings)
        if settings.bucket and (file := os.environ.get(_CREDENTIALS_FILE)):
            refuse_open_secret(Path(file), f"the file that {_CREDENTIALS_FILE} names")
        address = settings.bucket or settings.folder or default_storage(instance)
        return PartitionStore(address, settings.storage_keys.get_secret_value())


class NoValues(dg.IOManagerDefinition):
    """Refuses to hand a value from one step to another: rows pass through the stored partitions alone.

    Without it Dagster would bring its own IO manager, whose folder a run's configuration may name.
    """

    def __init__(self) -> None:
        super().__init__(lambda _context: _Refusing(), config_schema={}, description="Steps hand on no values.")


class _Refusing(dg.IOManager):
    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ANN401
        """See IOManager."""
        if obj is not None:
            raise TypeError(f"{context.step_key} returns a value")

    def load_input(self, context: dg.InputContext) -> Any:  # noqa: ANN401
        """See IOManager."""
        raise TypeError(f"{context.name} is read as a value")


def refuse_local_storage(instance: dg.DagsterInstance | None = None) -> None:
    """Raise ConfigError where runs start on other machines, and the settings name a folder of this one for partitions."""
    if runs_elsewhere(instance) and not read_one(StorageSettings).bucket:
        raise ConfigError(
            "runs start in containers of their own, which share no folder, so what one of them stores the next would not find; let "
            "PRIMERO_ONA_STORAGE_URL name a bucket (s3://bucket/prefix)"
        )


def runs_elsewhere(instance: dg.DagsterInstance | None = None) -> bool:
    """Whether runs start on other machines, whose folders go with them.

    Dagster names the image of a code server whose runs are containers of their own, and the launcher that starts them.
    """
    launcher = instance.get_ref().run_launcher_data if instance and instance.is_persistent else None
    elsewhere = launcher is not None and launcher.module_name.partition(".")[0] != "dagster"
    return elsewhere or bool(os.environ.get("DAGSTER_CURRENT_IMAGE"))


def default_storage(instance: dg.DagsterInstance | None) -> Path:
    """`partitions/` beside Dagster's own storage."""
    return _home(instance) / "partitions"


def default_reports(instance: dg.DagsterInstance | None) -> Path:
    """`reports/` beside Dagster's own storage; raises ConfigError where runs start on other machines."""
    if runs_elsewhere(instance):
        raise ConfigError(
            "runs start in containers of their own, and the files of a report would go with them; let PRIMERO_ONA_REPORTS name the "
            "folder of a volume that is mounted into them"
        )
    return _home(instance) / "reports"


def _home(instance: dg.DagsterInstance | None) -> Path:
    home = os.environ.get("DAGSTER_HOME") or (
        instance.root_directory if instance and not instance.is_ephemeral else None
    )
    return Path(home or ".dagster_home")
