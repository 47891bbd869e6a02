# Everything is built into .venv, with the compiled parts required; nothing outside this directory is touched.
#   make run     build, then start the proxy with two demo backends on 127.0.0.1:8080
#   make test    build, lint, run every test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PXD := $(wildcard src/only1mcp/*.pxd src/only1mcp/*/*.pxd)
PYX := $(wildcard src/only1mcp/_fast/*.pyx) $(PXD) $(wildcard $(PXD:.pxd=.py))
# `skip` builds without the compiled parts
EXTENSIONS ?= require
PYTEST_ARGS ?=
BENCH_ARGS ?=
# make run ARGS="--port 8081"
ARGS ?=

# Stamps: what a target needs is rebuilt when, and only when, one of its sources is newer.
TOOLS := $(VENV)/.stamp-tools
BUILT := $(VENV)/.stamp-built
DEV := $(VENV)/.stamp-dev

.DEFAULT_GOAL := help
.PHONY: help build run test fetch test-quick lint format coverage bench bench-peers conformance matrix debug sdist wheel sdist-check binary binary-parts image clean
.PHONY: install-table wheel-check wheel-portable wheel-windows
.PHONY: packages test-portable lint-workflows lint-scripts licenses audit sbom wheel-published bench-compare bench-comment release-check
.PHONY: checksums github-release image-push image-index deploy smoke-test announce

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | sort | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-16s %s\n' "$$name" "$$text"; done

$(TOOLS): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import pathlib, sys, sysconfig; sys.exit(None if pathlib.Path(sysconfig.get_path("include"), "Python.h").exists() else "the headers of $(PYTHON) are missing (Debian: apt-get install python3-dev)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot create a virtual environment (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > $(VENV)/build-requires.txt
	$(PIP) install -r $(VENV)/build-requires.txt
	@touch $@

$(BUILT): $(TOOLS) setup.py $(PYX)
	ONLY1MCP_EXTENSIONS=$(EXTENSIONS) $(PIP) install --no-build-isolation -e .
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

fetch: ## Install what tests would install for themselves
	@$(PYTHON) -m tests.fetch

test-portable: $(DEV) ## Run the tests that no system differs in, and use what was built
	$(BIN)/python -m pytest tests/_fast tests/wire tests/config tests/loadgen $(PYTEST_ARGS)
	$(BIN)/python -I wheels/smoke.py $(if $(filter skip,$(EXTENSIONS)),plain,compiled)

test-quick: $(DEV) ## Run the tests that are not marked slow
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

lint: $(DEV) lint-workflows lint-scripts ## ruff, cython-lint, mypy, and what workflows and scripts need
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cython-lint src/only1mcp/_fast
	$(BIN)/mypy

lint-workflows: $(DEV) ## zizmor and actionlint on the workflows
	@PATH="$(abspath $(BIN)):$$PATH" scripts/lint_workflows.sh

lint-scripts: $(DEV) ## shellcheck on the scripts
	$(BIN)/shellcheck scripts/*.sh $(wildcard .ci/*)

format: $(DEV) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(DEV) ## Run every test and report coverage by branch
	$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

bench: $(DEV) ## Run the benchmarks
	$(BIN)/python -m pytest benches/micro --benchmark-enable --benchmark-group-by=group --benchmark-columns=median,iqr,rounds
	$(BIN)/python -m benches.loopback $(BENCH_ARGS)

BASE ?= ../base
bench-compare: ## Compare what a call costs with another clone: make bench-compare BASE=../base
	$(PYTHON) -m scripts.compare_bench $(BASE) . $(BENCH_ARGS)

bench-comment: ## Comment on pull request $NUMBER with $REPORT
	@scripts/bench_comment.sh

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

sdist: $(DEV) ## Build the source distribution of the last commit into dist/
	$(BIN)/python -m wheels.sdist

# make wheel WHEEL_ARGS="--python python3.12 --target manylinux_2_28_x86_64"
WHEEL_ARGS ?=
wheel: $(DEV) ## Build wheels of the last commit for Linux (x86_64, aarch64; glibc, musl) into dist/
	$(BIN)/python -m wheels.build $(WHEEL_ARGS)

wheel-check: $(DEV) ## Hold the wheels in dist/ against the sources; install and use those for this machine
	$(BIN)/python wheels/content.py dist/only1mcp-*.whl
	$(BIN)/python -m wheels.installed dist/only1mcp-*.whl

wheel-portable: $(DEV) ## Compile our C with the headers of Windows and macOS, warnings being errors
	$(BIN)/python -m wheels.portable

wheel-windows: $(DEV) ## Build a wheel for Windows with MinGW's C library and use it under Wine
	$(BIN)/python -m wheels.windows $(WHEEL_ARGS)

sdist-check: $(DEV) ## Install the source distribution with, without and with a broken compiler, and use each
	$(BIN)/python scripts/sdist_check.py

# Debian's own interpreter: its development package has what is linked. binary/debian.txt lists what else is needed.
BINARY ?= dist/only1mcp-linux-$(shell uname -m)
BINARY_PYTHON ?= /usr/bin/python3
binary: ## Build the static binary into dist/ (on Debian)
	@$(BINARY_PYTHON) -m binary.build $(BINARY)

binary-parts: ## Build what of the static binary is other people's source
	@$(BINARY_PYTHON) -m binary.build --parts

# buildah and podman take the same arguments: make image BUILDER="buildah --storage-driver vfs"
BUILDER ?= docker
IMAGE ?= only1mcp
image: binary ## Build the container image around the static binary
	mkdir -p build/image
	cp $(BINARY) build/image/only1mcp
	cp /etc/ssl/certs/ca-certificates.crt build/image/
	$(BUILDER) build $(IMAGE_ARGS) --build-context binary=build/image -t $(IMAGE) \
		--build-arg VERSION="$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/only1mcp/__init__.py)" .

# In a storage of its own, without an engine, and as an archive, from which it can be run without one, too.
INSTALL_TARGET ?= manylinux_2_28_$(shell uname -m)
BUILDAH := buildah --storage-driver vfs --root build/buildah/storage --runroot build/buildah/run
install-table: $(DEV) binary ## Measure wheel, binary and image, and put it into docs/install.md (as root)
	rm -rf build/install build/buildah
	$(BIN)/python -m wheels.build --target $(INSTALL_TARGET) --output build/install
	@$(MAKE) --no-print-directory -o binary image BUILDER="$(BUILDAH)" IMAGE_ARGS="--isolation chroot --format docker" >/dev/null
	$(BUILDAH) push --quiet $(IMAGE) docker-archive:build/install/image.tar:$(IMAGE):measured
	rm -rf build/buildah
	$(BIN)/python -m scripts.measure_install --output docs/install.json build/install/*.whl $(BINARY) build/install/image.tar
	$(BIN)/python -m scripts.render_install

# What releases and deployments need; the workflows run these, and each runs here as well (docs/release.md). Names of
# tags and the like reach the scripts through the environment: neither make nor the shell looks into them.
packages: ## Install the Debian packages that tests use
	@.ci/packages

licenses: $(DEV) ## Refuse what may not be distributed
	$(BIN)/python -m scripts.licenses

# Tools of releases, in versions whose hashes are locked: what makes or judges them must not change by itself.
build/locked-%/.stamp: wheels/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/$(notdir $(BIN))/python -m pip --disable-pip-version-check --quiet install --require-hashes --only-binary :all: -r $<
	@touch $@

# Needs containers on Linux; elsewhere the system's own compiler.
wheel-published: build/locked-publish/.stamp ## Build the wheels that are published, of the source distribution in dist/
	$(<D)/$(notdir $(BIN))/cibuildwheel --config-file cibuildwheel.toml --output-dir dist dist/only1mcp-*.tar.gz

RELEASE_BIN := build/locked-release/$(notdir $(BIN))
audit: $(DEV) build/locked-release/.stamp ## Ask for known vulnerabilities (AUDIT_ARGS=--require: no answer is a failure)
	$(BIN)/python -m scripts.audit $(AUDIT_ARGS) $(RELEASE_BIN)/pip-audit

# Of an environment with nothing but the package and what it needs.
SBOM ?= dist/only1mcp.cdx.json
sbom: $(TOOLS) build/locked-release/.stamp ## Write what the package consists of into dist/ (CycloneDX)
	rm -rf build/sbom
	$(BIN)/python -m venv build/sbom
	ONLY1MCP_EXTENSIONS=skip build/sbom/bin/python -m pip --disable-pip-version-check --quiet install .
	build/sbom/bin/python -m pip --disable-pip-version-check --quiet uninstall --yes pip setuptools
	mkdir -p $(dir $(SBOM))
	sed "s/^dynamic = .*/version = \"$$(build/sbom/bin/only1mcp --version | cut -d ' ' -f 2)\"/" pyproject.toml > build/sbom/pyproject.toml
	$(RELEASE_BIN)/cyclonedx-py environment --pyproject build/sbom/pyproject.toml --output-reproducible --of JSON -o $(SBOM) build/sbom/bin/python

release-check: $(DEV) ## Say whether VERSION can be released from here
	@$(BIN)/python -m scripts.release_check $(RELEASE_CHECK_ARGS) $(if $(BASE_REVISION),--base "$$BASE_REVISION") "$$VERSION"

checksums: ## Write dist/SHA256SUMS
	cd dist && rm -f SHA256SUMS && sha256sum -- * > ../SHA256SUMS.new && mv ../SHA256SUMS.new SHA256SUMS

github-release: ## Make the GitHub release of VERSION from dist/
	@scripts/github_release.sh "$$VERSION" dist

image-push: ## Push IMAGE to its registry
	$(BUILDER) push "$$IMAGE"

image-index: ## Make IMAGE in its registry one name for those of IMAGES
	$(BUILDER) buildx imagetools create --tag "$$IMAGE" $$IMAGES

deploy: ## Deploy VERSION to ENVIRONMENT on the host SSH_HOST
	@scripts/deploy_remote.sh "$$VERSION" $$ENVIRONMENT

smoke-test: ## Use the proxy at URL as clients do (VERSION=1.2.0: and see that it is that)
	@$(PYTHON) -m scripts.smoke $(if $(VERSION),--version "$$VERSION") "$$URL"

announce: ## Tell of a deployment: HOW is issue or message
	@$(PYTHON) -m scripts.announce "$$HOW" "$$VERSION" "$$ENVIRONMENT" "$$URL" --run "$$RUN"

clean: ## Remove everything that was built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage
	rm -rf src/*.egg-info src/only1mcp/*.so src/only1mcp/*/*.so src/only1mcp/_fast/*.c
