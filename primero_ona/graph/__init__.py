"""Dagster's shell: assets, checks, jobs, schedules, sensors and resources over pipeline/. Heavy imports are inside steps."""
