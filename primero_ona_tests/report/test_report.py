"""The report: its page, workbook and CSV say what ONA has, in two languages, and nothing that a person wrote is run."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psycopg
import pytest

from primero_ona.contract.derived import UNCONFIRMED
from primero_ona.errors import ConfigError, DataError, SyncError, UsageError
from primero_ona.ona.reference import read_dictionary
from primero_ona.ona.revisions import read_published
from primero_ona.pipeline.reference import fill_dictionary, fill_lookup
from primero_ona.quarters import Quarter
from primero_ona.report import files
from primero_ona.report.files import write_report
from primero_ona.report.page import TILES
from primero_ona.report.tables import Period, read_report
from primero_ona.report.words import PROVINCE
from primero_ona.sandbox.changes import ReferenceData
from primero_ona_tests.harness import NOW, Q1, reference_lists
from primero_ona_tests.ona.figures import DEFAULTS, computed, stored
from primero_ona_tests.ona.rows import case, load, service

PERIOD = Period.of_quarter(Q1)

#: What a person may have written where an option is due.
ATTACK = "=HYPERLINK(1)</td><script>alert(1)</script>"

#: Of the page's tables: the class of the list of values, and the figures' dimension.
RANKED = ("placement_type", "province", "disability", "disability_type", "service_type", "case_source")


class _Page(HTMLParser):
    """The rows of a page's tables, in English, and all its texts in Khmer."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.khmer: list[str] = []
        self.spans: list[str] = []
        self.scripts = 0
        self._cell = self._label = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True
        elif tag == "span":
            self.spans.append(dict(attrs).get("class") or "")
        elif tag == "label":
            self._label = True
        self.scripts += tag == "script"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False
        elif tag == "span":
            self.spans.pop()
        elif tag == "label":
            self._label = False

    def handle_data(self, data: str) -> None:
        if "km" in self.spans:
            self.khmer.append(data)
        elif self._cell:
            self.rows[-1][-1] += data.strip()


def read_page(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def fill(conn: psycopg.Connection[Any]) -> None:
    """Children of several kinds in 2024-Q1, and what their labels are in Khmer."""
    data = reference_lists(ReferenceData())
    fill_lookup(conn, data, NOW)
    fill_dictionary(conn, data)
    cases = [
        case(
            number,
            sex=("Male", "Female", None)[number % 3],
            age=(2, 7, 12, 16, None)[number % 5],
            disabled="Vision Disability" if number % 7 == 0 else None,
            province_current=("Kandal", "Kratie", "Phnom Penh", ATTACK)[number % 4],
            placement_type=("kinship care", "foster care")[number % 2],
            case_source=("primero", "oscar")[number % 2],
            care_date=datetime(2024, 2, 1 + number % 28, tzinfo=UTC).date(),
        )
        for number in range(1, 61)
    ]
    services = [
        service(number, number, service_type=("Counselling", "Anti-Trafficking", ATTACK)[number % 3]) for number in range(1, 41)
    ]  # fmt: skip
    load(conn, cases, services)
    computed(conn)


@pytest.fixture
def figures(ona: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    fill(ona)
    return ona


def written(conn: psycopg.Connection[Any], folder: Path, period: Period = PERIOD) -> dict[str, Path]:
    paths = write_report(conn, period, DEFAULTS, "internal", folder / "reports", NOW)
    return {path.suffix: path for path in paths}


@pytest.mark.proves("report")
def test_page_workbook_and_csv_have_the_figures_of_ona(figures: psycopg.Connection[Any], tmp_path: Path) -> None:
    """A number that differs from the table's is a wrong number; each stands beside the definition and that none is confirmed."""
    known = stored(figures)
    report = read_report(figures, PERIOD, DEFAULTS, NOW)
    files = written(figures, tmp_path)
    shown = read_page(files[".html"])
    rows = list(csv.DictReader(io.StringIO(files[".csv"].read_text(encoding="utf-8-sig"))))
    in_csv = {
        (row["indicator"], row["definition"], row["period"], row["period_start"], row["table"], row["label_1"], row["label_2"]):
            int(row["children"]) for row in rows
    }  # fmt: skip
    compared = 0
    for table in report.tables:
        place = table.indicator, table.variant, table.period, table.period_start
        dimension = {"total": "all", "undated": "coverage"}.get(table.name, table.name)
        values = {(): "undated" if table.name == "undated" else "all"} if not table.dimensions else None
        of_ona = {key[5]: number for key, number in known.items() if key[:5] == (*place, dimension)}
        for labels, number in table.cells.items():
            assert of_ona[values[labels] if values else " × ".join(labels)] == number
            compared += 1
        if table.dimensions:
            assert table.cells.keys() == {tuple(value.rsplit(" × ", len(table.dimensions) - 1)) for value in of_ona}
        if table.name in RANKED:
            for labels, number in table.cells.items():
                label = report.words.value(table.dimensions[0], labels[0]).en
                assert any(label in row and f"{number:,}" in row for row in shown.rows), (label, number)
        start = table.period_start.isoformat()
        for labels, number in table.cells.items():
            english = [report.words.value(name, label).en for name, label in zip(table.dimensions, labels, strict=True)]
            guarded = [f"'{text}" if text.startswith("=") else text for text in english]
            key = (*place[:3], start, table.name, *([*guarded, "", ""])[:2])
            assert in_csv.pop(key) == number
    assert not in_csv
    assert compared > 50
    assert {row["note"] for row in rows} == {UNCONFIRMED}
    text = files[".html"].read_text(encoding="utf-8")
    assert text.count(UNCONFIRMED) >= text.count("</figure>") + 4
    with zipfile.ZipFile(files[".xlsx"]) as book:
        sheets = re.findall(r'<sheet name="([^"]+)"', book.read("xl/workbook.xml").decode())
        assert len(sheets) == 2 + sum(table.name != "total" for table in report.tables)
        sheet = book.read(f"xl/worksheets/sheet{1 + sheets.index('4.11a province')}.xml").decode()
    provinces = next(t for t in report.tables if (t.name, t.indicator) == ("province", "4.11a"))
    assert sorted(map(int, re.findall(r'<c r="C\d+"><v>(\d+)</v>', sheet))) == sorted(provinces.cells.values())


@pytest.mark.proves("report-markup")
def test_what_people_wrote_is_shown_and_never_run(figures: psycopg.Connection[Any], tmp_path: Path) -> None:
    """A value of Primero's is anybody's text: in a page it is no markup, in a spreadsheet no formula."""
    files = written(figures, tmp_path)
    html = files[".html"].read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert read_page(files[".html"]).scripts == 1
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy.startswith(("default-src &#39;none&#39;;", "default-src 'none';"))
    assert not re.findall(r"(?:src|href)\s*=\s*\"(?!#)", html)
    cells = [cell for row in csv.reader(io.StringIO(files[".csv"].read_text(encoding="utf-8-sig"))) for cell in row]
    assert any(cell.startswith("'=HYPERLINK") for cell in cells)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    with zipfile.ZipFile(files[".xlsx"]) as book:
        content = "".join(book.read(name).decode() for name in book.namelist() if name.endswith(".xml"))
    assert "=HYPERLINK(1)&lt;/td" in content
    assert "<f>" not in content
    assert "<hyperlink" not in content


@pytest.mark.proves("report-khmer")
def test_khmer_is_that_of_the_sources_and_what_has_none_is_marked(
    figures: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """A word that a program made up would stand in a report of the ministry's."""
    shown = read_page(written(figures, tmp_path)[".html"])
    rows = read_dictionary(figures)
    known = {str(row[name]) for row in rows for name in ("field_label_km", "option_value_km")} | {str(PROVINCE.km)}
    known |= {str(name) for (name,) in figures.execute("SELECT province_km FROM locations_lookup")}
    assert {text for text in shown.khmer if re.search("[\u1780-\u17ff]", text)} <= known
    assert {"ភេទ", "ស្រី", "គ្រួសារសាច់ញាតិ", "ខេត្ត"} <= set(shown.khmer)
    html = written(figures, tmp_path)[".html"].read_text(encoding="utf-8")
    assert '<span class="u" lang="en">Anti-Trafficking</span>' in html
    words = read_report(figures, PERIOD, DEFAULTS, NOW).words
    assert set(words.provinces) == set(TILES)
    both = words.value("placement_type", "kinship care, foster care")
    assert both.km == "គ្រួសារសាច់ញាតិ, គ្រួសារធម៌"
    assert words.value("placement_type", "kinship care, something else").km is None


@pytest.mark.proves("report")
def test_a_revision_is_named_with_its_reason(figures: psycopg.Connection[Any], tmp_path: Path) -> None:
    """Two reports of one quarter that differ without a word are not believed."""
    assert "has changed since its period closed" in written(figures, tmp_path)[".html"].read_text(encoding="utf-8")
    load(figures, [case(99, age=3)], [service(99, 99)], run_id="late")
    computed(figures, run_id="late")
    told = {tuple(row[1:]) for row in read_page(written(figures, tmp_path)[".html"]).rows if len(row) == 5}
    for indicator in ("4.11a", "4.11a by registered_or_served"):
        assert any(row[0] == f"{indicator}, 2024-Q1:all children" and row[3] == "late registration" for row in told), (
            told
        )
    assert ("4.11a, 2024-Q1:all children", "40", "41", "late registration") in told, told
    year = written(figures, tmp_path, Period.of_year(2024))
    assert year[".html"].name == "primero-ona-2024-internal.html"
    assert any(
        row[0].startswith("2024-Q1") and row[1] == "41" for row in read_page(year[".html"]).rows if len(row) == 3
    )


@pytest.mark.proves("report")
def test_all_totals_that_are_shown_name_their_revisions(figures: psycopg.Connection[Any], tmp_path: Path) -> None:
    """Also those of the year before, and of other definitions; in order, and without what a backfill brought."""
    insert = """INSERT INTO primero_sync.indicator_history
      (indicator, variant, period, period_start, dimension, value, old, new, changed_at, run_id, reason)
      VALUES ('4.11a', %s, 'year', %s, 'all', 'all', %s, %s, timestamptz '2024-05-01 08:00+07' + %s * interval '1 s', 'late', %s)"""
    for row in (
        ("served", "2023-01-01", 0, 9, 1, "first load of a past quarter"),
        ("served", "2023-01-01", 9, 1, 2, "correction"),
        ("served", "2023-01-01", 1, 7, 3, "late registration"),
        ("open", "2024-01-01", 1, 2, 1, "correction"),
        ("served", "2022-01-01", 1, 2, 1, "correction"),
    ):
        figures.execute(insert, row)
    shown = read_page(written(figures, tmp_path, Period.of_year(2024))[".html"])
    assert [tuple(row[1:]) for row in shown.rows if len(row) == 5 and row[0] != "When"] == [
        ("4.11a by open, 2024:all children", "1", "2", "correction"),
        ("4.11a, 2023:all children", "1", "7", "late registration"),
        ("4.11a, 2023:all children", "9", "1", "correction"),
    ]


@pytest.mark.proves("public-edition")
def test_the_public_edition_says_of_revisions_only_what_its_texts_show(
    figures: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """That an exact count has changed, when and why, says what <5 hides."""

    def section() -> str:
        path = write_report(figures, PERIOD, DEFAULTS, "public", tmp_path, NOW)[0]
        found = re.search(r'id="revisions".*?</section>', path.read_text(encoding="utf-8"), re.DOTALL)
        assert found
        return found[0]

    first = section()
    assert "shown otherwise in an earlier" in first
    # A 41st child, which all public tables show as 40, and which a table that is not public has as well.
    load(figures, [case(99, age=3, type_of_case="x")], [service(99, 99)], run_id="late")
    computed(figures, run_id="late")
    assert section() == first
    load(figures, [case(n, age=3) for n in range(200, 230)], [service(n, n) for n in range(200, 230)], run_id="late-2")
    computed(figures, run_id="late-2")
    revised = section()
    assert "4.11a, 2024-Q1: all children" in revised
    assert "late registration" not in revised
    assert section() == revised


@pytest.mark.proves("published-before")
def test_the_public_edition_is_read_under_the_lock_of_the_loads(
    figures: psycopg.Connection[Any], ona_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two publications would otherwise each be of figures from before the other, and the older one be the last."""
    lock = files.lock_loads

    def after_another(conn: psycopg.Connection[Any]) -> None:
        with psycopg.connect(ona_url) as other:
            other.execute(
                "UPDATE indicator_figures SET children = 1000 WHERE dimension = 'all' AND variant = 'registered'"
            )
        lock(conn)

    monkeypatch.setattr(files, "lock_loads", after_another)
    table = write_report(figures, PERIOD, DEFAULTS, "public", tmp_path, NOW)[2]
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"))))
    assert {row["children"] for row in rows if (row["table"], row["definition"]) == ("total", "registered")} == {"1000"}


@pytest.mark.parametrize(
    ("period", "edition", "folder", "error"),
    [
        (Period.of_year(1999), "internal", "reports", DataError),
        (Period.of_quarter(Quarter.of(NOW)), "public", "reports", UsageError),
        (PERIOD, "internal", "file/reports", ConfigError),
    ],
    ids=["no figures", "a public edition of a period that runs", "no folder"],
)
def test_what_cannot_be_written_is_refused_in_one_sentence_and_leaves_no_file(
    figures: psycopg.Connection[Any], tmp_path: Path, period: Period, edition: Any, folder: str, error: type[SyncError]
) -> None:
    """Half a report, or the exact one in place of the public one, would be taken for the whole."""
    (tmp_path / "file").write_text("")
    with pytest.raises(error):
        write_report(figures, period, DEFAULTS, edition, tmp_path / folder, NOW)
    assert not list(tmp_path.glob("**/primero-ona*"))


@pytest.mark.proves("internal-report")
def test_files_say_their_edition_and_are_their_owners_alone(figures: psycopg.Connection[Any], tmp_path: Path) -> None:
    """They hold exact counts of children."""
    paths = written(figures, tmp_path).values()
    assert {path.name for path in paths} == {f"primero-ona-2024-Q1-internal.{kind}" for kind in ("html", "xlsx", "csv")}
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    assert (tmp_path / "reports").stat().st_mode & 0o777 == 0o700
    assert (
        "Internal edition: not to be passed on" in (tmp_path / "reports/primero-ona-2024-Q1-internal.html").read_text()
    )


@pytest.mark.proves("public-edition")
def test_the_public_edition_says_so_and_has_no_exact_count(figures: psycopg.Connection[Any], tmp_path: Path) -> None:
    """What is given out is kept before, so that later editions are made beside it."""
    page, _, table = write_report(figures, PERIOD, DEFAULTS, "public", tmp_path, NOW)
    assert "Public edition" in page.read_text()
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"))))
    shown = {row["children"] for row in rows}
    assert all(text == "<5" or int(text) % 5 == 0 for text in shown if text.removeprefix("<").isdigit())
    assert "<5" in shown
    kept = {table["name"] for table in read_published(figures)}
    assert kept == {row["table"] for row in rows} > {"total", "sex_age", "province"}
    again = write_report(figures, PERIOD, DEFAULTS, "public", tmp_path / "again", NOW)[2]
    assert again.read_text() == table.read_text()
