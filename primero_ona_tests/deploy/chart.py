"""What Dagster's official chart (1.13) makes of our values, as far as the tests need it: Helm and the chart are in no package registry.

Follows the chart's templates `configmap-instance.yaml`, `_run-launcher.tpl`, `_run-coordinator.tpl`, `_concurrency.tpl`, `_postgresql.tpl`,
`configmap-workspace.yaml` and `_helpers.tpl` of dagster-user-deployments for the release `dagster`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DAGSTER_HOME, NAMESPACE = "/opt/dagster/dagster_home", "primero-ona"
PASSWORD_SECRET = "dagster-postgresql-secret"


def values() -> Any:
    return yaml.safe_load((ROOT / "deploy" / "helm" / "values.yaml").read_text())


def image_of(image: dict[str, Any]) -> str:
    return f"{image['repository']}:{image['tag']}"


def instance_of(values: dict[str, Any]) -> dict[str, Any]:
    """The dagster.yaml in the config map `dagster-instance`."""
    postgresql, daemon = values["postgresql"], values["dagsterDaemon"]
    database = {
        "postgres_db": {
            "username": postgresql["postgresqlUsername"],
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "hostname": postgresql["postgresqlHost"],
            "db_name": postgresql["postgresqlDatabase"],
            "port": postgresql["service"]["port"],
            "params": postgresql["postgresqlParams"],
            "scheme": postgresql["postgresqlScheme"],
        }
    }
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    pod = launcher["runK8sConfig"]
    pools = values["concurrency"]["pools"]
    monitoring, logs, retention = daemon["runMonitoring"], values["pythonLogs"], values["retention"]
    return {
        "scheduler": {"module": "dagster.core.scheduler", "class": "DagsterDaemonScheduler"},
        **{
            storage: {"module": f"dagster_postgres.{module}", "class": name, "config": database}
            for storage, module, name in (
                ("schedule_storage", "schedule_storage", "PostgresScheduleStorage"),
                ("run_storage", "run_storage", "PostgresRunStorage"),
                ("event_log_storage", "event_log", "PostgresEventLogStorage"),
            )
        },
        "run_launcher": {
            "module": "dagster_k8s",
            "class": values["runLauncher"]["type"],
            "config": {
                "load_incluster_config": launcher.get("loadInclusterConfig", True),
                **({"kubeconfig_file": launcher["kubeconfigFile"]} if "kubeconfigFile" in launcher else {}),
                "job_namespace": NAMESPACE,
                "image_pull_policy": launcher["imagePullPolicy"],
                "service_account_name": "dagster",
                "dagster_home": DAGSTER_HOME,
                "instance_config_map": "dagster-instance",
                "postgres_password_secret": PASSWORD_SECRET,
                "security_context": launcher["securityContext"],
                "run_k8s_config": {
                    "pod_spec_config": pod["podSpecConfig"],
                    "job_spec_config": pod["jobSpecConfig"],
                },
            },
        },
        "run_coordinator": daemon["runCoordinator"]["config"]["customRunCoordinator"],
        "compute_logs": {
            "module": "dagster.core.storage.noop_compute_log_manager",
            "class": values["computeLogManager"]["type"],
        },
        "python_logs": {
            "python_log_level": logs["pythonLogLevel"],
            "managed_python_loggers": logs["managedPythonLoggers"],
        },
        "run_monitoring": {
            "enabled": monitoring["enabled"],
            "start_timeout_seconds": monitoring["startTimeoutSeconds"],
            "cancel_timeout_seconds": monitoring["cancelTimeoutSeconds"],
            "max_resume_run_attempts": monitoring["maxResumeRunAttempts"],
            "poll_interval_seconds": monitoring["pollIntervalSeconds"],
            "free_slots_after_run_end_seconds": monitoring["freeSlotsAfterRunEndSeconds"],
        },
        "run_retries": {"enabled": daemon["runRetries"]["enabled"], "max_retries": daemon["runRetries"]["maxRetries"]},
        "telemetry": values["telemetry"],
        "retention": {name: {"purge_after_days": retention[name]["purgeAfterDays"]} for name in ("sensor", "schedule")},
        "concurrency": {
            "pools": {"default_limit": pools["defaultLimit"], "granularity": pools["granularity"]},
            "runs": {"max_concurrent_runs": values["concurrency"]["runs"]["maxConcurrentRuns"]},
        },
        **values["additionalInstanceConfig"],
    }


def deployment_of(values: dict[str, Any]) -> dict[str, Any]:
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    return dict(deployment)


def container_context_of(values: dict[str, Any]) -> dict[str, Any]:
    """What the code server tells the launcher of each run of it."""
    deployment = deployment_of(values)
    return {
        "k8s": {
            "image_pull_policy": deployment["image"]["pullPolicy"],
            "env_config_maps": ["dagster-primero-ona-user-env"],
            "volume_mounts": deployment["volumeMounts"],
            "volumes": deployment["volumes"],
            "resources": deployment["resources"],
            "namespace": NAMESPACE,
            "service_account_name": "dagster-user-deployments",
            "env": deployment["env"],
        }
    }


def workspace_of(values: dict[str, Any]) -> dict[str, Any]:
    servers = values["dagsterWebserver"]["workspace"]["servers"]
    return {
        "load_from": [
            {"grpc_server": {"host": each["host"], "port": each["port"], "location_name": each["name"]}}
            for each in servers
        ]
    }
