"""The report: tables, words, page, files."""
