"""The assets by group: thin wrappers around pipeline/."""
