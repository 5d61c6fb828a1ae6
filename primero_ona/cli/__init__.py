"""The command primero-ona: what an operator or a script does without the Dagster UI."""
