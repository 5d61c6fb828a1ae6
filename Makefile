# Every target sets up what it needs; a fresh clone needs only Python 3.11 or newer, with venv, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CLUSTER := primero_ona_tests/deploy/requirements.txt
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# Only files whose hash is written down, and no source packages: those run their own code while they are built. Nothing is resolved:
# the file names all that is needed, and `pip check` says so.
LOCKED := $(PIP_INSTALL) --require-hashes --only-binary :all: --no-deps --requirement

export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: help install cluster demo dev test bench lint docs audit format constraints clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Set up the virtual environment with pinned versions, verified by their hashes

$(INSTALLED): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(LOCKED) constraints.txt
	$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check --quiet --disable-pip-version-check || { echo "run \`make constraints UPGRADE=\`: it adds what setup.py needs"; exit 1; }
	@touch $@

cluster: $(VENV)/.cluster ## Add what the tests of buckets and of Kubernetes need, as .ci/run does

$(VENV)/.cluster: $(INSTALLED) $(CLUSTER)
	$(BIN)/python $(LOCKED) $(CLUSTER)
	@touch $@

demo: $(INSTALLED) ## Sync eight quarters from the sandbox (or from .env) and show what came
	@$(BIN)/primero-ona demo

dev: $(INSTALLED) ## Open the Dagster UI on the sandbox (or on .env)
	@$(BIN)/primero-ona dev

test: $(INSTALLED) ## Run the tests, on a real PostgreSQL and a real HTTP server that they start
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

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

docs: $(INSTALLED) ## Write the page of settings, which is made from the code
	$(BIN)/python -m primero_ona.cli.settings_docs

audit: ## Ask for known vulnerabilities of the pinned versions; fails where one of them cannot be asked about
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python $(PIP_INSTALL) pip-audit
	$(VENV)-audit/bin/pip-audit --requirement constraints.txt --require-hashes --disable-pip --strict --progress-spinner off

format: $(INSTALLED) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# constraints.txt is for development and tests, requirements.txt the part of it that an installation needs, deploy/requirements.txt what
# the image needs, and the last one what the tests of buckets and clusters need beside all that. All hold the hashes of all
# files of a release, so that they serve every Python that setup.py admits and every processor. setuptools builds the package itself.
UPGRADE ?= --upgrade
COMPILE = echo 'setuptools>=77' | $(VENV)-newest/bin/uv pip compile setup.py - --quiet --universal --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command 'make constraints' $(UPGRADE)

constraints: ## Pin the newest versions that setup.py allows, with hashes, and try them; UPGRADE= keeps the pins and adds what is new
	$(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python $(PIP_INSTALL) uv
	$(COMPILE) --extra test --output-file constraints.txt
	$(COMPILE) --constraint constraints.txt --output-file requirements.txt
	$(COMPILE) --constraint constraints.txt --extra s3 --extra k8s --output-file deploy/requirements.txt
	$(COMPILE) --constraint constraints.txt --constraint deploy/requirements.txt --extra cluster --output-file $(CLUSTER)
	rm -r $(VENV)-newest
	$(MAKE) install

clean: ## Remove the environment, the sandbox's database and Dagster's home
	rm -rf $(VENV) $(VENV)-audit $(VENV)-newest .sandbox .dagster_home
