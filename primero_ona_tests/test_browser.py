"""What people do in the UI, in a real browser against the real webserver and daemon, as `make dev` has them.

PRIMERO_ONA_PICTURES names a folder for a picture of each page; data are synthetic.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from primero_ona.graph.webserver import LINEAGE
from primero_ona_tests.attacks.browser import driven
from primero_ona_tests.attacks.installation import LAUNCH, Installation, execution, installed, process
from primero_ona_tests.harness import Graph, seed_reference, small, wired

pytestmark = [pytest.mark.chromium, pytest.mark.ci]

SECONDS = 120
expect.set_options(timeout=SECONDS * 1000)

#: The order of the data, from what no run makes to what no run makes.
WAY = ("primero", "raw_under18_cases", "mapped_cases", "cases", "indicator_figures", "ona_dashboards")
GROUPS = ("0_primero", "1_extract", "2_map", "3_load", "4_indicators", "5_dashboards")

LINKS = {
    "PRIMERO_ONA_PRIMERO_LINK": "https://primero.example.org/",
    "PRIMERO_ONA_DASHBOARDS_LINK": "https://dashboards.example.org/",
}


#: Pages live by it: without the websocket of its events, a run would stand still until the page is opened again.
WEBSOCKET = (
    "new Promise(done => { const each = new WebSocket(location.origin.replace('http', 'ws') + '/graphql', 'graphql-ws');"
    " each.onopen = () => done('open'); each.onerror = () => done('refused'); })"
)


@pytest.fixture(scope="module")
def graph(postgres: Any) -> Iterator[Graph]:
    with wired(postgres, "browser", small(60)) as graph:
        seed_reference(graph.stored, graph.connect, graph.primero.reference)
        yield graph


@pytest.fixture(scope="module")
def installation(graph: Graph, tmp_path_factory: Any) -> Iterator[Installation]:
    """The daemon starts when nothing runs by itself any more: each run is one that a test has started."""
    folder = tmp_path_factory.mktemp("installation")
    daemon = tmp_path_factory.mktemp("daemon")
    with installed(graph, folder, PRIMERO_ONA_STORAGE_URL=str(graph.folder), **LINKS) as found:
        query = "{ repositoriesOrError { ... on RepositoryConnection { nodes { sensors { id } schedules { id } } } } }"
        (repository,) = found.graphql(query)["nodes"]
        for kind, stop in (("sensors", "stopSensor"), ("schedules", "stopRunningSchedule")):
            for each in repository[kind]:
                found.graphql(f"mutation($p: String!) {{ {stop}(id: $p) {{ __typename }} }}", each["id"])
        shutil.copyfile(folder / "workspace.yaml", daemon / "workspace.yaml")
        with process(["dagster._daemon", "run", "-w", "workspace.yaml"], daemon, found.environment):
            yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with driven() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    page.set_default_timeout(SECONDS * 1000)
    yield page
    page.close()


@pytest.fixture
def picture(page: Page) -> Callable[[str], None]:
    """Take a picture of the page, or of a part of it, once nothing moves any more."""

    def take(name: str, part: Locator | None = None) -> None:
        if folder := os.environ.get("PRIMERO_ONA_PICTURES"):
            page.wait_for_timeout(2_000)
            Path(folder).mkdir(parents=True, exist_ok=True)
            (part or page).screenshot(path=str(Path(folder) / f"{name}.png"))

    return take


def left_of(page: Page, names: tuple[str, ...]) -> list[float]:
    """Where these words stand in the graph, from the left."""
    found = []
    for name in names:
        shown = page.locator("svg foreignObject, svg foreignobject").get_by_text(name, exact=True).first
        expect(shown).to_be_visible()
        box = shown.bounding_box()
        assert box
        found.append(box["x"])
    return found


def ended(installation: Installation, count: int, **filters: Any) -> list[dg.DagsterRun]:
    """The runs, once there are so many and all have ended."""
    until = time.monotonic() + 4 * SECONDS
    while True:
        runs = installation.instance.get_runs(dg.RunsFilter(**filters))
        if len(runs) >= count and all(run.is_finished for run in runs):
            return list(runs)
        assert time.monotonic() < until, [(run.job_name, run.status) for run in runs]
        time.sleep(1)


def open_dialog(page: Page, installation: Installation, path: str, picture: Callable[[str, Locator], None]) -> Locator:
    """Press the button `Materialize…` of a page, and confirm what is asked, until the quarters can be chosen."""
    page.goto(f"{installation.url}{path}")
    page.get_by_role("button", name="Materialize").first.click()
    chosen, dialog = page.get_by_text("Partition selection"), page.locator("[role=dialog]").first
    confirm = page.get_by_role("button", name="Confirm")
    for number in range(1, 4):
        expect(confirm.or_(chosen).first).to_be_visible()
        if chosen.count():
            break
        picture(f"dialog-{path.rpartition('/')[2]}-{number}", dialog)
        pressed = confirm.element_handle()
        pressed.click()
        pressed.wait_for_element_state("hidden")
    picture(f"dialog-{path.rpartition('/')[2]}-quarters", dialog)
    return dialog


def choose(page: Page, dialog: Locator, quarters: str, button: str) -> None:
    """Write quarters into the dialog, and launch them."""
    page.get_by_text("Show all partitions").click()
    field = dialog.locator("input").first
    field.fill(quarters)
    field.press("Enter")
    dialog.get_by_role("button", name=button).click()


def test_the_lineage_opens_unfolded_and_reads_from_primero_to_the_dashboards(
    page: Page, installation: Installation, picture: Any
):
    """The first picture that a ministry sees; folded, its groups stand in the same order."""
    page.goto(f"{installation.url}{LINEAGE}")
    places = left_of(page, WAY)
    assert places == sorted(places), dict(zip(WAY, places, strict=True))
    picture("lineage-unfolded")
    page.goto(f"{installation.url}/asset-groups")
    places = left_of(page, GROUPS)
    assert places == sorted(places), dict(zip(GROUPS, places, strict=True))
    picture("lineage-folded")


def test_what_stands_outside_has_a_link(page: Page, installation: Installation, picture: Any):
    """Who sees a number in the graph can open where it comes from, and where it is shown."""
    for asset, link in zip(("primero", "ona_dashboards"), LINKS.values(), strict=True):
        page.goto(f"{installation.url}/assets/{asset}")
        expect(page.get_by_role("link", name=link).first).to_have_attribute("href", link)
        picture(f"link-{asset}")


def test_a_quarter_by_hand(page: Page, installation: Installation, picture: Any):
    """From the button to the rows in ONA; the run is found by its quarter, though a button started it."""
    dialog = open_dialog(page, installation, "/locations/primero_ona/jobs/sync_quarter", picture)
    choose(page, dialog, "2024-01-01", "Launch 1 run")
    (run,) = ended(installation, 1, tags={"quarter": "2024-Q1"})
    assert run.status == dg.DagsterRunStatus.SUCCESS
    page.goto(f"{installation.url}/runs?q[0]=tag:quarter=2024-Q1")
    expect(page.get_by_text(run.run_id[:8]).first).to_be_visible()
    expect(page.get_by_text("Success").first).to_be_visible()
    assert page.evaluate(WEBSOCKET) == "open"
    picture("runs-by-quarter")
    page.goto(f"{installation.url}/runs/{run.run_id}")
    expect(page.get_by_text("Success").first).to_be_visible()
    picture("run")


def test_a_table_shows_its_rows_and_those_of_the_quarter(
    page: Page, installation: Installation, graph: Graph, picture: Any
):
    """The number beside the table is the table's; the number of a quarter stands at the quarter."""
    ((rows,),) = graph.sql("SELECT count(*) FROM cases")
    page.goto(f"{installation.url}/assets/ona/cases")
    expect(page.get_by_text("Row count").first).to_be_visible()
    expect(page.get_by_text(str(rows), exact=True).first).to_be_visible()
    expect(page.get_by_text("registration_date (personal data: quasi-identifier)").first).to_be_visible()
    picture("table")
    page.goto(f"{installation.url}/assets/ona/cases?view=partitions&partition=2024-01-01")
    expect(page.get_by_text("dagster/partition_row_count").first).to_be_visible()
    picture("table-quarter")


def test_checks_are_shown_by_quarter(page: Page, installation: Installation, picture: Any):
    """Who asks whether a quarter was right looks at that quarter, not at the last run."""
    page.goto(f"{installation.url}/assets/mapped_cases?view=checks&checkDetail=contract")
    tabs = page.get_by_role("tab", name="Partitions")
    expect(tabs).to_have_count(2)
    tabs.last.click()
    page.get_by_text("2024-01-01", exact=True).locator("visible=true").last.click()
    picture("checks-by-quarter")


def test_a_backfill_of_three(page: Page, installation: Installation, picture: Any):
    """One run for each quarter, and each is found by its own."""
    dialog = open_dialog(page, installation, "/assets/ona/cases", picture)
    dialog.get_by_role("button", name="Cancel").click()
    dialog = open_dialog(page, installation, "/locations/primero_ona/jobs/sync_quarter", picture)
    choose(page, dialog, "[2023-10-01...2024-04-01]", "Launch backfill")
    until = time.monotonic() + SECONDS
    while not (found := installation.instance.get_backfills()):
        assert time.monotonic() < until
        time.sleep(0.5)
    runs = ended(installation, 3, tags={"dagster/backfill": found[0].backfill_id})
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    assert {run.tags["quarter"] for run in runs} == {"2023-Q4", "2024-Q1", "2024-Q2"}
    page.goto(f"{installation.url}/runs/b/{found[0].backfill_id}")
    # The status, and the column of the table.
    expect(page.get_by_text("Succeeded", exact=True)).to_have_count(2)
    picture("backfill")


def test_the_page_of_a_failed_run_says_what_to_do(page: Page, installation: Installation, graph: Graph, picture: Any):
    """One sentence that may be pasted into a chat, and the section that says more; nothing is masked."""
    graph.sql("ALTER TABLE services RENAME COLUMN service_type TO type_of_service")
    try:
        answer = installation.graphql(LAUNCH, execution("sync_quarter"))
        (run,) = ended(installation, 1, run_ids=[answer["run"]["runId"]])
    finally:
        graph.sql("ALTER TABLE services RENAME COLUMN type_of_service TO service_type")
    assert run.status == dg.DagsterRunStatus.FAILURE
    page.goto(f"{installation.url}/runs/{run.run_id}")
    expect(page.get_by_text("(see docs/operations.md#ona-schema)").first).to_be_visible()
    expect(page.get_by_text("masked")).to_have_count(0)
    picture("failed-run")


@pytest.mark.proves("report")
@pytest.mark.proves("report-markup")
def test_a_report_is_opened_from_its_asset(
    page: Page, browser: Browser, installation: Installation, graph: Graph, picture: Any
):
    """From the button to the page: the path that the UI shows is one that asks no one for anything, in both languages."""
    answer = installation.graphql(LAUNCH, execution("sync_quarter"))
    ended(installation, 1, run_ids=[answer["run"]["runId"]])
    dialog = open_dialog(page, installation, "/assets/indicator_report", picture)
    choose(page, dialog, "2024-01-01", "Launch 1 run")
    runs = ended(installation, 1, tags={"dagster/partition": "2024-01-01"}, job_name="__ASSET_JOB")
    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS]
    page.goto(f"{installation.url}/assets/indicator_report?view=partitions&partition=2024-01-01")
    path = page.get_by_text(re.compile(r"^/.+/primero-ona-2024-Q1-internal\.html$")).first
    expect(path).to_be_visible()
    picture("report-asset")
    shown = dict(
        graph.sql(
            f"SELECT '{name}', children FROM indicator_{name.replace('.', '_')} "
            "WHERE period = 'quarter' AND period_start = '2024-01-01' AND dimension = 'all'"
        )[0]
        for name in ("4.8", "4.11a")
    )
    asked, said = [], []
    report = browser.new_page(viewport={"width": 1600, "height": 900})
    report.on("request", lambda request: asked.append(request.url))
    report.on("console", lambda message: said.append(message.text))
    report.on("pageerror", lambda error: said.append(str(error)))
    report.goto(Path(path.inner_text()).as_uri())
    figures = report.locator("#figures article")
    assert {each.locator(".number").inner_text(): each.locator(".big b").inner_text() for each in figures.all()} == {
        name: f"{children:,}" for name, children in shown.items()
    }
    heading = report.locator("#sex-age h2")
    for language, word in (("English", "Sex"), ("ខ្មែរ", "ភេទ"), ("English", "Sex")):
        report.get_by_text(language, exact=True).click()
        expect(heading).to_contain_text(word, use_inner_text=True)
        picture(f"report-{word}", report.locator("body"))
    assert [url for url in asked if not url.startswith("data:")] == [report.url]
    assert said == []
    report.close()
