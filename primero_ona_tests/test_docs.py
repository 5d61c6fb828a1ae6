"""The pages in docs/ against the code: what they cite as a proof is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGES = sorted((TESTS.parent / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_test_that_a_page_cites_exists(page):
    """A proof that was renamed away is no proof; readers of these pages decide whether to trust the numbers."""
    sources = {path: path.read_text() for path in TESTS.rglob("test_*.py")}
    known = {name for source in sources.values() for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE)}
    known |= {path.stem for path in sources}
    for cited in re.findall(r"`([^`\n]*test_[^`\n]*)`", page.read_text()):
        for name in re.findall(r"test_\w+", cited):
            cut = cited.endswith("…")
            assert name in known or (cut and any(each.startswith(name) for each in known)), cited


def test_the_reliability_page_names_faults_that_are_played():
    """A fault in the table that nobody plays would be a promise only."""
    from primero_ona_tests.reliability.ona_faults import FAULTS

    page = (TESTS.parent / "docs" / "reliability.md").read_text()
    for name in re.findall(r'"([^"]+)"', page.partition("## ONA's side")[2].partition("## Runs")[0]):
        assert name in FAULTS or any(each.startswith(name.removesuffix("…")) for each in FAULTS), name


@pytest.mark.parametrize("page", [TESTS.parent / "README.md", *PAGES], ids=lambda page: page.stem)
def test_what_a_page_links_to_exists(page):
    """A module that has moved is not found by those who do not know where it was."""
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
