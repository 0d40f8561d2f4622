# All commands run in $(VENV), which `make setup` builds from requirements.lock.
PYTHON ?= python3
# PYTHON=3.13 stands for python3.13.
INTERPRETER := $(if $(filter 3.%,$(PYTHON)),python$(PYTHON),$(PYTHON))
VENV ?= .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
export UV_COMPILE_BYTECODE ?= 1
export NO_ALBUMENTATIONS_UPDATE := 1
export MLFLOW_DISABLE_TELEMETRY := true
.DEFAULT_GOAL := help
# `make setup PYTHON=python3.13` with an environment of another Python builds it anew.
ifeq ($(origin PYTHON),command line)
ANOTHER := $(shell test ! -x $(BIN)/python || test "$$($(INTERPRETER) --version 2>&1)" = "$$($(BIN)/python --version 2>&1)" || echo another-python)
endif

help:  ## Print these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready  ## Build .venv with the locked versions (about two minutes, 7 GB; a second run is free)

$(VENV)/.ready: requirements.lock pyproject.toml $(ANOTHER)
	@$(INTERPRETER) --version >/dev/null 2>&1 || { echo "No '$(INTERPRETER)' that runs was found. Install Python 3.11, 3.12, 3.13 or 3.14, or name one: make setup PYTHON=python3.13"; exit 1; }
	@$(INTERPRETER) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' || { echo "$$($(INTERPRETER) --version) is not supported. Use Python 3.11, 3.12, 3.13 or 3.14: make setup PYTHON=python3.13"; exit 1; }
	@test -z "$(ANOTHER)" && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(INTERPRETER) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --require-hashes -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m unmask.faces.retinaface_mobilenet
	@touch $@

another-python:

lock: setup  # requirements.lock from pyproject.toml, and out of it those of the images; UPGRADE=--upgrade lets versions move
	$(BIN)/uv pip compile pyproject.toml --extra sweep --group dev --group retinaface --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" --quiet $(UPGRADE) -o requirements.lock
	for group in serve app mlflow; do $(BIN)/uv pip compile --group $$group --constraint requirements.lock --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" --quiet -o requirements-$$group.lock || exit 1; done

demo: setup  ## Draw, forge, prepare, train, evaluate, predict: about four minutes on two cores
	@$(BIN)/unmask demo

# A process that ends under a test ends the run: with a new one in its place, xdist waits for ever at the end.
test: lint  ## Lint, types and the fast tests
	$(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadgroup --max-worker-restart=0 --durations=25 --cov --cov-report=term:skip-covered --cov-fail-under=85

test-slow: setup
	$(BIN)/python -m pytest -m "slow" -o faulthandler_timeout=3600

test-pythons: setup  ## The fast tests on every supported Python that is found, each in an environment .venv-3.x
	$(BIN)/python tests/pythons.py locked

test-latest: setup  ## The fast tests with the newest versions that pyproject.toml allows, as pip installs them
	$(BIN)/python tests/pythons.py latest

test-lowest: setup  ## The fast tests with the oldest versions that pyproject.toml allows
	$(BIN)/python tests/pythons.py lowest

smoke: setup  ## Prepare, train and predict on the newest other Python that is found
	$(BIN)/python tests/pythons.py smoke

lint: setup  ## Ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: setup  ## MLflow on the store that the runs went to
	@$(BIN)/unmask ui

app: setup  ## The web app, on the newest model or CHECKPOINT=...
	$(BIN)/unmask app $(CHECKPOINT)

bench: setup  ## After make demo: every measurement in benchmarks/ but the half hour of augmentation_table.py
	@for script in $(filter-out benchmarks/augmentation_table.py,$(wildcard benchmarks/[a-z]*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:  ## Remove caches and build products; runs, data and .venv stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .coverage
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

.PHONY: help setup another-python lock demo test test-slow test-pythons test-latest test-lowest smoke lint format ui app bench clean
