# Every target makes what it needs; `make demo` and `make test` are all that a newcomer has to know.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .venv-peers
DEMO := demo
STUDIES := tests

.PHONY: demo test test-slow lint format types floors peers benchmarks clean help

help:          ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/\t/'

demo: $(READY) ## simulate a recording, reconstruct it, write demo/report/index.html
	$(BIN)/stemjax demo -o $(DEMO)

test: $(READY) ## all tests but the slow ones
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: $(READY) ## the long physics studies
	XLA_FLAGS= $(BIN)/python -m pytest -m slow

lint: $(READY) ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## put the code into the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

peers: $(PEERS)/.ready ## the programs that stemjax is measured against, in an environment of their own

benchmarks: $(READY) peers ## measure what docs/developer/benchmarks.md lists
	STEMJAX_PEERS_PYTHON=$(abspath $(PEERS))/bin/python $(BIN)/python -m benchmarks all

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "stemjax needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(PEERS)/.ready: pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check h5py ase 'abtem==1.0.11' 'pyfftw>=0.15'
	@touch $@

clean:         ## remove environments and caches
	rm -rf $(VENV) $(PEERS) .cache .mypy_cache .ruff_cache .pytest_cache build dist
