"""Primero's side: whatever its server, a proxy or the network does, a quarter comes whole, or the pull says that it did not.

Dropped filters, swallowed errors, cut pages, ties, edits between two pages, zones, roles and versions are proved on the
pull itself in `primero_ona_tests/primero/test_pull.py`; here is what goes beyond one pull: patience, many edits, real runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from random import Random

import orjson
import pytest

from primero_ona.errors import RefusedError, TransientError
from primero_ona.primero import client as client_module
from primero_ona.primero.changes import changes_since
from primero_ona.primero.client import PATIENCE, RETRIES, RETRY_AFTER_MAX, SILENT_RETRIES, TIMEOUT, PrimeroClient
from primero_ona.primero.pull import pull_cases
from primero_ona.primero.walk import Window
from primero_ona.sandbox.cases import Wish
from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests import quick
from primero_ona_tests.harness import NOW, Q1, Q2, Clock, GivenPrimero
from primero_ona_tests.primero.pulling import Kept, truth
from primero_ona_tests.primero.test_bounds import serving
from primero_ona_tests.reliability.syncing import sync_plainly


def asked(primero: SandboxPrimero) -> PrimeroClient:
    return PrimeroClient(primero.url, primero.username, primero.password, pause=0)


@pytest.fixture
def primero() -> Iterator[SandboxPrimero]:
    with SandboxPrimero(Wish(150, seed=4, now=NOW, quarters=2), clock=Clock()).serve() as server:
        yield server


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the client would have made, in seconds; none is made."""
    made: list[float] = []
    monkeypatch.setattr(client_module.time, "sleep", made.append)
    return made


@pytest.mark.parametrize("seed", quick(range(20), 0, 1))
@pytest.mark.proves("edits-during-pull")
def test_after_hundreds_of_edits_between_its_requests_the_next_pull_has_exactly_primeros_cases(seed):
    """Twenty edits between two pages cost the old pipeline nine cases; 20 seeds make four thousand edits here."""
    random, clock = Random(seed), Clock()
    with (
        SandboxPrimero(Wish(120, seed=seed, now=NOW, quarters=2), clock=clock).serve() as primero,
        asked(primero) as client,
    ):
        primero.switches.per_cap = 15
        ids = [case["id"] for case in primero.cases.records()]

        def work(server: SandboxPrimero) -> None:
            for _ in range(20):
                clock.move(seconds=random.choice((0, 0.5, 3600)))
                act = random.random()
                if act < 0.1:
                    ids.append(server.create(age=random.randint(0, 30)))
                elif act < 0.2:
                    server.disable(random.choice(ids))
                else:
                    server.update(random.choice(ids), status=random.choice(("open", "closed")))

        for quarter in (Q1, Q2):
            window = Window(quarter.start, quarter.end, quarter == Q2)
            for request in range(4, 14):
                primero.after(request, work)
            before, first, second = truth(primero, quarter), Kept(), Kept()
            pull_cases(client, window, first)
            assert set(first.ids) >= before & truth(primero, quarter)
            for _ in range(14):  # whatever edits are still to come
                client.page("cases", {"per": 0})
            pull_cases(client, window, second)
            assert sorted(second.ids) == sorted(truth(primero, quarter))


@pytest.mark.proves("late-commit")
def test_a_row_committed_late_with_an_older_stamp_is_noticed_by_the_next_look(primero):
    """Its stamp is older than the newest one seen, so a cursor that only compares stamps would never ask for it."""
    with asked(primero) as client:
        seen = changes_since(client, None)
        assert changes_since(client, seen).quarters == ()
        newest = max(case["last_updated_at"] for case in primero.cases.records())
        late = client_module.datetime.fromisoformat(newest) - timedelta(minutes=20)
        primero.create(age=7, last_updated_at=late)
        assert Q2 in changes_since(client, seen).quarters


@pytest.mark.proves("retries")
def test_the_waiting_for_one_answer_has_a_stated_total():
    """Retries within retries once made 3 × 5 × 60 seconds of pauses that no comment mentioned."""
    backing_off = sum(2**attempt + 1 for attempt in range(RETRIES))
    assert backing_off == 36
    assert RETRIES * RETRY_AFTER_MAX == 300
    assert (SILENT_RETRIES + 1) * TIMEOUT[1] + backing_off < PATIENCE == 900


@pytest.mark.parametrize(
    ("kind", "details", "requests"),
    [
        ("status", {"status": 500}, RETRIES + 1),
        ("html", {"status": 502}, RETRIES + 1),
        ("too many", {}, RETRIES + 1),
        ("unavailable", {"seconds": 600}, RETRIES + 1),
        ("cut", {}, RETRIES + 1),
        ("truncated", {}, RETRIES + 1),
        ("broken gzip", {}, RETRIES + 1),
        ("reset", {}, SILENT_RETRIES + 1),
    ],
    ids=str,
)
@pytest.mark.proves("retries")
def test_a_fault_for_ever_is_asked_a_counted_number_of_times_and_is_then_transient(
    primero, pauses, kind, details, requests
):
    """Without an end a run hangs for days; without a second try every hiccup is a failed night."""
    primero.fail(kind, times=None, **details)
    with (
        PrimeroClient(primero.url, primero.username, primero.password) as client,
        pytest.raises(TransientError) as raised,
    ):
        client.page("cases", {"per": 1})
    assert len(primero.log) == requests
    assert f"{requests} times" in str(raised.value)
    assert "try again later" in str(raised.value)
    assert sum(pauses) <= (300 if kind == "unavailable" else 36)


#: Those of Primero and of its web server, of Cloudflare and other proxies, and one that no list has.
PASSING = (408, 425, 429, 499, 500, 502, 503, 504, 507, 508, 509, *range(520, 528), 529, 530, 540, 598, 599)
LASTING = (400, 402, 405, 406, 407, 409, 410, 413, 414, 421, 422, 451, 501, 505, 511)


@pytest.mark.parametrize("status", PASSING)
@pytest.mark.proves("retries")
def test_a_status_that_passes_is_asked_again_and_then_transient(primero, status):
    """A proxy in front of Primero has statuses of its own; a 520 that is taken for lasting costs the night."""
    primero.fail("html", times=1, status=status)
    with asked(primero) as client:
        assert client.page("cases", {"per": 1}).total == 150
        primero.fail("html", times=None, status=status)
        with pytest.raises(TransientError, match=f"kept answering cases with {status}, 6 times over; try again"):
            client.page("cases", {"per": 1})
    assert len(primero.log) == 2 + RETRIES + 1


@pytest.mark.parametrize("status", LASTING)
@pytest.mark.proves("retries")
def test_a_status_that_does_not_pass_is_asked_once(primero, status):
    """Asking again would only hide for half a minute what an administrator has to do."""
    primero.fail("html", times=None, status=status)
    with asked(primero) as client, pytest.raises(RefusedError, match=f"refuses cases with status {status}"):
        client.page("cases", {"per": 1})
    assert len(primero.log) == 1


@pytest.mark.proves("retries")
def test_two_kinds_of_trouble_share_one_count(primero, pauses):
    """Each broken body used to grant five more tries to every other kind of trouble."""
    for _ in range(6):
        primero.fail("cut", times=1)
        primero.fail("status", status=503, times=1)
    with PrimeroClient(primero.url, primero.username, primero.password) as client, pytest.raises(TransientError):
        client.page("cases", {"per": 1})
    assert len(primero.log) == RETRIES + 1


@pytest.mark.proves("retries")
def test_a_server_that_names_a_time_is_given_it(primero, pauses):
    """Primero says 60 seconds while a configuration is applied; asking sooner only adds to its load."""
    primero.fail("unavailable", times=2, seconds=45)
    with PrimeroClient(primero.url, primero.username, primero.password) as client:
        assert client.page("cases", {"per": 1}).total == 150
    assert pauses == [45, 45]


@pytest.mark.proves("retries")
def test_no_attempt_is_begun_after_the_patience_is_spent(primero, pauses, monkeypatch):
    """The total must hold whatever the pauses: a minute of patience does not allow a third pause of 25 seconds."""
    primero.fail("unavailable", times=None, seconds=25)
    monkeypatch.setattr(client_module, "PATIENCE", 20)
    credentials = (primero.url, primero.username, primero.password)
    with PrimeroClient(*credentials) as client, pytest.raises(TransientError):
        client.page("cases", {"per": 1})
    assert (len(primero.log), pauses) == (1, [])


@pytest.mark.proves("slow-answer")
def test_an_answer_that_never_ends_is_left(primero, monkeypatch):
    """It keeps trickling, so that no limit on silence ever meets it."""
    primero.fail("endless", times=None)
    monkeypatch.setattr(client_module, "ANSWER_SECONDS", 0.3)
    with asked(primero) as client, pytest.raises(TransientError, match="did not end"):
        client.page("cases", {"per": 1})


@pytest.mark.proves("slow-answer")
def test_the_questions_of_one_client_share_a_total(primero):
    """Two answers that are slow but honest cost a tick of the sensor more than Dagster gives it."""
    primero.fail("silence", times=None, seconds=0.6)
    credentials = (primero.url, primero.username, primero.password)
    with PrimeroClient(*credentials, pause=0, total=1) as client:
        assert client.page("cases", {"per": 1}).total == 150
        with pytest.raises(TransientError, match="did not end its answer to cases"):
            client.page("cases", {"per": 1})


@pytest.mark.proves("retries")
def test_silence_is_given_up_after_three_tries(primero, monkeypatch):
    """Five minutes of silence, with the time limits shortened a thousandfold."""
    primero.fail("silence", times=None, seconds=2)
    monkeypatch.setattr(client_module, "TIMEOUT", (1, 0.2))
    with (
        asked(primero) as client,
        pytest.raises(TransientError, match="did not answer cases in time, 3 times"),
    ):
        client.page("cases", {"per": 1})


@contextmanager
def speaking(body: bytes) -> Iterator[str]:
    """A server that gives one JSON body to everybody; its URL."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with serving(lambda connection: connection.sendall(head.encode() + body)) as url:
        yield url


@pytest.mark.parametrize("value", ["1e999", "-1e400", "1" + "0" * 400, '"\\ud800"', "18446744073709551616", "NaN"])
@pytest.mark.proves("odd-value")
def test_one_value_that_the_quick_decoder_refuses_does_not_cost_the_page(value):
    """orjson refuses a whole answer for one number beyond a double, or half a character: a batch lost to one typo."""
    body = b'{"data":[{"id":"x","age":' + value.encode() + b'}],"metadata":{"total":1,"per":1,"page":1}}'
    with speaking(body) as url, PrimeroClient(url, "u", "p", pause=0) as client:
        row = client.page("cases", {}).rows[0]
    assert orjson.loads(client_json(row["age"])) is None or row["age"] is not None


def client_json(value: object) -> str:
    from primero_ona.texts import json_text

    text = json_text(value)
    try:
        orjson.loads(text or "null")
    except orjson.JSONDecodeError:
        return "null"  # the mapping reads such a text as unreadable, reports it and goes on
    return text or "null"


@pytest.mark.proves("refused-login")
def test_a_wrong_password_is_asked_once_by_a_run_and_the_run_is_not_tried_again(graph):
    """Six failed logins lock the account of everybody who uses it, and run retries are asked by a daemon."""
    wrong = GivenPrimero(graph.primero.url, graph.primero.username, "wrong")
    graph.defs = graph.wire(primero=wrong)
    outcome = graph.sync(Q1)
    assert (outcome.kind, "refuses the login" in (outcome.failure or "")) == ("RefusedError", True)
    assert len([entry for entry in graph.primero.log if entry.status == 401]) == len(graph.primero.log) == 1
    run = graph.instance.get_run_by_id(outcome.run_id)
    assert run.tags["dagster/retry_on_asset_or_op_failure"] == "false"


@pytest.mark.proves("refused-login")
def test_a_wrong_password_is_asked_once_by_verify(graph):
    """Verify asks for one case after the other; each with a wrong password would lock the account at the sixth."""
    from primero_ona.ona.connection import connect
    from primero_ona.pipeline.reconcile import reconcile
    from primero_ona.pipeline.stored import Scope

    with (
        PrimeroClient(graph.primero.url, graph.primero.username, "wrong", pause=0) as client,
        connect(graph.url) as conn,
        pytest.raises(RefusedError, match="refuses the login"),
    ):
        reconcile(client, conn, Scope(Q1))
    assert len(graph.primero.log) == 1


@pytest.mark.proves("refused-login")
def test_a_wrong_password_is_asked_once_by_a_tick_of_the_sensor(graph):
    """It ticks every quarter of an hour."""
    import dagster as dg

    wrong = GivenPrimero(graph.primero.url, graph.primero.username, "wrong")
    sensor = graph.defs.get_sensor_def("watch_primero")
    context = dg.build_sensor_context(
        instance=graph.instance, resources={"primero": wrong, "ona": graph.resources["ona"]}, cursor=None
    )
    found = sensor(context)
    assert (len(graph.primero.log), found.run_requests) == (1, [])
    assert "refuses the login" in found.skip_reason.skip_message


@pytest.mark.proves("retries")
def test_a_run_that_primero_breaks_is_transient_for_dagster_and_the_next_one_heals(graph, is_right, monkeypatch):
    """One 502 lost 172 cases; here the run fails, says so, may be tried again by Dagster, and leaves nothing half done."""
    sync_plainly(graph)
    before = graph.sql("SELECT xmin::text, * FROM cases ORDER BY case_id")
    graph.primero.fail("html", status=502, after=3, times=None)
    outcome = graph.sync(Q2)
    assert outcome.kind == "TransientError"
    assert "try again later" in (outcome.failure or "")
    assert "dagster/retry_on_asset_or_op_failure" not in graph.instance.get_run_by_id(outcome.run_id).tags
    assert graph.sql("SELECT xmin::text, * FROM cases ORDER BY case_id") == before
    graph.primero.faults.clear()
    sync_plainly(graph, Q2)
    is_right()
