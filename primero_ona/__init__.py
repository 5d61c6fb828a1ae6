"""Child-protection cases from Primero (CPIMS+) to the ONA dashboards, quarter by quarter, as a Dagster asset graph."""
