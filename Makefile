# make setup | demo | test | test-quick | test-kubernetes | check | bench | docs | lock | clean
.DEFAULT_GOAL := help
PY ?= python3
VENV := .venv
BIN := $(abspath $(VENV))/bin
# Processes that test at the same time. Half of the tests' time is waiting for programs, machines and Ray: three for two processors.
JOBS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 6 ? (3 * cores + 1) / 2 : 8)))
STAMP := $(VENV)/.stamp
# What the tests need beyond Python: a browser, and hosts to log in to.
DEBIAN := chromium chromium-driver openssh-server docker.io debootstrap iproute2 iptables nftables procps rsync sudo e2fsprogs mount util-linux gcc libc6-dev rclone fuse3

.PHONY: help setup system demo test test-quick test-kubernetes check bench docs lock clean

help:    ## show this
	@grep -E '^[a-z-]+: *.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

$(STAMP): pyproject.toml requirements-dev.lock
	$(PY) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements-dev.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	touch $(STAMP)

setup: $(STAMP)  ## make .venv with everything for development

system:  ## Debian packages that the tests start for real (needs root or sudo)
	@missing=$$(for p in $(DEBIAN); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -q && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -q --no-install-recommends $$missing; \
	fi

demo: setup      ## the main job, shown on this machine
	PATH=$(BIN):$$PATH scripts/demo.sh

# Tests start our programs some thousand times, many on machines that cannot keep what they compile. Kubernetes is built beside them.
test: setup system  ## all tests (what CI runs)
	$(BIN)/python -m compileall -q clusterctl providers/clusterctl_providers runtime/clusterctl_runtime templates/clusterctl_templates
	setpriv --pdeathsig TERM $(BIN)/python -m tests.support.kubernetes.programs & $(BIN)/pytest tests -n $(JOBS) --no-loadscope-reorder

test-kubernetes: setup system  ## the tests on a real Kubernetes, which is built at first: 4 minutes
	$(BIN)/pytest tests/kubernetes -n $(JOBS) --no-loadscope-reorder

test-quick: setup  ## the tests that need no machine, Docker, sshd, Ray or browser: minutes, for the inner loop
	$(BIN)/pytest tests -m quick -n $(JOBS) --no-loadscope-reorder

check: setup     ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: setup     ## benchmarks against peers; prints a table and writes build/bench.json
	$(BIN)/python -m tests.bench $(ONLY)

docs: setup      ## regenerate the pages that are made from code
	$(BIN)/python -m clusterctl.spec.schema --markdown docs/spec.md
	$(BIN)/python -m clusterctl.cli.reference docs/cli.md
	$(BIN)/python -m clusterctl_runtime.head.metrics.table docs/monitoring.md

lock: setup      ## pin what development uses
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --extra dev --no-emit-package clusterctl pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) build dist
