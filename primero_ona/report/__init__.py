"""The report of a quarter or a year: read from ONA (`tables`), in two languages (`words`), as a page, a workbook and CSV."""
