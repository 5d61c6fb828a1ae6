"""Write a report into a folder: the page, a workbook with a sheet for each table, and CSV; each says which edition it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import psycopg
import xlsxwriter

from primero_ona.contract.derived import INDICATOR_REPORT, UNCONFIRMED
from primero_ona.errors import ConfigError, UsageError
from primero_ona.ona.connection import lock_loads, translate_errors
from primero_ona.ona.revisions import keep_published, read_published
from primero_ona.report.page import page
from primero_ona.report.public import OTHER, PublicTable, publish, revised
from primero_ona.report.tables import Cell, Period, Report, Shown, read_report, report_of
from primero_ona.report.words import Number, Text, Words
from primero_ona.storage.places import write_file

#: `internal` is exact and stays with those who may see it; `public` is what may leave.
Edition = Literal["internal", "public"]

#: A spreadsheet that opens CSV takes a text that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_report(
    conn: psycopg.Connection, period: Period, variants: Mapping[str, str], edition: Edition, folder: Path, now: datetime
) -> list[Path]:
    """Write the report of a period as HTML, XLSX and CSV, readable by their owner only; return the files, the page first.

    `variants`: the definition of each indicator. Raises DataError where ONA has no figures of the period, ConfigError where
    the folder cannot be written to.
    """
    before: Sequence[PublicTable] = ()
    tables: Sequence[Shown]
    if edition == "internal":
        report = read_report(conn, period, variants, now)
        tables = report.tables
    else:
        report, tables, before = published(conn, period, variants, now)
    contents = {
        "html": page(report, tables, edition, now, revised(tables, before)).encode(),
        "xlsx": workbook(report, tables, edition, now),
        "csv": as_csv(report.words, tables, edition),
    }
    paths = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for ending, content in contents.items():
            paths.append(folder / f"primero-ona-{period.name}-{edition}.{ending}")
            write_file(paths[-1], content)
    except OSError as error:
        raise ConfigError(f"the report cannot be written to {folder} ({error.strerror}); name another folder") from None
    return paths


def published(
    conn: psycopg.Connection, period: Period, variants: Mapping[str, str], now: datetime
) -> tuple[Report, Sequence[PublicTable], Sequence[PublicTable]]:
    """The report, what the public edition shows of it, and all that was published before, oldest first.

    What is shown is made beside what was published before, and kept before it is given out.

    Raises DataError where ONA has no figures of the period, UsageError where it has not ended: each day's edition would tell what
    that day has added.
    """
    if period.last.end > now:
        raise UsageError(
            f"{period.label} has not ended, and only periods that have ended are published; `--internal` makes the exact "
            "edition, which may not be passed on"
        )
    with translate_errors("publishing a report"), conn.transaction():
        # One publication after the other, each beside the one before, and no load meanwhile.
        lock_loads(conn)
        report = report_of(conn, period, variants, now)
        provinces = [text.en for text in report.words.provinces.values()]
        labels = {"province": (*provinces, OTHER)} if provinces else None
        before = [PublicTable.from_json(table) for table in read_published(conn)]
        tables = publish(report.tables, before, labels)
        kept = [table.to_json() for table in tables]
        keep_published(conn, period.kind, period.start, kept, f"report-{now:%Y%m%dT%H%M%SZ}")
    return report, tables, before


def as_csv(words: Words, tables: Sequence[Shown], edition: Edition) -> bytes:
    """All cells of all tables, one in a row, with labels in both languages; Khmer is empty where there is none.

    With the mark without which Excel takes no CSV for UTF-8.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([column.name for column in INDICATOR_REPORT.columns])
    for table in tables:
        place = [edition, table.indicator, table.variant, table.period, table.period_start.isoformat(), table.name]
        for labels, cell in _rows(words, table):
            named = [part for label in labels for part in (label.en, label.km or "")]
            row = [*place, *named, *[""] * (4 - len(named)), str(cell), UNCONFIRMED]
            writer.writerow([f"'{value}" if value.startswith(_FORMULA) else value for value in row])
    return text.getvalue().encode("utf-8-sig")


def workbook(report: Report, tables: Sequence[Shown], edition: Edition, now: datetime) -> bytes:
    """A workbook with one sheet about the report, one with the totals, and one for each table of each indicator."""
    content = io.BytesIO()
    # No text becomes a formula, a link or a number: labels are what people have written.
    plain = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False, "in_memory": True}
    with xlsxwriter.Workbook(content, plain) as book:
        bold = book.add_format({"bold": True})
        book.set_properties(
            {"title": f"Indicators 4.8 and 4.11a, {report.period.name}, {edition} edition", "created": now}
        )
        about = book.add_worksheet("About")
        about.set_column(0, 0, 100)
        for row, line in enumerate(_about(report, edition)):
            about.write_string(row, 0, line, bold if not row else None)
        _totals(book, tables, bold)
        for table in tables:
            if table.name != "total":
                _sheet(book, report.words, table, bold)
    return content.getvalue()


def _about(report: Report, edition: Edition) -> Iterator[str]:
    yield f"{edition.capitalize()} edition: {report.period.label}"
    if edition == "public":
        yield "Counts are rounded to the nearest 5; below 5, zero included, they are shown as <5."
    else:
        yield "Exact counts, which may point at single children: not to be passed on."
    for indicator, variant in report.variants.items():
        yield f"{indicator} by {variant}: {UNCONFIRMED}"


def _totals(book: xlsxwriter.Workbook, tables: Sequence[Shown], bold: xlsxwriter.format.Format) -> None:
    sheet = book.add_worksheet("total")
    sheet.set_column(0, 5, 18)
    for place, heading in enumerate(("indicator", "definition", "period", "first day", "children", "note")):
        sheet.write_string(0, place, heading, bold)
    totals = [table for table in tables if table.name == "total"]
    for row, table in enumerate(totals, start=1):
        for place, text in enumerate((table.indicator, table.variant, table.period, table.period_start.isoformat())):
            sheet.write_string(row, place, text)
        _write(sheet, row, 4, table.cells.get((), ""))
        sheet.write_string(row, 5, UNCONFIRMED)


def _sheet(book: xlsxwriter.Workbook, words: Words, table: Shown, bold: xlsxwriter.format.Format) -> None:
    """A table: a column for each dimension in both languages, and the children."""
    sheet = book.add_worksheet(f"{table.indicator} {table.name}"[:31])
    sheet.set_column(0, 2 * len(table.dimensions), 28)
    sheet.write_string(0, 0, f"{table.indicator} by {table.variant}: {UNCONFIRMED}", bold)
    headings = [text for name in table.dimensions for text in _languages(words.heading(name))] + ["Children"]
    for place, heading in enumerate(headings):
        sheet.write_string(2, place, heading, bold)
    for row, (labels, cell) in enumerate(_rows(words, table), start=3):
        for place, text in enumerate(part for label in labels for part in _languages(label)):
            sheet.write_string(row, place, text)
        _write(sheet, row, len(headings) - 1, cell)


def _write(sheet: xlsxwriter.worksheet.Worksheet, row: int, column: int, cell: Cell) -> None:
    """Write a count as a number where it is one."""
    number = Number.of(cell)
    if number.value is None:
        sheet.write_string(row, column, number.text)
    else:
        sheet.write_number(row, column, number.value)


def _rows(words: Words, table: Shown) -> Iterator[tuple[list[Text], Cell]]:
    for labels, cell in sorted(table.cells.items()):
        yield [words.value(name, label) for name, label in zip(table.dimensions, labels, strict=True)], cell


def _languages(text: Text) -> tuple[str, str]:
    return text.en, text.km or ""
