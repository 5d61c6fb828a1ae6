"""The page of a report in a real browser: both languages and widths, printed, with axe-core, and without a request."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from primero_ona.report.page import page
from primero_ona.report.tables import read_report
from primero_ona_tests.attacks.browser import Browser, chromium
from primero_ona_tests.harness import NOW
from primero_ona_tests.ona.figures import DEFAULTS
from primero_ona_tests.report.test_report import PERIOD, fill

pytestmark = [pytest.mark.chromium, pytest.mark.ci]

#: Carries axe-core 4.12.1; no part of the product, nor of its tests' environment, for it would bring a browser of its own.
AXE = "axe-playwright-python==0.1.8 --hash=sha256:fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8"

WIDTHS = (375, 1_400)

#: Elements that reach beyond the window, but for those that are scrolled by themselves.
_TOO_WIDE = """[...document.querySelectorAll("main *, header *")].filter(each => !each.closest(".scroll, svg")
  && each.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(each => each.outerHTML.slice(0, 100))"""

#: Texts that are seen while the page is in Khmer, in Latin letters, without a mark that says that they have no translation.
_UNMARKED = r"""(() => { const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) { const node = walk.currentNode, parent = node.parentElement;
    if (/[A-Za-z]{3}/.test(node.data) && parent.getClientRects().length && !parent.closest(
      ".u, code, .untranslated, .hidden, .switch, script, style")) found.push(node.data.trim()); }
  return found; })()"""

_SERIOUS = """axe.run().then(found => JSON.stringify(found.violations.filter(each => ["serious", "critical"].includes(each.impact))
  .map(each => [each.id, each.nodes[0].html])))"""


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core, pinned by the hash of the package that carries it."""
    folder = tmp_path_factory.mktemp("axe")
    (folder / "requirements.txt").write_text(AXE)
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(folder)]
    subprocess.run([*words, "--requirement", str(folder / "requirements.txt")], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return wheel.read("axe_playwright_python/axe.min.js").decode()


@pytest.fixture
def pages(ona: psycopg.Connection[Any], tmp_path: Path) -> dict[str, Path]:
    """The internal page of 2024-Q1, and a public one whose counts are texts."""
    fill(ona)
    report = read_report(ona, PERIOD, DEFAULTS, NOW)
    texts = [
        replace(table, cells={cell: "<5" if n < 5 else str((n + 2) // 5 * 5) for cell, n in table.cells.items()})  # type: ignore[misc]
        for table in report.tables
        if table.name not in ("undated", "case_source", "disability_type", "type_of_case")
    ]
    found = {}
    for edition, tables in (("internal", report.tables), ("public", texts)):
        found[edition] = tmp_path / f"{edition}.html"
        found[edition].write_text(page(report, tables, edition, NOW), encoding="utf-8")
    return found


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path) as found:
        for domain in ("Network", "Log", "Runtime", "Page"):
            found.call(f"{domain}.enable")
        yield found


def shown(browser: Browser, path: Path, language: str, width: int) -> None:
    """Open a page in a window of this width, whole."""
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    browser.open("about:blank")
    browser.events.clear()
    browser.open(f"{path.as_uri()}#{language}")
    browser.wait("document.readyState === 'complete' && location.protocol === 'file:'")
    browser.run("document.fonts.ready.then(() => true)")


def test_both_languages_at_both_widths_and_printed(pages: dict[str, Path], browser: Browser, axe: str) -> None:
    """What a ministry opens, on a telephone or at a desk, must be whole, readable by all, and tell nobody that it was opened."""
    for edition, path in pages.items():
        for language in ("en", "km"):
            for width in WIDTHS:
                where = edition, language, width
                shown(browser, path, language, width)
                assert browser.run("document.documentElement.lang") == language, where
                assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), (
                    where
                )
                assert browser.run(_TOO_WIDE) == [], where
                assert browser.run("document.fonts.check('16px \"Report Khmer\"', 'ភេទ')"), where
                browser.run(f"{axe}; true")
                assert browser.run(_SERIOUS) == "[]", where
                asked = [
                    each["params"]["request"]["url"]
                    for each in browser.events
                    if each["method"] == "Network.requestWillBeSent"
                ]
                assert {url.split("#")[0] for url in asked if not url.startswith("data:")} == {path.as_uri()}, where
                faults = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
                assert [each for each in browser.events if each["method"] in faults] == [], where
        assert browser.run(_UNMARKED) == []
        printed = base64.b64decode(
            browser.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"]
        )
        (width, height) = map(float, re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed)[0])
        assert (round(width), round(height)) == (595, 842)
    shown(browser, pages["internal"], "en", 1_400)
    browser.run("document.getElementById('lang-km').click()")
    assert browser.run("[document.documentElement.lang, document.querySelector('#sex-age h2').innerText]")[0] == "km"
    assert "ភេទ" in browser.run("document.querySelector('#sex-age h2').innerText")
    assert json.dumps(browser.run("document.querySelector('.edition').innerText")).count("not to be passed on") == 1
