# Two commands: `make demo` and `make test`. Both set up all they need in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := .ci/constraints.txt
DEMO ?=
FUZZ_SECONDS ?= 600
# Of the test suite: more than most machines have cores, as most tests wait. A file's tests share one.
PROCESSES ?= 4
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test fuzz bench bench-full install lint format words lock clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo      a workshop of four desktops on http://127.0.0.1:8080 (make demo DEMO="--accounts 8")'
	@echo 'make test      the whole suite, real parts included'
	@echo 'make fuzz      looks for inputs that break a parser, ten minutes each (make fuzz FUZZ_SECONDS=60)'
	@echo 'make bench     vncgate beside other relays, in minutes; writes docs/performance.md'
	@echo 'make bench-full  the same with more rounds and ten minutes of soak, in half an hour or more'
	@echo 'make install   only .venv with vncgate in it'
	@echo 'make lint      ruff, mypy, import contract'
	@echo 'make words     brings the catalogues of texts (vncgate/locale) up to date'

demo: install
	@exec $(BIN)/vncgate demo $(DEMO)

test: $(VENV)/.dev
	@.ci/system-packages
	@$(BIN)/python -m tests.real.apptainer
	@$(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST)

fuzz: $(VENV)/.dev
	@for target in frames handshakes rfb tokens view; do \
	  mkdir -p build/fuzz/$$target; \
	  $(BIN)/python -m tests.fuzz $$target -max_total_time=$(FUZZ_SECONDS) -timeout=20 -artifact_prefix=build/fuzz/ \
	    build/fuzz/$$target tests/fuzz/corpus/$$target || exit 1; \
	done

bench: $(VENV)/.bench
	@.ci/bench-packages
	@$(BIN)/python -m benchmarks

bench-full: $(VENV)/.bench
	@.ci/bench-packages
	@$(BIN)/python -m benchmarks --full

install: $(VENV)/.installed

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

words: $(VENV)/.dev
	@$(BIN)/python -m tests.words

lock: $(VENV)/.bench
	$(BIN)/pip freeze --exclude-editable | sort > $(CONSTRAINTS)

clean:
	rm -rf $(VENV) build dist vncgate/web/static/novnc .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo '$(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo 'python venv could not be made; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml $(wildcard vncgate/web/npm/*)
	@echo 'Setting up .venv ...'
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml $(CONSTRAINTS) $(wildcard vncgate/web/npm/*)
	@echo 'Setting up .venv with the tools of the test suite ...'
	@$(PIP) -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.bench: $(VENV)/bin/python pyproject.toml $(CONSTRAINTS) $(wildcard vncgate/web/npm/*)
	@echo 'Setting up .venv with the tools of the test suite and the benchmarks ...'
	@$(PIP) -c $(CONSTRAINTS) -e '.[dev,bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.installed
