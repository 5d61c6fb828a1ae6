"""The source system: asking Primero's API, and pulls that are complete and stable. Knows nothing of Dagster or of ONA."""
