"""The image, the values for Dagster's chart and the compose file, each against the schema of what reads it."""

from __future__ import annotations

import re

import dagster as dg
import pytest
import yaml

from primero_ona.errors import ConfigError
from primero_ona.graph import resources
from primero_ona.settings import StorageSettings
from primero_ona_tests.deploy import chart

ROOT = chart.ROOT
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
USER = 10001


def variables() -> dict[str, str]:
    return {each["name"]: each["value"] for each in chart.deployment_of(chart.values())["env"]}


def test_a_local_folder_is_refused_where_runs_start_on_other_machines(monkeypatch, tmp_path):
    """Each run would find an empty folder, and what it stores would go with its pod."""
    monkeypatch.setenv("PRIMERO_ONA_STORAGE_KEYS", "x")
    launcher = {"module": "primero_ona_tests.deploy.test_containers", "class": "Elsewhere"}
    for name, given in (("here", {}), ("there", {"run_launcher": launcher})):
        home = tmp_path / name
        home.mkdir()
        (home / "dagster.yaml").write_text(yaml.safe_dump(given))
    with dg.DagsterInstance.from_config(str(tmp_path / "here")) as here:
        resources.refuse_local_storage(here)
        assert resources.default_reports(here).name == "reports"
        with dg.DagsterInstance.from_config(str(tmp_path / "there")) as there:
            for instance, image in ((there, ""), (here, "registry/image:1")):
                monkeypatch.setenv("DAGSTER_CURRENT_IMAGE", image)
                monkeypatch.setenv("PRIMERO_ONA_STORAGE_URL", "/var/lib/partitions")
                with pytest.raises(ConfigError, match="name a bucket"):
                    resources.PartitionStorage(rules="").assets(instance)
                monkeypatch.setenv("PRIMERO_ONA_STORAGE_URL", "s3://bucket/prefix")
                resources.PartitionStorage(rules="").assets(instance)
                with pytest.raises(ConfigError, match="let PRIMERO_ONA_REPORTS name"):
                    resources.default_reports(instance)


class Elsewhere(dg._core.launcher.DefaultRunLauncher):  # type: ignore[name-defined]
    """A launcher that is not Dagster's own."""


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("s3://bucket", True),
        ("s3://my.bucket-1/a/b_c", True),
        ("s3://key:secret@bucket/a", False),
        ("s3://bucket/a?secret=b", False),
        ("gs://bucket/a", False),
        ("az://bucket/a", False),
    ],
)
def test_a_bucket_is_named_without_a_secret(url, fits):
    """An address is shown by `config show` and in messages."""
    given = {"PRIMERO_ONA_STORAGE_URL": url, "PRIMERO_ONA_STORAGE_KEYS": "x"}
    if fits:
        assert StorageSettings(**given).bucket == url
        return
    with pytest.raises(ValueError, match="without anything else; other clouds are not offered") as caught:
        StorageSettings(**given)
    assert "secret" not in str(caught.value)


def test_the_chart_gets_the_instance_of_production():
    """A guard that one of the two has and the other lacks is found missing when it was needed."""
    ours, theirs = chart.instance_of(chart.values()), yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())
    differ = {name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)}
    assert differ == {
        "storage", "run_storage", "event_log_storage", "schedule_storage", "scheduler", "run_launcher",
        "run_monitoring", "compute_logs",
    }  # fmt: skip
    assert ours["compute_logs"]["class"] == theirs["compute_logs"]["class"]
    database = ours["run_storage"]["config"]["postgres_db"]
    assert database["params"]["sslmode"] == "verify-full"
    assert database["scheme"] == "postgresql+psycopg2"
    assert chart.workspace_of(chart.values())["load_from"][0]["grpc_server"]["location_name"] == "primero_ona"


@pytest.mark.proves("containers")
def test_secrets_are_files_and_none_is_in_the_values_the_image_or_the_compose_file():
    """A variable with a secret is shown by `kubectl describe`, and passed on to every child."""
    secret = {"PRIMERO_PASSWORD", "ONA_DATABASE_URL", "PRIMERO_ONA_STORAGE_KEYS", "PRIMERO_ONA_ALERT_URLS"}
    environments = [variables(), *(dict(service.get("environment", {})) for service in COMPOSE["services"].values())]
    for environment in environments:
        assert not secret & set(environment)
        for name, value in environment.items():
            assert not re.search(r"://[^/@]*:[^/@]+@", value), name
    assert {f"{name}_FILE" for name in secret} <= set(variables())
    (volume,) = [each for each in chart.deployment_of(chart.values())["volumes"] if "secret" in each]
    assert volume["secret"]["defaultMode"] == 0o440, "a file that every account may read is refused"
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert names == {line[1:].removesuffix("/**") for line in ignored if line.startswith("!")}
    shared = {
        name
        for service in ("daemon", "operators", "viewers", "migrate")
        for name in COMPOSE["services"][service].get("secrets", ())
    }
    assert shared == set(), "the processes that the network talks to have no key"
    assert COMPOSE["services"]["schema"]["secrets"] == ["ona-owner-url"]


@pytest.mark.proves("containers")
def test_nothing_runs_as_root_or_listens_beyond_this_machine():
    """What breaks out of a container is what it was inside."""
    values = chart.values()
    pods = [
        values["dagsterDaemon"], values["dagsterWebserver"], chart.deployment_of(values),
    ]  # fmt: skip
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    contexts = [each["podSecurityContext"] for each in pods]
    contexts.append(launcher["runK8sConfig"]["podSpecConfig"]["securityContext"])
    assert all(context["runAsUser"] == USER and context["runAsNonRoot"] for context in contexts)
    for container in (*(each["securityContext"] for each in pods), launcher["securityContext"]):
        assert not container["allowPrivilegeEscalation"]
        assert container["capabilities"] == {"drop": ["ALL"]}
    assert f"\nUSER {USER}:{USER}\n" in DOCKERFILE.rpartition("FROM ")[2]
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert COMPOSE["services"]["history"]["network_mode"] == "none"


def test_the_image_is_installed_from_pinned_files():
    """A release that was replaced in the registry must not come into the image unseen."""
    assert "--require-hashes --only-binary :all: --no-deps --requirement requirements.txt" in DOCKERFILE
    pinned = (ROOT / "deploy" / "requirements.txt").read_text()
    for name in ("boto3", "dagster-k8s", "kubernetes", "psycopg2-binary"):
        assert re.search(rf"^{name}==", pinned, re.MULTILINE)
    base = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    image = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", pinned, re.MULTILINE))
    assert base.items() <= image.items(), "tested together, so of the same versions"


@pytest.mark.ci
def test_the_values_fit_the_config_types_of_dagster_and_its_launcher():
    """Helm takes any value; Dagster says at its first start that one is wrong."""
    from dagster._config import process_config, resolve_to_config_type
    from dagster._core.instance.config import dagster_instance_config_schema
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import DagsterK8sJobConfig

    values = chart.values()
    instance = chart.instance_of(values)
    known = dagster_instance_config_schema()
    assert set(instance) - {"instance_class"} <= set(known)
    own = {name: known[name] for name in instance if name in known}
    checked = process_config(resolve_to_config_type(own), {name: instance[name] for name in own})
    assert checked.success, checked.errors
    launcher = resolve_to_config_type(DagsterK8sJobConfig.config_type_run_launcher())
    checked = process_config(launcher, instance["run_launcher"]["config"])
    assert checked.success, checked.errors
    context = K8sContainerContext.create_from_config(chart.container_context_of(values))
    assert [each["name"] for each in context.run_k8s_config.container_config["env"]] == list(variables())


@pytest.mark.ci
def test_what_the_chart_makes_of_the_values_fits_the_schema_of_kubernetes():
    """A word in the wrong place is dropped without a sound by some versions of Kubernetes, and refused by others."""
    import kubernetes_validate

    from primero_ona_tests.deploy.cluster import KUBERNETES

    values = chart.values()
    deployment = chart.deployment_of(values)
    probes = {name: dict(deployment[name]) for name in ("readinessProbe", "livenessProbe", "startupProbe")}
    command = {"command": ["dagster", "api", "grpc-health-check", "-p", str(deployment["port"])]}
    for probe in probes.values():
        probe.pop("enabled", None)
        probe["exec"] = command
    container = {
        "name": "code",
        "image": chart.image_of(deployment["image"]),
        "args": ["dagster", "api", "grpc", *deployment["dagsterApiGrpcArgs"]],
        "env": deployment["env"],
        "volumeMounts": deployment["volumeMounts"],
        "securityContext": deployment["securityContext"],
        "resources": deployment["resources"],
        **probes,
    }
    spec = {
        "containers": [container],
        "volumes": deployment["volumes"],
        "securityContext": deployment["podSecurityContext"],
    }
    made = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "primero-ona"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec},
        },
    }
    job = yaml.safe_load((ROOT / "deploy" / "helm" / "schema-job.yaml").read_text())
    for each in (made, job):
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    broken = {**job, "spec": {**job["spec"], "backofLimit": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


@pytest.mark.ci
def test_the_compose_file_fits_the_specification():
    """A misspelt key is a service without a limit, or none at all."""
    from compose_spec import PyCompose

    text = (ROOT / "deploy" / "compose.yaml").read_text()
    spec = PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(text))).to_spec()
    assert set(spec.services or ()) == set(COMPOSE["services"])
    with pytest.raises(Exception, match="heathcheck"):
        PyCompose.from_yaml(yaml.safe_dump({"services": {"a": {"image": "b", "heathcheck": {}}}})).to_spec()
