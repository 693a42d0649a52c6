# The commands of the project. PIP_ARGS goes to pip as it is, for example to take torch from another index.
.DEFAULT_GOAL := help
PYTHON ?= python3
PIP_ARGS ?=
CONSTRAINTS ?= constraints.txt
CONFIG ?= configs/convnet_digits.yaml
BIN := .venv/bin
INSTALLED := .venv/installed

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED)  ## make .venv and install the project in it

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable . --group dev $(PIP_ARGS)
	touch $@

train: $(INSTALLED)  ## train an experiment, CONFIG=configs/convnet_digits.yaml, and test it
	$(BIN)/leyden fit --config $(CONFIG)

test: $(INSTALLED)  ## run the test suite
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(INSTALLED)  ## run the slow tests only
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(INSTALLED)  ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

format: $(INSTALLED)  ## fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

results: $(INSTALLED)  ## train what has no result yet on the real data and write the results (hours; goes on if stopped)
	$(BIN)/python benchmarks/results.py

bench: $(INSTALLED)  ## measure speed, memory, start-up and exported files and write docs/benchmarks*.md (an hour)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/export.py

clean:  ## remove the environment and the tools' caches; runs and data stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache

.PHONY: help setup train test test-slow lint format results bench clean
