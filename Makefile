# Each command sets up what it needs by itself; a second call starts at once.
# PYTHON=/path/to/python picks the interpreter, ARGS='...' goes to the program that runs.

VENV := .venv
BIN := $(VENV)/bin
PEERS := $(VENV)-peers
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TEST_TOOLS := prometheus promtool prometheus-alertmanager amtool curl chromium systemd-analyze
BENCH_TOOLS := prometheus-blackbox-exporter prometheus-pushgateway
TEST_PACKAGES := prometheus prometheus-alertmanager curl chromium fonts-dejavu-core systemd

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.PHONY: help run test lint bench pictures generate tools bench-tools

help: ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 8

run: $(VENV)/.demo ## run the exporter against a storage of its own, on http://localhost:9977
	@exec $(BIN)/r2-exporter demo $(ARGS)

test: $(VENV)/.dev tools ## run every test
	@exec $(BIN)/pytest --numprocesses=2 --dist=loadfile $(ARGS)

lint: $(VENV)/.dev ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench $(PEERS)/.ready bench-tools ## run every measurement in bench/
	@set -e; for measurement in bench/*.py; do \
		test -e "$$measurement" || { echo "bench/ holds no measurement"; break; }; \
		echo "== $$measurement"; $(BIN)/python -m "bench.$$(basename "$$measurement" .py)" $(ARGS); \
	done

pictures: $(VENV)/.dev tools ## make the README's pictures of the status page anew
	$(BIN)/python -m tools.screenshot

generate: $(VENV)/.dev ## write anew what is made from elsewhere: dashboards, rules, schema, chart, reference
	$(BIN)/python -m grafana.build
	$(BIN)/python -m rules.build
	$(BIN)/python -m exporter.config.schema >exporter/config/exporter.schema.json
	$(BIN)/python -m deploy.build
	$(BIN)/python -m docs.build

# What the tests run besides Python.
tools:
	@for tool in $(TEST_TOOLS); do \
		command -v $$tool >/dev/null || exec tools/install-debian $(TEST_PACKAGES); \
	done

# What the measurements compare with: Debian's packages have the commands' names.
bench-tools:
	@for tool in $(BENCH_TOOLS); do \
		command -v $$tool >/dev/null || exec tools/install-debian $(BENCH_TOOLS); \
	done

# aiobotocore wants an older botocore than boto3 does, so it lives elsewhere.
$(PEERS)/.ready: | $(BIN)/pip
	@echo "Installing aiobotocore into $(PEERS) ..."
	@tools/make-venv $(PEERS) $(PYTHON)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check aiobotocore==3.10.0 uvloop
	@touch $@

# The development packages include the demo's.
$(VENV)/.dev: pyproject.toml | $(BIN)/pip
	@echo "Installing r2-exporter and its development tools into $(VENV) ..."
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $(VENV)/.demo $@

# What the measurements compare with comes on top of them.
$(VENV)/.bench: pyproject.toml | $(BIN)/pip
	@echo "Installing r2-exporter and what it is measured against into $(VENV) ..."
	@$(PIP_INSTALL) --editable '.[dev,bench]'
	@touch $(VENV)/.demo $(VENV)/.dev $@

$(VENV)/.demo: pyproject.toml | $(BIN)/pip
	@echo "Installing r2-exporter and its demo into $(VENV) ..."
	@$(PIP_INSTALL) --editable '.[demo]'
	@touch $@

$(BIN)/pip:
	@tools/make-venv $(VENV) $(PYTHON)
