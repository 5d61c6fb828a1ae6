"""The target system: ONA's PostgreSQL, its table contract, schema, loading and proving. Knows nothing of Dagster or of Primero."""
