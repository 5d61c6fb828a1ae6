"""A new column is one entry: a copy of the package gets one for `risk_level`, and everything that follows has it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from primero_ona.mapping.labels import MAPPING_VERSION
from primero_ona.pipeline.stored import PULL_VERSION

ROOT = Path(__file__).parents[2]

ENTRY = """
        Column(
            "risk_level",
            "text",
            "How urgent the case is",
            "sensitive",
            "which children are visited first",
            field="risk_level",
            rule="codes",
            added=True,
        ),"""

#: What the sandbox's Primero has of the field, in its form.
FORM = """
    risk_level:
      type: select_box
      en: "Level of risk"
      km: "កម្រិតហានិភ័យ"
      options:
        "high": {en: "High", km: "ខ្ពស់"}
        "low": {en: "Low", km: "ទាប"}"""


def insert(path: Path, text: str, before: str) -> None:
    start, found, rest = path.read_text(encoding="utf-8").partition(before)
    assert found
    path.write_text(start + text + found + rest, encoding="utf-8")


@pytest.fixture
def found(postgres: Any, tmp_path: Path) -> dict[str, Any]:
    """What `new_column.py` finds in a copy of the package that differs by one entry; and a sandbox that has the field."""
    copy = shutil.copytree(ROOT / "primero_ona", tmp_path / "primero_ona", ignore=shutil.ignore_patterns("__pycache__"))
    insert(copy / "contract" / "tables.py", ENTRY, before="\n    ),\n    deciding=(")
    insert(copy / "sandbox" / "forms.yaml", FORM, before="\n    disability_type:")
    result = subprocess.run(
        [sys.executable, "-m", "primero_ona_tests.contract.new_column", postgres.get_uri()],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "FOUND " in result.stdout, result.stderr[-3000:]
    return dict(json.loads(result.stdout.partition("FOUND ")[2].splitlines()[0]))


@pytest.mark.proves("new-column")
@pytest.mark.proves("new-column")
def test_a_column_that_is_declared_is_in_every_place(found: dict[str, Any]) -> None:
    """Forgotten in one place, it would be asked for without a purpose, or stay empty without a word."""
    versions = found.pop("versions")
    assert found == {
        "failures": [None, None],
        "asked": True,
        "raw": ['"high"', '" low "', '["high","low"]', None],
        "planned": ['ALTER TABLE "public"."cases" ADD COLUMN IF NOT EXISTS "risk_level" text;'],
        "mapped": ["high", "low", "high, low", None],
        "ona": ["high", "low", "high, low", None],
        "views": True,
        "faults without it": {"frame: column_in_dataframe": 1},
        "dictionary": [
            ["", "Level of risk", None, None, "risk_level"],
            ["high", "Level of risk", "high", "ខ្ពស់", "risk_level"],
            ["low", "Level of risk", "low", "ទាប", "risk_level"],
        ],
        "schemas": ["mapped_cases", "ona/cases", "raw_reintegration_cases", "raw_under18_cases"],
        "data protection": ["`risk_level` | `risk_level` | which children are visited first | sensitive"],
    }
    # Otherwise partitions without the column would be loaded, and quarters of the past would stay without it.
    assert not {*versions} & {PULL_VERSION, MAPPING_VERSION}
