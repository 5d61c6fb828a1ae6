# Every target sets up what it needs; a fresh clone needs only Python 3.11 or newer, with venv, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: help install demo dev test bench lint docs audit format constraints clean

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
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

bench: $(INSTALLED) bench/.venv-dlt/.installed ## Measure against a floor and a peer; BENCH="--cases 1000 --repeats 1" chooses
	$(BIN)/python bench/run.py $(BENCH)

bench/.venv-dlt/.installed: bench/requirements-dlt.txt
	$(PYTHON) -m venv bench/.venv-dlt
	bench/.venv-dlt/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

lint: $(INSTALLED) ## Style, types and the rules about who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml primero_ona

docs: $(INSTALLED) ## Write the pages that are made from the code
	$(BIN)/python -m primero_ona.setting_texts
	$(BIN)/python -m primero_ona.data_protection

audit: $(INSTALLED) ## Ask for known vulnerabilities of the pinned versions; needs the network
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

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
