"""The target: ONA's tables and the sync's bookkeeping in PostgreSQL. Knows neither Primero nor Dagster."""
