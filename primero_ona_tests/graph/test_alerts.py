"""The sensor that reports faults, sending to a real SMTP server and a real HTTP receiver on loopback."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest
from aiosmtpd.controller import Controller
from cryptography.fernet import Fernet
from dagster._core.events import AssetCheckEvaluation, StepFailureData
from dagster._core.execution.plan.objects import ErrorSource, UserFailureData
from dagster._core.storage.dagster_run import DagsterRun

from primero_ona.definitions import build_defs
from primero_ona.errors import CheckError, ConfigError, DataError, RefusedError, TransientError
from primero_ona.graph.dead_runs import PROCESS_TAG, end_dead_runs
from primero_ona.pipeline.alerts import Fault, State, channels, ping
from primero_ona.quarters import Quarter, quarters_between
from primero_ona.settings import AlertSettings, GraphSettings
from primero_ona_tests.harness import Q1, GivenPrimero, small, sync_quarter, wired

GRAPH = build_defs(settings=GraphSettings(PRIMERO_ONA_START="2000-Q1"))
SENSOR = GRAPH.resolve_sensor_def("report_faults")
NOON = datetime(2024, 5, 15, 5, 0, tzinfo=UTC)
REFUSES = "Primero at primero.example.org refuses the login; check PRIMERO_USERNAME and PRIMERO_PASSWORD"
CASE = "6f1c3d0a-7b1e-4a55-9f0e-2d4c8a1b9e77"


class Mailbox:
    """Keeps the mails that a real SMTP server takes."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 aiosmtpd's name
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@dataclass
class Receiver:
    """An HTTP server that notes what it is sent, and answers with `status`."""

    posts: list[dict[str, Any]] = field(default_factory=list)
    pings: list[str] = field(default_factory=list)
    status: int = 200
    port: int = 0

    @contextmanager
    def serve(self) -> Iterator[Receiver]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if receiver.status == 200:
                    receiver.posts.append(body)
                self.send_response(receiver.status)
                self.end_headers()

            def do_GET(self) -> None:
                receiver.pings.append(self.path)
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_port
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            yield self
            server.shutdown()


@dataclass
class Watch:
    """The sensor with its cursor, as the daemon keeps it, on an instance whose runs the test makes up."""

    instance: dg.DagsterInstance
    web: Receiver
    mailbox: Mailbox
    now: datetime = NOON
    cursor: str | None = None

    def look(self) -> str:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor, definitions=GRAPH)
        with mock.patch("primero_ona.graph.alerts.datetime") as clock:
            clock.now.return_value = self.now
            data = SENSOR.evaluate_tick(context)
        self.cursor = data.cursor
        assert not data.run_requests
        return str(data.skip_message)

    def run(
        self, quarter: Quarter | None, failure: Exception | None = None, job: str = "sync_quarter", **tags: str
    ) -> str:
        """A run that has ended, and why it failed."""
        if quarter:
            tags = {**tags, "dagster/partition": quarter.key}
        run = DagsterRun(job, run_id=str(uuid.uuid4()), tags=tags, status=dg.DagsterRunStatus.STARTED)
        self.instance.add_run(run)
        if failure is None:
            self.event(run, dg.DagsterEventType.RUN_SUCCESS, None)
            return run.run_id
        metadata = {"kind": dg.MetadataValue.text(type(failure).__name__)}
        data = StepFailureData(
            None, UserFailureData("", str(failure), metadata), error_source=ErrorSource.USER_CODE_ERROR
        )
        self.event(run, dg.DagsterEventType.STEP_FAILURE, data)
        self.instance.report_run_failed(run)
        return run.run_id

    def check(self, asset: dg.AssetKey, name: str, *, passed: bool) -> None:
        """An answer of a check, in a run that goes well whatever it is."""
        run = self.instance.get_run_by_id(self.run(None, job="reconcile_ona"))
        answer = AssetCheckEvaluation(
            asset_key=asset, check_name=name, passed=passed, metadata={}, severity=dg.AssetCheckSeverity.ERROR
        )
        self.event(run, dg.DagsterEventType.ASSET_CHECK_EVALUATION, answer)

    def event(self, run: DagsterRun, kind: dg.DagsterEventType, data: Any) -> None:
        event = dg.DagsterEvent(kind.value, run.job_name, event_specific_data=data, step_key="a_step")
        entry = dg.EventLogEntry(
            error_info=None, level="debug", user_message="", run_id=run.run_id, timestamp=self.now.timestamp(),
            job_name=run.job_name, dagster_event=event,
        )  # fmt: skip
        self.instance.handle_new_event(entry)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serve() as serving:
        yield serving


@pytest.fixture
def watch(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Addresses of each kind are set, nothing is overdue, and no run has ended yet."""
    mailbox = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    smtp = Controller(mailbox, hostname="127.0.0.1", port=port)
    smtp.start()
    web = f"json://127.0.0.1:{receiver.port}/hook"
    monkeypatch.setenv(
        "PRIMERO_ONA_ALERT_URLS", f"mailto://127.0.0.1:{port}?from=sync@example.org&to=operator@example.org {web}"
    )
    monkeypatch.setenv("PRIMERO_ONA_PING_URL", f"http://127.0.0.1:{receiver.port}/alive")
    monkeypatch.setenv("PRIMERO_ONA_UI_URL", "https://dagster.example.org/")
    monkeypatch.setenv("PRIMERO_ONA_STORAGE_KEYS", Fernet.generate_key().decode())
    monkeypatch.setattr("primero_ona.graph.alerts.overdue", lambda *_: [])
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watch(instance, receiver, mailbox)
    smtp.stop()


@pytest.mark.proves("alerts")
def test_a_storm_of_a_hundred_failures_is_one_message(watch: Watch) -> None:
    """An operator who gets a hundred mails reads none; who gets one knows cause, extent, and what to do."""
    storm = quarters_between(Quarter(2000, 1), Quarter(2024, 4))
    for number, quarter in enumerate(storm, 1):
        watch.run(quarter, RefusedError(f"{REFUSES} (try {number})"))
        if number % 25 == 0:
            watch.look()
    (mail,), (post,) = watch.mailbox.mails, watch.web.posts
    body = mail.get_body().get_content()
    assert (mail["To"], "1 new fault" in mail["Subject"]) == ("operator@example.org", True)
    for text in (body, post["message"]):
        words = " ".join(text.split())
        assert "sync_quarter failed for 2000-Q1, 2000-Q2, 2000-Q3, 2000-Q4, 2001-Q1 and 20 more" in words
        assert REFUSES in words
        assert "ONA has nothing of 2000-Q1, nothing of 2000-Q2" in words
        assert "Nothing is half-written" in words
        assert "It does not heal by itself" in words
        assert "Try: primero-ona doctor, then primero-ona sync --quarter 2000-Q1" in words
        assert "See: https://dagster.example.org/runs/" in words
    watch.now += timedelta(days=1)
    watch.look()
    assert len(watch.web.posts) == 2, "it has grown by 75 quarters within a day"
    watch.now += timedelta(days=1)
    watch.look()
    assert len(watch.web.posts) == len(watch.mailbox.mails) == 2


@pytest.mark.ci
@pytest.mark.proves("alerts", "dead-daemon")
def test_a_month_with_faults_on_ten_days_each_reported_once(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that is over and comes back is another one. Failed runs, failed checks and what is overdue, of several kinds."""
    quarter, overdue = Quarter(2024, 2), []
    monkeypatch.setattr("primero_ona.graph.alerts.overdue", lambda *_: list(overdue))

    def fails(error: Exception) -> Callable[[bool], object]:
        return lambda begins: watch.run(quarter, error if begins else None)

    def check(begins: bool) -> None:
        watch.check(dg.AssetKey("ona_dashboards"), "complete", passed=not begins)

    def disk(begins: bool) -> None:
        overdue[:] = [Fault("overdue:space", "The disk is full.", "", "", "", confirm=True)] if begins else []

    kinds = {
        2: fails(TransientError("cannot be reached")), 3: fails(DataError("a column is missing")), 5: disk, 8: check,
        11: fails(ConfigError("a setting is missing")), 14: check, 17: disk, 20: fails(RefusedError(REFUSES)), 23: check,
        27: fails(TransientError("cannot be reached")),
    }  # fmt: skip
    for day in range(30):
        happens = kinds.get(day, lambda _: None)
        for _ in range(3):
            happens(True)
            watch.look()
            watch.now += timedelta(hours=6)
        happens(False)
        watch.look()
        watch.now += timedelta(hours=6)
    titles = [post["title"].rpartition(": ")[2] for post in watch.web.posts]
    assert titles == ["1 new fault", "1 over"] * len(kinds)
    assert [mail["Subject"].rpartition(": ")[2] for mail in watch.mailbox.mails] == titles
    words = [post["message"] for post in watch.web.posts[::2]]
    assert ["The disk is full" in text for text in words] == [day in {5, 17} for day in kinds]
    assert ["The check complete" in text for text in words] == [day in {8, 14, 23} for day in kinds]
    assert watch.web.pings == ["/alive"] * (30 - len(kinds)), "once a day, and not while there is a fault"


def test_what_is_retried_waits_or_was_healed_by_another_job_is_no_fault(watch: Watch) -> None:
    """A retry that succeeds within minutes is nothing to call a person for."""
    lost = TransientError("cannot be reached")
    watch.run(Q1, lost, **{"dagster/will_retry": "true"})
    watch.run(Quarter(2023, 4), lost, job="__ASSET_JOB")
    watch.run(Quarter(2023, 4))
    assert watch.look().startswith("0 faults, 0 messages sent")
    watch.run(Q1, lost)
    watch.instance.add_run(
        DagsterRun(
            "sync_quarter", str(uuid.uuid4()), tags={"dagster/partition": Q1.key}, status=dg.DagsterRunStatus.STARTED
        )
    )
    assert watch.look().startswith("1 faults, 2 messages sent"), "a run at work ends no fault"
    assert "tried again within the hour, and heals by itself" in watch.web.posts[0]["message"]


def test_a_run_whose_process_was_killed_is_said_to_heal(watch: Watch) -> None:
    """No step was there to say why; the sensor that ends such a run asks for its quarter again."""
    run_id = str(uuid.uuid4())
    tags = {"dagster/partition": Q1.key, PROCESS_TAG: "abc"}
    watch.instance.add_run(DagsterRun("sync_quarter", run_id, tags=tags, status=dg.DagsterRunStatus.STARTED))
    folder = Path(watch.instance.root_directory) / "processes"
    folder.mkdir(exist_ok=True)
    (folder / "abc.lock").touch()
    assert end_dead_runs(watch.instance) == 1
    watch.look()
    (post,) = watch.web.posts
    assert "The process of this run ended before the run did" in post["message"]
    assert "heals by itself once the cause is gone" in post["message"]


@pytest.mark.proves("alerts-and-metrics")
def test_a_failed_check_is_named_without_what_it_counted_and_no_id_of_a_case_is_sent(watch: Watch) -> None:
    """Mail and Slack are read by more people than the UI."""
    run_id = watch.run(Q1, CheckError("check contract on mapped_cases failed: 3 × sex: unknown label"))
    check = AssetCheckEvaluation(
        asset_key=dg.AssetKey("mapped_cases"), check_name="contract", passed=False, metadata={}, severity=dg.AssetCheckSeverity.ERROR,
        description="3 × sex: unknown label", partition=Q1.key,
    )  # fmt: skip
    watch.event(watch.instance.get_run_by_id(run_id), dg.DagsterEventType.ASSET_CHECK_EVALUATION, check)
    watch.run(Q1, DataError(f"case {CASE} has no key"), job="refresh_reference")
    watch.look()
    (post,) = watch.web.posts
    assert "failed checks: contract on mapped_cases" in post["message"]
    assert "the same rows fail again" in post["message"]
    assert f"See: https://dagster.example.org/runs/{run_id}" in post["message"]
    assert "case (an id) has no key" in post["message"]
    assert not [word for word in ("sex", CASE) if word in json.dumps(post) + str(watch.cursor)]


def test_a_failed_check_whose_run_did_not_fail_is_reported_too(watch: Watch) -> None:
    """Dagster lets a run succeed whose check fails."""
    watch.check(dg.AssetKey("ona_dashboards"), "complete", passed=False)
    watch.look()
    watch.look()
    (post,) = watch.web.posts
    assert "The check complete on ona_dashboards failed." in post["message"]


@pytest.mark.proves("alerts")
def test_a_channel_that_takes_no_message_gets_it_later_and_the_others_hear_of_it(watch: Watch) -> None:
    """A webhook that was revoked would be silence for ever."""
    watch.web.status = 500
    watch.run(Q1, RefusedError(REFUSES))
    assert "json" in watch.look()
    watch.look()
    assert (len(watch.mailbox.mails), watch.web.posts) == (1, [])
    watch.now += timedelta(hours=1)
    watch.look()
    assert "do not arrive by another channel (json" in watch.mailbox.mails[1].get_body().get_content()
    watch.web.status = 200
    watch.look()
    watch.look()
    assert [post["title"].rpartition(": ")[2] for post in watch.web.posts] == ["1 new fault"]
    assert "1 over" in watch.mailbox.mails[2]["Subject"]


@pytest.mark.proves("alerts")
def test_what_is_overdue_is_reported_once_it_has_been_for_half_an_hour(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moment after a restart everything is old; the next look of the sensor at Primero ends that. A bad day has no ping."""
    monkeypatch.undo()
    monkeypatch.setenv("PRIMERO_ONA_ALERT_URLS", f"json://127.0.0.1:{watch.web.port}/hook")
    monkeypatch.setenv("PRIMERO_ONA_PING_URL", f"http://127.0.0.1:{watch.web.port}/alive")
    monkeypatch.setenv("PRIMERO_ONA_STORAGE_KEYS", Fernet.generate_key().decode())
    monkeypatch.setenv("PRIMERO_ONA_LEAST_SPACE_GB", "1000000")
    for minutes in (29, 1):
        watch.look()
        assert not watch.web.posts
        watch.now += timedelta(minutes=minutes)
    watch.look()
    watch.look()
    (post,) = watch.web.posts
    for words in (
        "nothing is loaded yet; `primero-ona backfill --from 2000-Q1`",
        "less than 1000000 GB",
        "PRIMERO_ONA_KEYS_BACKUP=",
    ):
        assert words in post["message"]
    assert not watch.web.pings


@pytest.mark.parametrize("set_urls", [False, True], ids=["nothing set", "set"])
def test_nothing_is_sent_without_settings(watch: Watch, monkeypatch: pytest.MonkeyPatch, set_urls: bool) -> None:
    """A trial on a laptop must not ring an operator."""
    if not set_urls:
        monkeypatch.delenv("PRIMERO_ONA_ALERT_URLS")
        monkeypatch.delenv("PRIMERO_ONA_PING_URL")
    watch.run(Q1, RefusedError(REFUSES))
    said = watch.look()
    assert ("reported to no one" in said) is not set_urls
    assert bool(watch.web.posts) is bool(watch.mailbox.mails) is set_urls


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        ("json://u:s3cret@alerts.example.org/x", "without a verified connection"),
        ("jsons://u:s3cret@alerts.example.org/x?verify=no", "without a verified connection"),
        ("mailto://u:s3cret@example.org", "without a verified connection"),
        ("mailtos://u:s3cret@example.org?mode=insecure", "without a verified connection"),
        ("mailtos://u:s3cret@localhost?smtp=mail.example.org&mode=insecure", "without a verified connection"),
        ("jsons://ok.example.org s3cret", "address 2 in PRIMERO_ONA_ALERT_URLS is none that Apprise knows"),
        ("jsons://u:s3cret@alerts.example.org/x", None),
        ("mailtos://u:s3cret@example.org?to=a@example.org", None),
        ("slack://TAAAAAAAA/BAAAAAAAA/AAAAAAAAAAAAAAAAAAAAAAAA/#alerts", None),
        ("json://127.0.0.1:9/x mailto://localhost?to=a@example.org", None),
    ],
)  # fmt: skip
@pytest.mark.proves("alerts-and-metrics")
def test_an_address_on_another_machine_is_verified_or_refused(urls: str, words: str | None) -> None:
    """As for Primero and ONA; no part of an address is in the message."""
    settings = AlertSettings(PRIMERO_ONA_ALERT_URLS=urls)
    if words is None:
        assert all("s3cret" not in repr(channel) for channel in channels(settings))
    else:
        with pytest.raises(ConfigError, match=words) as caught:
            channels(settings)
        assert "s3cret" not in str(caught.value)


@pytest.mark.proves("alerts-and-metrics")
def test_the_ping_follows_no_redirect_and_needs_https(receiver: Receiver) -> None:
    """Its address is a secret: who knows it can keep us silent."""
    with pytest.raises(ConfigError, match="PRIMERO_ONA_PING_URL"):
        ping("http://ping.example.org/s3cret")
    receiver.status = 302
    assert not ping(f"http://127.0.0.1:{receiver.port}/alive")
    assert not ping("http://127.0.0.1:9/alive")


def test_a_state_of_an_older_version_is_forgotten() -> None:
    """Standing faults are reported once more, and no look fails."""
    assert State.read(State(seen={"a": "b"}).write()) == State(seen={"a": "b"})
    assert State.read('{"version": 0, "other": 1}') == State.read(None) == State()


@pytest.mark.proves("alerts")
def test_a_real_run_with_a_wrong_password_is_reported_and_its_end(postgres: Any, watch: Watch) -> None:
    """What the steps record is what the message says."""
    with wired(postgres, "alerts", small(20), watch.instance) as graph:
        wrong = GivenPrimero(graph.primero.url, graph.primero.username, "not-it")
        job = graph.wire(primero=wrong).resolve_job_def("sync_quarter")
        assert sync_quarter(job, watch.instance, Q1).kind == RefusedError.__name__
        watch.look()
        assert graph.sync(Q1).kind is None
        watch.look()
    first, second = watch.web.posts
    assert "refuses the login; check PRIMERO_USERNAME" in first["message"]
    assert "Over: The job sync_quarter failed for 2024-Q1" in second["message"]
    assert "not-it" not in json.dumps(watch.web.posts) + str(watch.cursor)
