"""Messages name the section of docs/operations.md that says more: once, and one that is there."""

from __future__ import annotations

import ast
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

import primero_ona
from primero_ona import errors
from primero_ona.errors import PAGE, Anchor, SyncError, with_anchor
from primero_ona.graph.steps import NotLoadedError
from primero_ona.process import unexpected

ROOT = Path(__file__).parents[1]

#: Kinds that say too little by themselves: each message of theirs names a section, or the table of exit codes does.
GENERAL = {"SyncError", "PermanentError", "DataError", "RefusedError", "TransientError"}


def all_errors() -> set[type[SyncError]]:
    for module in pkgutil.walk_packages(primero_ona.__path__, "primero_ona."):
        if "sandbox" not in module.name:
            import_module(module.name)
    found, new = set(), {SyncError}
    while new:
        found |= new
        new = {each for kind in new for each in kind.__subclasses__()} - found
    return {each for each in found if each.__module__.startswith("primero_ona.")}


def sections(page: str) -> set[str]:
    """The anchors of a page: its headings as GitHub writes them in a link, and those that are written out."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a (?:id|name)="([^"]+)">', page))


def test_every_kind_of_error_has_a_section():
    """One without is met at night by somebody who has only its one sentence."""
    for kind in all_errors():
        assert kind.anchor in get_args(Anchor), kind
        assert kind.__name__ in GENERAL or kind.anchor != SyncError.anchor, kind


def test_every_message_of_a_general_kind_names_its_section():
    """The kind alone, as `DataError`, says neither what is at fault nor whom to ask."""
    lacking = [
        f"{path.name}:{call.lineno}"
        for path in (ROOT / "primero_ona").rglob("*.py")
        if "sandbox" not in path.parts
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in GENERAL
        if "see" not in {keyword.arg for keyword in call.keywords}
    ]
    assert not lacking


def test_every_section_that_messages_name_is_on_the_page():
    """A link that leads nowhere is worse than none."""
    missing = set(get_args(Anchor)) - sections((ROOT / PAGE).read_text(encoding="utf-8"))
    assert not missing


def test_a_section_is_named_once_and_the_finer_one_stays():
    """An error's text becomes part of another's: of a check's, of a run's, of an alert's."""
    error = errors.DataError("a text", see="stored-partition")
    assert (str(error), error.shown) == ("a text", f"a text (see {PAGE}#stored-partition)")
    again = errors.CheckError(error.shown)
    assert again.shown == error.shown
    assert with_anchor(NotLoadedError(again.shown).shown, "overdue").count(PAGE) == 1
    assert errors.DataError("a text").shown.endswith("#operations)")
    assert unexpected(ValueError("a secret")).endswith(f"see {PAGE}#internal-error)")


@pytest.mark.parametrize(
    ("heading", "slug"), [("## What `verify` says", "what-verify-says"), ('<a id="x-y"></a>', "x-y")]
)
def test_headings_are_read_as_github_makes_links_of_them(heading: str, slug: str):
    """Else the test of the page would look for what is not there."""
    assert sections(f"{heading}\n") == {slug}
