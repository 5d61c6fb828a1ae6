"""What a run may bring with it: its quarter, and the tags by which Dagster keeps its books.

Where data go, which keys hide them and how a process is started is decided where the installation is set up, never by those
who may start a run. Three walls: no definition of the graph has a field for it, so Dagster refuses the configuration;
`GuardedInstance` refuses a run or a backfill before it is stored, and so before a launcher reads its tags; and the executor
refuses a run before its first step, also under an instance that is not guarded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import dagster as dg
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.tags import PARTITION_NAME_TAG

from primero_ona.errors import UsageError, with_anchor
from primero_ona.graph.dead_runs import PROCESS_TAG
from primero_ona.graph.partitions import QUARTER_TAG, WHOLE_TAG
from primero_ona.quarters import Quarter

#: The tags that a run may carry: ours, and those with which Dagster itself, its UI and its daemon mark runs. Launchers take
#: images, commands, environments, mounts and addresses from others, so a name that is not here is refused.
_DAGSTERS = (
    "asset_evaluation_id", "asset_partition_range_end", "asset_partition_range_start", "auto_materialize", "auto_observe",
    "auto_retry_run_id", "backfill", "code_location", "failure_reason", "from_automation_condition", "from_ui",
    "is_asset_resume_retry", "is_resume_retry", "max_retries", "max_runtime", "op_selection", "parent_backfill_id",
    "parent_run_id", "partition", "partition_set", "preset_name", "priority", "retry_number", "retry_on_asset_or_op_failure",
    "retry_strategy", "root_backfill_id", "root_run_id", "run_key", "schedule_name", "sensor_name", "solid_selection",
    "step_selection", "tick", "will_retry",
)  # fmt: skip
TAGS = frozenset(
    {QUARTER_TAG, WHOLE_TAG, PROCESS_TAG, ".dagster/repository", ".dagster/scheduled_execution_time"}
    | {f"dagster/{name}" for name in _DAGSTERS}
)

#: What Dagster's own launchers put on a run that they start: the address of the code server, and the image of its pod, which they
#: do not read from there. A retry copies them.
_LAUNCHED = frozenset({".dagster/grpc_info", "dagster/image"})

#: Dagster's own names of the sections of a configuration: any other could be a secret in the wrong place.
_SECTIONS = frozenset({"execution", "inputs", "loggers", "ops", "resources"})


def require_plain_run(config: object, tags: Mapping[str, str] | None, *, launched: bool = False) -> None:
    """Check what a run or a backfill brings with it; `launched` admits the tag that a started run, or its retry, has too.

    Raises UsageError that names sections and tags, never their values.
    """
    values = config if isinstance(config, Mapping) else {"": config}
    sections = {f"`{name}`" if name in _SECTIONS else "an unknown section" for name in values if _sets(values[name])}
    foreign = sorted(set(tags or {}) - TAGS - (_LAUNCHED if launched else set()))
    if sections:
        text = (
            f"the run's configuration sets {', '.join(sorted(sections))}. A run takes nothing from its configuration; "
            "addresses, paths, keys, secrets and log levels are settings of the installation, see docs/settings.md"
        )
    elif foreign:
        text = (
            f"the run has the tags {', '.join(foreign)}. A run takes no image, command, environment, mount or address "
            f"from its tags; remove them. It may have `{QUARTER_TAG}`, `{WHOLE_TAG}` and Dagster's own"
        )
    else:
        return
    raise UsageError(with_anchor(f"refused: {text}", "refused-run"))  # which Dagster shows as it is


def _sets(config: object) -> bool:
    """Whether a configuration sets a value anywhere; empty sections set nothing."""
    if isinstance(config, (list, tuple)):
        return any(map(_sets, config))
    return any(map(_sets, config.values())) if isinstance(config, Mapping) else config is not None


def _admitted(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a plain run is made with, and the quarter as people write it, so that it is found by it, however it was started."""
    tags = dict(arguments.get("tags") or {})
    require_plain_run(arguments.get("run_config"), tags)
    if key := tags.get(PARTITION_NAME_TAG):
        with suppress(UsageError):
            tags[QUARTER_TAG] = Quarter.parse(key).name
    return {**arguments, "tags": tags}


class GuardedInstance(dg.DagsterInstance):
    """Dagster's instance, which refuses runs and backfills that bring more than they may; see `dagster.yaml`.

    Here and not in a run coordinator, which is asked after a run was stored, and never about a backfill or `job execute`.
    """

    @classmethod
    def config_schema(cls) -> dict[str, Any]:
        """See InstanceRef.from_dir: no settings of its own in dagster.yaml."""
        return {}

    @classmethod
    def config_defaults(cls, base_dir: str) -> Mapping[str, Any]:
        """See InstanceRef.from_dir: storage and the rest are where they are for Dagster's own instance."""
        return InstanceRef.config_defaults(base_dir)

    def create_run(self, **arguments: Any) -> dg.DagsterRun:  # noqa: ANN401
        """See DagsterInstance: GraphQL, schedules, sensors, backfills and `dagster job launch` make their runs here."""
        return super().create_run(**_admitted(arguments))

    def create_run_for_job(self, *positional: Any, **arguments: Any) -> dg.DagsterRun:  # noqa: ANN401
        """See DagsterInstance: what is executed in the process that asks makes its run here."""
        return super().create_run_for_job(*positional, **_admitted(arguments))

    def create_reexecuted_run(self, *, parent_run: dg.DagsterRun, **arguments: Any) -> dg.DagsterRun:  # noqa: ANN401
        """See DagsterInstance: retries, with the configuration and the tags of the run before."""
        require_plain_run(arguments.get("run_config"), arguments.get("extra_tags"))
        require_plain_run(parent_run.run_config, parent_run.tags, launched=True)
        return super().create_reexecuted_run(parent_run=parent_run, **arguments)

    def add_backfill(self, partition_backfill: Any) -> None:  # noqa: ANN401
        """See DagsterInstance."""
        require_plain_run(partition_backfill.run_config, partition_backfill.tags)
        super().add_backfill(partition_backfill)


class _GuardedExecutor(InProcessExecutor):
    """Executes a run in its process, once it was found to be plain."""

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:  # noqa: ANN401
        """See Executor."""
        require_plain_run(plan_context.run_config, plan_context.dagster_run.tags, launched=True)
        yield from super().execute(plan_context, execution_plan)


@dg.executor(name="in_process", config_schema={})
def guarded_executor(_context: dg.InitExecutorContext) -> dg.Executor:
    """All steps in one process, by Dagster's defaults; refuses a run that is not plain."""
    return _GuardedExecutor(RetryMode.ENABLED)
