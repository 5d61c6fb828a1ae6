"""The commands of `primero-ona`, one module for each subject; `cli.py` puts them together."""
