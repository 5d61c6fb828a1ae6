"""Whoever may start a run tries to send children's rows elsewhere: by a run's configuration, and by its tags."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import dagster as dg
import psycopg
import pytest

from primero_ona.definitions import build_defs
from primero_ona.errors import UsageError
from primero_ona.graph.run_guard import TAGS, guarded_executor, require_plain_run
from primero_ona.settings import GraphSettings
from primero_ona_tests import TEMPLATE, quick
from primero_ona_tests.attacks.installation import (
    BACKFILL,
    LAUNCH,
    LAUNCH_ALL,
    REEXECUTE,
    REPOSITORY,
    Installation,
    execution,
)
from primero_ona_tests.harness import database

#: Stands in every secret that the attacker writes; afterwards it stands nowhere.
MARKER = "find-me-7f3a"

#: How our own refusal of a configuration begins, and what Dagster's own names.
REFUSED = "refused: the run's configuration sets "
UNEXPECTED = re.compile("unexpected config entr|at path root")

#: The jobs that an attack is launched in: for a quarter, for assets by the button in the UI, and without a quarter.
JOBS = ("sync_quarter", "__ASSET_JOB", "refresh_reference")


def secret(name: str) -> str:
    return f"postgresql://mallory:{MARKER}@elsewhere.example.org:5432/{name}"


def at(*path: Any) -> Any:
    """A configuration that sets one value, the last of the path."""
    *names, value = path
    for name in reversed(names):
        value = {name: value}
    return value


#: What each part of the graph might take from a configuration. Those of a job that lacks the part are refused, too.
CONFIGS = {
    "the database": at("resources", "ona", "config", "url", secret("ona")),
    "the database, bare": at("resources", "ona", secret("ona")),
    "the address of Primero": at("resources", "primero", "config", "url", f"https://{MARKER}.example.org"),
    "the login at Primero": at("resources", "primero", "config", {"username": "mallory", "password": MARKER}),
    "the pace at Primero": at("resources", "primero", "config", "pause", 0.0),
    "the folder of partitions": at("resources", "partitions", "config", "url", f"s3://{MARKER}/"),
    "the keys of partitions": at("resources", "partitions", "config", "fernet_keys", MARKER),
    "the policy of partitions": at("resources", "partitions", "config", "rules", MARKER),
    "the folder of values": at("resources", "io_manager", "config", "base_dir", f"/tmp/{MARKER}"),
    "a resource that is not there": at("resources", "other", "config", "url", secret("other")),
    "a log level": at("loggers", "console", "config", "log_level", "DEBUG"),
    "the level of our logger": at("loggers", "quiet", "config", "log_level", "DEBUG"),
    "the executor's processes": at("execution", "config", "max_concurrent", 64),
    "a file of the executor": at("execution", "config", "marker_to_close", f"/tmp/{MARKER}"),
    "loads beside failed checks": at(
        "execution", "config", "step_dependency_config", "require_upstream_step_success", False
    ),
    "modules to import": at("execution", "config", "start_method", "forkserver", "preload_modules", [MARKER]),
    "an executor": at("execution", "docker", "config", "image", MARKER),
    "an asset": at("ops", "mapped_cases", "config", MARKER),
    "an asset of several": at("ops", "pull_quarter", "config", "url", MARKER),
    "a check": at("ops", "check_ona", "config", "url", MARKER),
    "an op that is not there": at("ops", "other", "config", "url", MARKER),
    "the output of an asset": at("ops", "mapped_cases", "outputs", "result", "path", f"/tmp/{MARKER}"),
    "the input of an asset": at("ops", "mapped_cases", "inputs", "raw_under18_cases", "value", MARKER),
    "an input": at("inputs", "raw_under18_cases", "value", MARKER),
    "ids of cases, which an older version took": at("ops", "mend", "config", "cases", [MARKER]),
}

POD = json.dumps({"container_config": {"image": "elsewhere.example.org/mallory", "command": [MARKER]}})
TAGS_REFUSED = {
    "dagster-k8s/config": POD,
    "dagster-docker/config": POD,
    "dagster-docker/image": MARKER,
    "docker/image": MARKER,
    "docker/container_id": MARKER,
    "dagster-celery/queue": MARKER,
    "dagster-celery/run_queue": MARKER,
    "dagster-celery/task_id": MARKER,
    "dagster-cloud/agent_queue": MARKER,
    "dagster-cloud/pex_tag": MARKER,
    "dagster/agent": MARKER,
    "dagster/image": MARKER,
    "dagster/isolation": MARKER,
    "ecs/task_overrides": POD,
    "ecs/run_task_kwargs": POD,
    "ecs/cpu": "4096",
    "dagster-aws/env": MARKER,
    "dagster-emr/config": POD,
    "databricks/cluster": MARKER,
    ".dagster/grpc_info": '{"host": "elsewhere.example.org", "port": 4000}',
    "image": MARKER,
    "env": MARKER,
}

#: What a launch may carry: the quarter, and what the UI lets an operator choose.
TAGS_ADMITTED = {"quarter": "2024-Q1", "dagster/priority": "5", "dagster/max_retries": "1", "dagster/from_ui": "true"}


def refused(answer: Any) -> str:
    """The text of a refusal; what was launched has none."""
    assert answer["__typename"] not in ("LaunchRunSuccess", "LaunchBackfillSuccess"), answer
    return str(answer.get("message") or answer["errors"][0]["message"])


@pytest.mark.parametrize("job", JOBS)
def test_a_plain_launch_is_admitted(installation: Installation, job: str):
    """Else the refusals below would prove nothing."""
    runs, backfills = installation.stored()
    config = {"loggers": {"quiet": {}}, "resources": {}}
    answer = installation.graphql(LAUNCH, execution(job, config, TAGS_ADMITTED))
    assert answer["__typename"] == "LaunchRunSuccess", answer
    assert installation.stored() == (runs + 1, backfills)


@pytest.mark.proves("found-by-quarter")
def test_a_run_is_found_by_its_quarter_whoever_started_it(installation: Installation):
    """The button of an asset knows nothing of our tag; people look for runs by the quarter as they write it."""
    answer = installation.graphql(LAUNCH, execution("__ASSET_JOB"))
    found = installation.instance.get_runs(dg.RunsFilter(tags={"quarter": "2024-Q1"}))
    assert answer["run"]["runId"] in {run.run_id for run in found}


@pytest.mark.parametrize("name", quick(CONFIGS, *[*CONFIGS][::8]))
@pytest.mark.proves("run-configuration")
def test_a_configuration_that_names_anything_is_refused_and_not_stored(installation: Installation, name: str):
    """Each field of each part, by each way in: one that is believed sends every row to the attacker."""
    before = installation.stored()
    for job in JOBS:
        text = refused(installation.graphql(LAUNCH, execution(job, CONFIGS[name])))
        assert REFUSED in text or UNEXPECTED.search(text), text
        (each,) = installation.graphql(LAUNCH_ALL, [execution(job, CONFIGS[name])])["launchMultipleRunsResult"]
        refused(each)
    for backfill in (ASSETS, JOB):
        text = refused(installation.graphql(BACKFILL, {**backfill, "runConfigData": CONFIGS[name]}))
        assert REFUSED in text
    assert installation.stored() == before
    assert installation.holds(MARKER) == []


ASSETS = {"assetSelection": [{"path": ["mapped_cases"]}], "partitionNames": ["2024-01-01"]}
JOB = {
    "selector": {"partitionSetName": "sync_quarter_partition_set", "repositorySelector": REPOSITORY},
    "partitionNames": ["2024-01-01"],
}


@pytest.mark.parametrize("tag", quick(TAGS_REFUSED, *[*TAGS_REFUSED][::8]))
@pytest.mark.proves("run-tags")
def test_a_tag_that_a_launcher_might_take_is_refused_and_not_stored(installation: Installation, tag: str):
    """An image or a mount of the attacker's choice reads the keys and the passwords of the installation."""
    before = installation.stored()
    tags = {tag: TAGS_REFUSED[tag]}
    pairs = [{"key": key, "value": value} for key, value in tags.items()]
    for job in JOBS:
        text = refused(installation.graphql(LAUNCH, execution(job, tags=tags)))
        assert f"refused: the run has the tags {tag}." in text
    for backfill in (ASSETS, JOB):
        assert tag in refused(installation.graphql(BACKFILL, {**backfill, "tags": pairs}))
    assert installation.stored() == before
    assert installation.holds(MARKER) == []


@pytest.mark.parametrize("backfill", [ASSETS, JOB], ids=["assets", "job"])
def test_a_plain_backfill_is_admitted(installation: Installation, backfill: dict[str, Any]):
    """Else its refusals would prove nothing."""
    runs, backfills = installation.stored()
    installation.graphql(BACKFILL, {**backfill, "tags": [{"key": "dagster/priority", "value": "1"}]})
    assert installation.stored() == (runs, backfills + 1)


@pytest.mark.proves("run-tags")
def test_a_re_execution_carries_on_what_its_run_had_and_nothing_else(installation: Installation):
    """A launcher marks the runs that it starts, and a retry has those marks; a run from before the guard may have others."""
    answer = installation.graphql(LAUNCH, execution("sync_quarter"))
    parent = installation.instance.get_run_by_id(answer["run"]["runId"])
    installation.instance.report_run_failed(parent)
    installation.instance.add_run_tags(parent.run_id, {".dagster/grpc_info": '{"socket": "/tmp/x"}'})
    again = {"parentRunId": parent.run_id, "strategy": "ALL_STEPS"}
    assert installation.graphql(REEXECUTE, again)["__typename"] == "LaunchRunSuccess"
    before = installation.stored()
    added = {**again, "extraTags": [{"key": "dagster-k8s/config", "value": POD}]}
    assert "dagster-k8s/config" in refused(installation.graphql(REEXECUTE, added))
    older = parent._replace(run_id=str(uuid4()), tags={**parent.tags, "dagster-k8s/config": "{}"})
    installation.instance.run_storage.add_run(older)
    assert "dagster-k8s/config" in refused(installation.graphql(REEXECUTE, {**again, "parentRunId": older.run_id}))
    assert installation.stored() == (before[0] + 1, before[1])


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("job", "execute", "-m", "primero_ona.definitions", "-j", "sync_quarter"), "file"),
        *(
            pytest.param(words, option, marks=pytest.mark.ci)
            for words, option in (
                (("job", "launch", "-w", "workspace.yaml", "-j", "sync_quarter"), "file"),
                (("asset", "materialize", "-m", "primero_ona.definitions", "--select", "mapped_cases"), "json"),
                (("job", "execute", "-m", "primero_ona.definitions", "-j", "sync_quarter"), "tags"),
                (("job", "launch", "-w", "workspace.yaml", "-j", "sync_quarter"), "tags"),
                (("job", "backfill", "-w", "workspace.yaml", "-j", "sync_quarter", "--noprompt"), "tags"),
            )
        ),
    ],
    ids=lambda words: "-".join(words[:2]) if isinstance(words, tuple) else words,
)
@pytest.mark.proves("run-configuration")
def test_dagster_s_own_commands_are_refused_alike(
    postgres: Any, installation: Installation, words: tuple[str, ...], option: str
):
    """They run the steps in their own process, and so pass by a queue; another database stays as empty as it was."""
    before = installation.stored()
    with database(postgres, f"mallory_{uuid4().hex}", TEMPLATE) as url:
        config = at("resources", "ona", "config", "url", f"{url}&password={MARKER}")
        (installation.folder / "attack.yaml").write_text(json.dumps(config))
        quarter = {"dagster/partition": "2024-01-01"}
        options = {
            "file": ("-c", "attack.yaml", "--tags", json.dumps(quarter)),
            "json": ("--partition", "2024-01-01", "--config-json", json.dumps(config)),
            "tags": ("--tags", json.dumps({"dagster-k8s/config": POD} | ({} if "backfill" in words else quarter))),
        }[option]
        if "backfill" in words:
            options = (*options, "--partitions", "2024-01-01")
        ran = subprocess.run(
            [sys.executable, "-m", "dagster", *words, *options],
            cwd=installation.folder,
            env=installation.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        said = ran.stdout + ran.stderr
        assert ran.returncode, said
        if option == "tags":
            assert "refused: the run has the tags dagster-k8s/config" in said
        else:
            assert REFUSED in said or UNEXPECTED.search(said)
        with psycopg.connect(url) as conn:
            assert conn.execute("SELECT count(*) FROM cases").fetchall() == [(0,)]
    assert installation.stored() == before
    assert installation.holds(MARKER) == []


@pytest.mark.proves("run-pages")
def test_the_pages_of_resources_show_no_setting(installation: Installation):
    """Configuration of a resource is shown to whoever may open the UI."""
    query = (
        "query($p: RepositorySelector!) { allTopLevelResourceDetailsOrError(repositorySelector: $p) { __typename "
        "... on ResourceDetailsList { results { name configFields { name } configuredValues { key value } } } } }"
    )
    found = installation.graphql(query, REPOSITORY)["results"]
    assert {each["name"] for each in found} == {"primero", "ona", "partitions", "io_manager"}
    assert [each for each in found if each["configFields"] or each["configuredValues"]] == []


def leaves(config_type: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Each place of a schema that takes a value."""
    if not hasattr(config_type, "fields"):
        yield path
        return
    for name, field in config_type.fields.items():
        yield from leaves(field.config_type, (*path, name))


@pytest.mark.proves("run-configuration")
def test_no_job_has_a_place_for_configuration():
    """An asset, a check or an op without a schema takes anything, and an executor's defaults take paths and modules."""
    chosen = GraphSettings(PRIMERO_ONA_START="2023-Q1", PRIMERO_ONA_RETENTION_QUARTERS=4)
    jobs = build_defs(settings=chosen).get_repository_def().get_all_jobs()
    assert len(jobs) == 9
    found = {path for job in jobs for path in leaves(job.run_config_schema.config_type)}
    assert found == set()


@pytest.mark.parametrize(
    ("config", "tags", "plain"),
    [
        ({}, {"dagster-k8s/config": POD}, False),
        ({}, {"quarter": "2024-Q1", ".dagster/grpc_info": "{}"}, True),
    ],
)
@pytest.mark.proves("run-tags")
def test_the_executor_refuses_before_the_first_step_also_without_a_guarded_instance(
    config: Any, tags: dict[str, str], *, plain: bool
):
    """An installation that was upgraded may still have the dagster.yaml of before."""
    with dg.DagsterInstance.local_temp() as instance:
        job = dg.reconstructable(guarded_job)
        with dg.execute_job(job, instance, run_config=config, tags=tags) as result:
            assert result.success is plain
            events = [event.event_type for event in result.all_events]
            assert (dg.DagsterEventType.STEP_START in events) is plain
        said = "\n".join(str(entry) for entry in instance.all_logs(result.run_id))
        assert ("refused: the run has the tags dagster-k8s/config" in said) is not plain


def guarded_job() -> dg.JobDefinition:
    @dg.op(config_schema={})
    def nothing() -> None: ...

    @dg.job(executor_def=guarded_executor)
    def tiny() -> None:
        nothing()

    return tiny


@pytest.mark.proves("run-pages")
def test_a_refusal_names_sections_and_tags_and_no_value():
    """It stands in logs and in answers; an operator may have written a secret into the wrong place."""
    for config in CONFIGS.values():
        with pytest.raises(UsageError) as found:
            require_plain_run({**config, MARKER: MARKER}, {})
        assert MARKER not in str(found.value)
    for config in ([MARKER], MARKER, {MARKER: [{MARKER: 0}]}):
        with pytest.raises(UsageError, match="sets an unknown section"):
            require_plain_run(config, {})
    with pytest.raises(UsageError) as found:
        require_plain_run({}, {"image": MARKER})
    assert MARKER not in str(found.value)
    require_plain_run({"ops": {}, "loggers": {}}, dict.fromkeys(TAGS, "x"))
    require_plain_run(None, None)
