"""The pages against the code: each claim has a test that proves it, and what a page names is there.

A claim is an anchor, `<a id="lost-scope"></a>`, on any page but docs/operations.md, whose anchors are for messages of the program.
The test that proves it is marked `@pytest.mark.proves("lost-scope")`.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
import typer.main

from primero_ona.cli.app import app

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGE = ROOT / "primero_ona"
FAULTS = ROOT / "docs" / "operations.md"
ANCHOR = re.compile(r'<a id="([^"]*)"></a>')
#: What names a page, and maybe a place on it, in the code.
REFERENCE = re.compile(r"\b((?:docs/[\w-]+|README|CONTRIBUTING)\.md)(?:#([\w-]+))?")
#: Variables that are no settings (any more), and files that are made.
OTHER_VARIABLES = {"PRIMERO_ONA_TESTS_ALL", "PRIMERO_ONA_EXECUTOR"}
OTHER_FILES = {"bench/results/"}
EXAMPLE = re.compile(r"```.*?```", re.DOTALL)


def text_of(page: Path) -> str:
    """What a page says, without its examples of code in a line."""
    return page.read_text(encoding="utf-8").replace('`<a id="lost-scope"></a>`', "")


def claims() -> Counter[str]:
    """How often each claim stands on the pages."""
    return Counter(name for page in PAGES if page != FAULTS for name in ANCHOR.findall(text_of(page)))


def proofs() -> Counter[str]:
    """How many tests say of each claim that they prove it."""
    marks: Counter[str] = Counter()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for call in node.decorator_list:
                    if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.proves":
                        marks.update(ast.literal_eval(argument) for argument in call.args)
    return marks


def places(page: Path) -> list[str]:
    """The anchors of a page, those of its headings included."""
    text = text_of(page)
    headings = re.findall(r"^#+ (.*)", EXAMPLE.sub("", text), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings] + ANCHOR.findall(text)


def test_each_claim_has_its_proof_and_each_proof_its_claim():
    """Readers decide by these pages whether to trust the numbers; what no test proves is a promise only."""
    stated, proved = claims(), proofs()
    assert sorted(stated.keys() - proved.keys()) == [], "claims that no test proves"
    assert sorted(proved.keys() - stated.keys()) == [], "tests that prove what no page claims"
    assert [name for name, times in stated.items() if times > 1] == [], "claims that stand twice"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_anchors_are_short_and_unique(page):
    """Messages name them, and people type them."""
    found = ANCHOR.findall(text_of(page))
    assert [name for name in found if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+){0,3}", name)] == []
    assert [name for name, times in Counter(places(page)).items() if times > 1] == []


@pytest.mark.parametrize("page", ["reliability", "threat-model"])
def test_each_line_of_these_pages_is_a_claim(page):
    """A line without an anchor would be believed without a test."""
    rows = [line for line in text_of(ROOT / "docs" / f"{page}.md").splitlines() if " | " in line]
    bare = [row for row in rows if not row.startswith(("---", "fault |", "who |", '<a id="'))]
    # What only an agreement can prevent has no test.
    assert [row for row in bare if "| agreement;" not in row] == []
    assert len(rows) > 25


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_links_to_exists(page):
    """A module that has moved is not found by those who do not know where it was."""
    for link in re.findall(r"\]\(([^)\s]+)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in places(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_exists(page):
    """Who follows a page must not be sent to a command, a setting or a file that is not there."""
    text = page.read_text(encoding="utf-8")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for line in [*re.findall(r"`([^`\n]+)`", text), *"\n".join(EXAMPLE.findall(text)).splitlines()]:
        words = re.sub(r"^(\S*/)?primero-ona ", "", line).split()
        command = commands.get(words[0]) if words else None
        assert command or not re.match(r"(\S*/)?primero-ona [a-z]", line), line
        assert len(words) == 1 or words[1] in getattr(command, "commands", words), line
    settings = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for name in re.findall(r"\b(?:PRIMERO|ONA)_[A-Z_]+[A-Z]\b", text):
        assert name.removesuffix("_FILE") in settings or name in OTHER_VARIABLES, name
    for name in re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|yaml|sql))`", EXAMPLE.sub("", text)):
        assert (
            name in OTHER_FILES
            or any((at / name).exists() for at in (ROOT, PACKAGE))
            or [*PACKAGE.rglob(name), *TESTS.rglob(name)]
        ), name


def test_operations_has_each_check():
    """Who sees a failed check in the UI has to find what it means."""
    checks = set(re.findall(r"^  \? (\w+)", (TESTS / "graph" / "graph.txt").read_text(encoding="utf-8"), re.MULTILINE))
    assert len(checks) > 15
    assert sorted(checks - set(re.findall(r"`(\w+)`", text_of(FAULTS)))) == []


def test_each_page_and_place_that_the_code_names_exists():
    """A message that sends an operator to a place that is gone is worse than none."""
    sources = [
        path
        for folder in ("primero_ona", "bench", "deploy", "primero_ona_tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".yaml", ".service", ".conf", ".sql"} and ".venv" not in str(path)
    ]
    named = [
        found for path in sources if path != Path(__file__) for found in REFERENCE.findall(path.read_text("utf-8"))
    ]
    assert named
    for page, anchor in named:
        assert (ROOT / page).exists(), page
        assert not anchor or anchor in places(ROOT / page), f"{page}#{anchor}"
