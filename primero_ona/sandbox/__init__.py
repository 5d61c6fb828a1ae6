"""A synthetic Primero and an embedded PostgreSQL, for the demo, for development and for tests. Never for production."""
