"""The source: ask Primero over HTTP, and say what its answers mean. Knows neither ONA nor Dagster."""
