# Two commands do everything: `make demo` and `make test`. Each sets up .venv and skips what is there.

PYTHON ?= python3
VENV := .venv
TOOLS := .venv-tools
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench soak soak-long clients builtin lock audit

help: ## list these targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

demo: $(VENV)/.demo ## set up, then open the chat at http://127.0.0.1:8000
	$(BIN)/python app.py --inbrowser

# Side by side, threads of torch that wait have to sleep: spinning, they took the other tests' time (50 s for 5 s of
# work). Files keep the order of tests/conftest.py, the longest first. Timed tests are looked for in their files alone,
# as collecting all takes longer than some of them.
test: $(VENV)/.tests ## set up, then run all tests
	$(BIN)/python tests/install_chromium.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m "not timed" -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -m timed $$(grep -rl --include="test_*.py" "mark\.timed" tests)

lint: $(VENV)/.tests ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.tests ## lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.tests ## measure start, first token and speed; prints tables
	$(BIN)/python -m tests.benchmarks.start
	$(BIN)/python -m tests.benchmarks.generation
	$(BIN)/python -m tests.benchmarks.loading
	$(BIN)/python -m tests.benchmarks.conversations
	$(BIN)/python -m tests.benchmarks.gpu
	$(BIN)/python -m tests.benchmarks.api
	$(BIN)/python -m tests.benchmarks.remote

clients: $(VENV)/.tests ## try clients that others wrote against the API (in .venv-clients; some minutes)
	@test -x .venv-clients/bin/pip || $(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
	$(BIN)/python -m tests.clients .venv-clients/bin/python

soak: $(VENV)/.tests ## load the page for 5 minutes; prints what is promised and what was measured
	$(BIN)/python -m tests.benchmarks.soak

soak-long: $(VENV)/.tests ## the same for an hour
	$(BIN)/python -m tests.benchmarks.soak --minutes 60

audit: $(TOOLS)/.done ## compare the tested versions with published advisories
	$(TOOLS)/bin/python tests/audit.py $(TOOLS)/bin/pip-audit

lock: $(TOOLS)/.done ## write constraints.lock anew, with the hashes of all files of the tested versions
	$(TOOLS)/bin/uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" -c constraints.txt -o constraints.lock \
		requirements_web_demo.txt tests/requirements.txt

builtin: $(VENV)/.demo ## train the built-in checkpoint anew (45 minutes on 2 cores with AVX512-BF16)
	$(BIN)/python -m model_loader.builtin.train

$(VENV)/.demo: requirements_web_demo.txt constraints.txt
	@echo "Setting up $(VENV) (once; a few minutes with a fast connection) ..."
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "Python 3.11, 3.12 or 3.13 is needed; try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -r requirements_web_demo.txt
	@touch $@

$(VENV)/.tests: $(VENV)/.demo tests/requirements.txt
	$(PIP_INSTALL) -r tests/requirements.txt
	@touch $@

$(TOOLS)/.done:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit uv
	@touch $@
