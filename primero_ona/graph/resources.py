"""Settings in, client or connection out: how the steps reach Primero, ONA and the stored partitions.

A resource takes its settings from the environment when a step asks for it, so that a missing variable is named in one
sentence. None of them is configuration of Dagster, on purpose: configuration can be replaced by all who may start a run,
and read by all who may open the UI.
"""

import os
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


class PrimeroResource(dg.ResourceDefinition):
    """The Primero that the settings PRIMERO_… name."""

    def __init__(self) -> None:
        super().__init__(lambda _context: self, config_schema={}, description="The Primero that the settings name.")

    def client(self, total: float | None = None) -> "PrimeroClient":
        """A client; use it as a context manager. `total`: seconds that all its questions may take together."""
        from primero_ona.graph.due import OnaLoginMemory
        from primero_ona.primero.client import PrimeroClient

        settings = read_one(PrimeroSettings)
        return PrimeroClient(
            settings.url,
            settings.username,
            settings.password.get_secret_value(),
            settings.ca_bundle,
            insecure=settings.insecure,
            total=total,
            logins=OnaLoginMemory(OnaDatabaseResource(), settings),
        )


class OnaDatabaseResource(dg.ResourceDefinition):
    """The database that ONA_DATABASE_URL names."""

    def __init__(self) -> None:
        super().__init__(lambda _context: self, config_schema={}, description="The database that the settings name.")

    def connection(self, **limits: Any) -> "psycopg.Connection":  # noqa: ANN401
        """A connection; use it as a context manager, at whose end it is closed. `limits`: timeouts as `connect` takes them."""
        from primero_ona.ona.connection import connect

        url, insecure = self._target()
        return connect(url, insecure=insecure, **limits)

    def protection(self) -> str:
        """How the connection is protected, in words for the metadata of a load."""
        from primero_ona.ona.connection import parameters_of

        url, insecure = self._target()
        return database_protection(parameters_of(url), override=insecure)

    def _target(self) -> tuple[str, bool]:
        settings = read_one(OnaSettings)
        return settings.database_url.get_secret_value(), settings.insecure


class PartitionStorage(dg.ResourceDefinition):
    """The encrypted partitions that the settings PRIMERO_ONA_STORAGE_… name; a step gets StoredAssets.

    `rules`: the suffix of the policy under which they are pulled; default: that of the settings.
    """

    def __init__(self, rules: str | None = None) -> None:
        self._rules = rules
        text = "The encrypted partitions that the settings name."
        super().__init__(lambda context: self.assets(context.instance), config_schema={}, description=text)

    def assets(self, instance: dg.DagsterInstance | None = None) -> StoredAssets:
        """The stored assets, for steps and for commands that work on partitions without a run."""
        refuse_local_storage(instance)
        rules = read_one(GraphSettings).policy.suffix if self._rules is None else self._rules
        return StoredAssets(lambda: _store(instance), rules)


def _store(instance: dg.DagsterInstance | None) -> "PartitionStore":
    from primero_ona.storage.partitions import PartitionStore

    settings = read_one(StorageSettings)
    variable = "AWS_SHARED_CREDENTIALS_FILE"  # AWS's own variable, for the secret of a bucket
    if settings.bucket and (file := os.environ.get(variable)):
        refuse_open_secret(Path(file), f"the file that {variable} names")
    address = settings.bucket or settings.folder or default_storage(instance)
    return PartitionStore(address, settings.storage_keys.get_secret_value())


#: How a step asks for each.
Primero = dg.ResourceParam[PrimeroResource]
Ona = dg.ResourceParam[OnaDatabaseResource]
Partitions = dg.ResourceParam[StoredAssets]


class _NoValues(dg.IOManager):
    """Refuses to hand a value from one step to another: rows pass through the stored partitions alone."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ANN401
        """See IOManager."""
        if obj is not None:
            raise TypeError(f"{context.step_key} returns a value")

    def load_input(self, context: dg.InputContext) -> Any:  # noqa: ANN401
        """See IOManager."""
        raise TypeError(f"{context.name} is read as a value")


#: Without it Dagster would bring its own IO manager, whose folder a run's configuration may name.
no_values = dg.IOManagerDefinition(
    lambda _context: _NoValues(), config_schema={}, description="Steps hand on no values."
)


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
    home = os.environ.get("DAGSTER_HOME")
    if not home and instance and not instance.is_ephemeral:
        home = instance.root_directory
    return Path(home or ".dagster_home")
