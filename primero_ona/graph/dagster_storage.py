"""Dagster's own PostgreSQL, by the rules that hold for ONA's: `deploy/dagster.yaml` names the class here.

Runs, tags and metadata pass over this connection, and every process of Dagster opens it: the webservers, which load nothing
else of this project, too.
"""

from __future__ import annotations

from dagster._core.storage.config import PostgresStorageConfig
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config

from primero_ona.tls import dagster_protection


class VerifiedPostgresStorage(DagsterPostgresStorage):
    """Dagster's storage in PostgreSQL, on this machine or over a verified connection."""

    @classmethod
    def from_config_value(  # type: ignore[override]  # Dagster's own classes narrow it alike
        cls, inst_data: ConfigurableClassData | None, config_value: PostgresStorageConfig
    ) -> DagsterPostgresStorage:
        """Raises ConfigError before anything is opened where the connection would be weaker."""
        dagster_protection(pg_url_from_config(config_value))
        return super().from_config_value(inst_data, config_value)
