# Every target sets up what it needs; a fresh clone needs only Python 3.11 or newer, with venv, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: help install demo dev test lint format constraints clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Set up the virtual environment with pinned versions

$(INSTALLED): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

demo: $(INSTALLED) ## Sync eight quarters from the sandbox (or from .env) and show what came
	@$(BIN)/primero-ona demo

dev: $(INSTALLED) ## Open the Dagster UI on the sandbox (or on .env)
	@$(BIN)/primero-ona dev

test: $(INSTALLED) ## Run the tests, on a real PostgreSQL and a real HTTP server that they start
	$(BIN)/python -m pytest

lint: $(INSTALLED) ## Style, types and the rules about who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(INSTALLED) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

constraints: ## Pin the newest versions that setup.py allows, after trying them
	$(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	$(VENV)-newest/bin/python -m pip freeze --exclude-editable > constraints.txt
	rm -r $(VENV)-newest

clean: ## Remove the environment, the sandbox's database and Dagster's home
	rm -rf $(VENV) .sandbox .dagster_home
