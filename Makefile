# One verb per action, the same here and in CI. The virtual environment is VENV; what is there is used again.
VENV ?= .venv
PYTHON ?= python3
CRATE := --manifest-path strops-rs/Cargo.toml

.PHONY: test page check bench
.DEFAULT_GOAL := test

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

## test: set everything up and run all tests, Python's and Rust's
test: $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet '.[test]'
	cargo test --locked --quiet $(CRATE)
	$(VENV)/bin/pytest --ignore=tests/page $(ARGS)

## page: test the server's page in a real Chromium (Debian: apt install chromium)
page: $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet '.[test]'
	$(VENV)/bin/pytest tests/page $(ARGS)

## check: format, lint and types, without running anything
check: $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet '.[dev]'
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/basedpyright --pythonpath $(VENV)/bin/python
	cargo fmt --check $(CRATE)
	cargo clippy --locked --quiet $(CRATE) --all-targets --all-features -- -D warnings

## bench: the figures that the README quotes (about 15 minutes on two cores)
bench: $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet '.[test]'
	for script in strops_merge vad whisper_context file_accuracy file_throughput tui_start tui_keys; do \
		echo "== $$script"; $(VENV)/bin/python benchmarks/$$script.py || exit; done
