# The habits of a person, written down. Everything runs inside .venv, which the first command makes.
# Paths are relative throughout, so the repository may lie in a folder with a space in its name.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
# Named after the folder: a copied or moved repository notices that its environment points elsewhere.
STAMP := $(VENV)/.installed-$(shell pwd | cksum | cut -d ' ' -f 1)
COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)

.PHONY: help setup demo test check lint types format lock base-install clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv and install the locked dependencies

$(STAMP): requirements/train.lock pyproject.toml tools/setup.sh
	@sh tools/setup.sh "$(VENV)" requirements/train.lock
	@rm -f $(VENV)/.installed-*
	@touch "$@"

$(BIN)/uv:
	@sh tools/setup.sh "$(VENV)"

demo: $(STAMP) ## run the whole chain on real digits: table, HTML report, bundle
	@$(BIN)/edgepress demo

test: $(STAMP) ## run the tests, as many at a time as there are cores
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n logical --dist loadfile

check: lint types test ## lint, types, tests: what to run before a commit

lint: $(STAMP) ## ruff: rules and format
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check

types: $(STAMP) ## pyright: strict on core/ and runtime/
	@$(PY) -m pyright --pythonpath $(PY)

format: $(STAMP) ## let ruff mend what it can
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

base-install: $(STAMP) ## check that bundles run on an install without torch
	@sh tools/base_install.sh

bench-%: $(STAMP) ## remake the rows of one topic, for example make bench-foundation
	@$(PY) -m benchmarks.$*

# Not after $(STAMP): a lock that no longer installs must be remade too.
lock: $(BIN)/uv ## remake the locks; make lock UPGRADE=--upgrade takes newer versions
	@$(COMPILE) --extra train --extra dev --output-file requirements/train.lock
	@$(COMPILE) --constraint requirements/train.lock --no-annotate --output-file requirements/base.lock

clean: ## remove .venv, caches and build output; runs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
