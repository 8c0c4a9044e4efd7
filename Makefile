# Each command sets up what it needs by itself; a second call starts at once.
# PYTHON=/path/to/python picks the interpreter, ARGS='...' goes to the program that runs.

VENV := .venv
BIN := $(VENV)/bin
PEERS := $(VENV)-peers
SUPPLY := $(VENV)-supply
IMAGE := $(VENV)-image
LOCKS := $(wildcard requirements/*.txt)
# Wheels alone: to build from a source archive, pip would fetch tools that no hash covers.
INSTALL := install --quiet --disable-pip-version-check --only-binary=:all:
INSTALL_LOCKED := $(INSTALL) --require-hashes --requirement
INSTALL_ITSELF := $(INSTALL) --no-index --no-deps --no-build-isolation --editable .
COMPILE := $(SUPPLY)/bin/uv pip compile --quiet --universal --python-version=3.11 --generate-hashes \
	--no-annotate --custom-compile-command='make lock'
# In the order of the files: by itself xdist takes those with the fewest tests last, which are the longest here.
IN_PARALLEL := --numprocesses=2 --dist=loadfile --no-loadscope-reorder
TEST_TOOLS := prometheus promtool prometheus-alertmanager amtool curl chromium systemd-analyze \
	faketime ip unshare
BENCH_TOOLS := prometheus-blackbox-exporter prometheus-pushgateway
TEST_PACKAGES := prometheus prometheus-alertmanager curl chromium fonts-dejavu-core systemd \
	faketime iproute2 util-linux

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.PHONY: help run test soak soak-plain soak-dev soak-attacks lint bench pictures generate lock audit sbom tools bench-tools

help: ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

run: $(VENV)/.demo ## run the exporter against a storage of its own, on http://localhost:9977
	@exec $(BIN)/r2-exporter demo $(ARGS)

test: $(VENV)/.dev tools ## run every test
	@exec $(BIN)/pytest $(IN_PARALLEL) $(ARGS)

soak: ## soak it for an hour and a half, the same under `python -X dev`, then attack it for half an hour
	@status=0; $(MAKE) --keep-going --jobs=2 soak-plain soak-dev || status=$$?; \
	$(MAKE) soak-attacks || status=$$?; exit $$status

soak-plain soak-dev: $(VENV)/.dev
	@exec $(BIN)/python -m tests.soak $(if $(filter %-dev,$@),--dev) $(ARGS)

ATTACKS := tests/faults tests/hostile tests/history tests/api/test_full_disk.py \
  tests/test_log_handler.py tests/test_masking.py tests/test_secrets.py tests/test_surroundings.py

# What the suite attacks with for seconds, for so many times as long.
soak-attacks: $(VENV)/.dev tools
	@R2_EXPORTER_SOAK=$${R2_EXPORTER_SOAK:-10} exec $(BIN)/pytest $(IN_PARALLEL) $(ATTACKS)

lint: $(VENV)/.dev ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev $(PEERS)/.ready bench-tools ## run every measurement in bench/
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

lock: $(SUPPLY)/.ready ## write requirements/*.txt anew from pyproject.toml; ARGS=--upgrade raises versions
	$(COMPILE) pyproject.toml --extra=dev --extra=bench --output-file=requirements/dev.txt $(ARGS)
	$(COMPILE) pyproject.toml --extra=demo --constraint=requirements/dev.txt --output-file=requirements/demo.txt
	$(COMPILE) pyproject.toml --constraint=requirements/dev.txt --output-file=requirements/image.txt
	$(COMPILE) --group=build --output-file=requirements/build.txt $(ARGS)
	$(COMPILE) --group=supply --output-file=requirements/supply.txt $(ARGS)

# What cannot be asked about is a failure too: a package that was not looked at is not known to be sound.
audit: $(SUPPLY)/.ready ## ask PyPI for known vulnerabilities of all that is locked
	@$(SUPPLY)/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner=off $(ARGS) \
		$(addprefix --requirement=,$(LOCKS)) \
		|| { echo "make audit: something is vulnerable, or could not be looked up (see above)." >&2; exit 1; }

sbom: $(SUPPLY)/.ready $(IMAGE)/.ready ## write requirements/image.cdx.json anew: what the image installs, as CycloneDX
	$(SUPPLY)/bin/cyclonedx-py environment --pyproject=pyproject.toml --output-reproducible \
		--output-file=requirements/image.cdx.json $(IMAGE)

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

$(SUPPLY)/.ready: requirements/supply.txt
	@echo "Installing what locks and audits into $(SUPPLY) ..."
	@tools/make-venv $(SUPPLY) $(PYTHON)
	@$(SUPPLY)/bin/python -m pip $(INSTALL_LOCKED) $<
	@touch $@

# Nothing but what the image installs, and not even pip: the list of what is there is then the image's.
$(IMAGE)/.ready: requirements/image.txt | $(BIN)/pip
	@rm -rf $(IMAGE)
	@$(BIN)/python -m venv --without-pip $(IMAGE)
	@$(BIN)/python -m pip --python $(IMAGE)/bin/python $(INSTALL_LOCKED) $<
	@touch $@

# The development packages include the demo's.
$(VENV)/.dev: pyproject.toml requirements/build.txt requirements/dev.txt | $(BIN)/pip
	@echo "Installing r2-exporter and its development tools into $(VENV) ..."
	@$(BIN)/python -m pip $(INSTALL_LOCKED) requirements/build.txt --requirement requirements/dev.txt
	@$(BIN)/python -m pip $(INSTALL_ITSELF)
	@touch $(VENV)/.demo $@

$(VENV)/.demo: pyproject.toml requirements/build.txt requirements/demo.txt | $(BIN)/pip
	@echo "Installing r2-exporter and its demo into $(VENV) ..."
	@$(BIN)/python -m pip $(INSTALL_LOCKED) requirements/build.txt --requirement requirements/demo.txt
	@$(BIN)/python -m pip $(INSTALL_ITSELF)
	@touch $@

$(BIN)/pip:
	@tools/make-venv $(VENV) $(PYTHON)
