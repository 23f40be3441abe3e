# Everything runs from .venv; nothing else is needed than Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-faults fuzz examples check format bench clean

demo: .venv/installed-demo
	$(BIN)/convsweep demo

test: .venv/installed-dev
	$(BIN)/python -m pytest

test-faults: .venv/installed-dev
	$(BIN)/python -m pytest -m '' -s tests/acceptance -k test_faults

# made-up requests for so many minutes, each time others
MINUTES ?= 10
fuzz: .venv/installed-dev
	FUZZ_MINUTES=$(MINUTES) $(BIN)/python -m pytest --timeout 0 tests/fuzz

# the answers that the API's description shows as examples
examples: .venv/installed-dev
	RECORD_EXAMPLES=1 $(BIN)/python -m pytest tests/integration/test_openapi.py -k recorded

bench: .venv/installed-bench
	$(BIN)/python -m bench.queue --json
	$(BIN)/python -m bench.engine --dataset digits --groups 2 --published 2 --json

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"convsweep needs Python 3.11 or newer; {sys.executable} is {v[0]}.{v[1]}. Try: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv .venv

.venv/installed-demo: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing into .venv (PyTorch is large; this takes a few minutes the first time) ..."
	$(INSTALL) --editable '.[api,worker,local]'
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing into .venv (PyTorch is large; this takes a few minutes the first time) ..."
	$(INSTALL) --editable '.[api,worker,local,dev]'
	@touch $@

.venv/installed-bench: .venv/installed-dev
	$(INSTALL) --editable '.[api,worker,local,dev,bench]'
	@touch $@

clean:
	rm -rf .venv demo .mypy_cache .ruff_cache .pytest_cache
