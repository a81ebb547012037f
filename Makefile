# One verb per action, the same here and in CI. The virtual environment is VENV; what is there is used again.
VENV ?= .venv
PYTHON ?= python3
EXTRAS ?= canary,test
# How many processes share the tests: `auto` is one for each core (tests/conftest.py), 0 none beside the one that is asked.
WORKERS ?= auto
# Home Assistant pins what the others have newer, so it has an environment of its own, of Python 3.13 or newer.
HOMEASSISTANT ?= .venv-homeassistant
HOMEASSISTANT_PYTHON ?= python3.13
CRATE := --manifest-path strops-rs/Cargo.toml
# Whoever has installed all that is needed says READY=1.
comma := ,
install = $(if $(READY),,$(VENV)/bin/pip install --quiet '.[$(1)]')

.PHONY: test clients homeassistant cluster page check bench
.DEFAULT_GOAL := test

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

## test: set everything up and run all tests, Python's and Rust's (EXTRAS=test: without torch, all but canary-qwen's)
test: $(VENV)/bin/python
	$(call install,$(EXTRAS))
	$(VENV)/bin/pip install --quiet --no-deps pipecat-ai==1.14.0 # the weights of smart-turn, which nothing imports
	cargo test --locked --quiet $(CRATE)
	$(VENV)/bin/pytest -n $(WORKERS) --dist worksteal --ignore=tests/page --ignore=tests/clients --ignore=tests/cluster $(ARGS)

## clients: test the server with other services' own client libraries
clients: $(VENV)/bin/python
	$(call install,test$(comma)clients)
	$(VENV)/bin/pytest tests/clients $(ARGS)

$(HOMEASSISTANT)/bin/python:
	$(HOMEASSISTANT_PYTHON) -m venv $(HOMEASSISTANT)

## homeassistant: test the server with a real Home Assistant
homeassistant: $(VENV)/bin/python $(HOMEASSISTANT)/bin/python
	PIP_CONSTRAINT= $(HOMEASSISTANT)/bin/pip install --quiet homeassistant
	$(HOMEASSISTANT)/bin/python tests/clients/homeassistant_run.py requirements | \
		PIP_CONSTRAINT= xargs $(HOMEASSISTANT)/bin/pip install --quiet
	$(call install,test)
	STT_HOMEASSISTANT=$(HOMEASSISTANT)/bin/python $(VENV)/bin/pytest tests/clients/test_homeassistant.py $(ARGS)

## cluster: test engines on a real Ray of this machine, with replicas, nodes and its controller killed (some minutes)
cluster: $(VENV)/bin/python
	$(call install,test$(comma)cluster)
	$(VENV)/bin/pytest tests/cluster $(ARGS)

## page: test the server's page in a real Chromium (Debian: apt install chromium)
page: $(VENV)/bin/python
	$(call install,test)
	$(VENV)/bin/pytest tests/page $(ARGS)

## check: format, lint, types and workflows, without running anything
check: $(VENV)/bin/python
	$(call install,dev)
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/basedpyright --pythonpath $(VENV)/bin/python
	$(VENV)/bin/zizmor --offline --quiet .github
	$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/idea.yml
	$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.citation-file-format CITATION.cff
	cargo fmt --check $(CRATE)
	cargo clippy --locked --quiet $(CRATE) --all-targets --all-features -- -D warnings

## bench: the figures that the README quotes (about 15 minutes on two cores)
bench: $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet '.[test]'
	for script in strops_merge vad whisper_context file_accuracy file_throughput tui_start tui_keys; do \
		echo "== $$script"; $(VENV)/bin/python benchmarks/$$script.py || exit; done
