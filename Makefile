# Everything is built into .venv, with the compiled parts required; nothing outside this directory is touched.
#   make run     build, then start the proxy with two demo backends on 127.0.0.1:8080
#   make test    build, lint, run every test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PXD := $(wildcard src/only1mcp/*.pxd src/only1mcp/*/*.pxd)
PYX := $(wildcard src/only1mcp/_fast/*.pyx) $(PXD) $(wildcard $(PXD:.pxd=.py))
PYTEST_ARGS ?=
BENCH_ARGS ?=
# make run ARGS="--port 8081"
ARGS ?=

# Stamps: what a target needs is rebuilt when, and only when, one of its sources is newer.
TOOLS := $(VENV)/.stamp-tools
BUILT := $(VENV)/.stamp-built
DEV := $(VENV)/.stamp-dev

.DEFAULT_GOAL := help
.PHONY: help build run test test-quick lint format coverage bench bench-peers conformance matrix debug sdist wheel sdist-check clean

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | sort | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

$(TOOLS): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import pathlib, sys, sysconfig; sys.exit(None if pathlib.Path(sysconfig.get_path("include"), "Python.h").exists() else "the headers of $(PYTHON) are missing (Debian: apt-get install python3-dev)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot create a virtual environment (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > $(VENV)/build-requires.txt
	$(PIP) install -r $(VENV)/build-requires.txt
	@touch $@

$(BUILT): $(TOOLS) setup.py $(PYX)
	ONLY1MCP_EXTENSIONS=require $(PIP) install --no-build-isolation -e .
	@touch $@

$(DEV): $(BUILT)
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"], sep="\n")' > $(VENV)/dev-requires.txt
	$(PIP) install -r $(VENV)/dev-requires.txt
	@touch $@

build: $(BUILT) ## Build into .venv (again after editing what is compiled)

run: $(BUILT) ## Start the proxy with two demo backends
	@exec $(BIN)/only1mcp start --demo $(ARGS)

test: lint ## Build, lint, run every test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-quick: $(DEV) ## Run the tests that are not marked slow
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

lint: $(DEV) ## ruff, cython-lint, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cython-lint src/only1mcp/_fast
	$(BIN)/mypy

format: $(DEV) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(DEV) ## Run every test and report coverage by branch
	$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

bench: $(DEV) ## Run the benchmarks
	$(BIN)/python -m pytest benches/micro --benchmark-enable --benchmark-group-by=group --benchmark-columns=median,iqr,rounds
	$(BIN)/python -m benches.loopback $(BENCH_ARGS)

bench-peers: $(DEV) ## Install other gateways into build/peers and compare with them
	$(BIN)/python -m benches.peers.install
	$(BIN)/python -m benches.peers $(BENCH_ARGS)

conformance: $(DEV) ## Run the official conformance suite and record the result in docs/
	$(BIN)/python -m scripts.conformance

matrix: $(DEV) ## Run each official SDK with each, and write the table into docs/eras.md
	$(BIN)/python -m scripts.matrix

# The editable build stays as it is: this one lives in build/debug and is put before it on the path.
SANITIZE ?= address,undefined
debug: $(DEV) ## Test the compiled parts with bounds checks and sanitizers
	ONLY1MCP_EXTENSIONS=require ONLY1MCP_DEBUG=1 ONLY1MCP_SANITIZE=$(SANITIZE) \
		$(BIN)/python setup.py --quiet build --build-lib build/debug --build-temp build/debug-temp
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONPATH=build/debug \
		$(BIN)/python -m pytest tests/_fast -p no:cacheprovider --timeout=600 $(PYTEST_ARGS)

sdist: $(DEV) ## Build the source distribution into dist/
	$(BIN)/python -m build --sdist

wheel: $(DEV) ## Build a wheel for this machine into dist/, from the source distribution
	ONLY1MCP_EXTENSIONS=require $(BIN)/python -m build

sdist-check: $(DEV) ## Install the source distribution with, without and with a broken compiler, and use each
	$(BIN)/python scripts/sdist_check.py

clean: ## Remove everything that was built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage
	rm -rf src/*.egg-info src/only1mcp/*.so src/only1mcp/*/*.so src/only1mcp/_fast/*.c
