# Two commands set up everything: `make demo` runs the engine on real input, `make test` tests it.

VENV   := .venv
PYTHON := $(VENV)/bin/python
RUN    := $(VENV)/.holds-run
DEV    := $(VENV)/.holds-dev
# What pytest gets besides pyproject.toml: one process a core, a file's tests kept together.
PYTEST := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
BENCH  ?= throughput
FUZZ_S ?= 300
CHAOS_S ?= 300
SEEDS  ?= 200
ARGS   ?=

# Compiled once: every engine, worker and command of a run imports the same.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help demo up test check format generate bench fuzz sim sim-mutants chaos lock clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUN)  ## Run real workers on real input with live progress, then end
	@$(PYTHON) -m jobengine demo $(ARGS)

up: $(RUN)  ## Start the engine with its own database and console, until Ctrl-C
	@$(PYTHON) -m jobengine up $(ARGS)

test: $(DEV)  ## Run the tests (ARGS="tests/core -k lease" chooses)
	@$(PYTHON) -m pytest $(PYTEST) $(ARGS)

check: $(DEV)  ## Format, lint, types, import contracts, lock and generated files; changes nothing
	@$(PYTHON) -m ruff format --quiet --check --diff .
	@$(PYTHON) -m ruff check --quiet .
	@$(PYTHON) -m mypy --no-error-summary
	@$(VENV)/bin/lint-imports --no-logo >$(VENV)/contracts.log || { cat $(VENV)/contracts.log; exit 1; }
	@$(PYTHON) -m tools.lock --check
	@$(PYTHON) -m tools.generate --check
	@echo "check: all is well"

format: $(DEV)  ## Format, and mend what the linter can mend safely
	@$(PYTHON) -m ruff check --quiet --fix-only .
	@$(PYTHON) -m ruff format --quiet .

generate: $(DEV)  ## Write the files that are made from code
	@$(PYTHON) -m tools.generate

bench: $(DEV)  ## Measure (BENCH=throughput, enqueue, pickup, ...)
	@$(PYTHON) -m bench $(BENCH) $(ARGS)

fuzz: $(DEV)  ## Make requests from the API's description, and odd tokens (FUZZ_S=300 seconds)
	@JOBENGINE_FUZZ_S=$(FUZZ_S) $(PYTHON) -m pytest --timeout $$(($(FUZZ_S) + 300)) \
		tests/http/test_schemathesis.py tests/http/test_fuzz_parsers.py $(ARGS)

# SEED=7 prints the trace of that seed instead.
sim: $(RUN)  ## Simulate SEEDS=200 seeds with faults, each twice; SEED=7 replays one
	@$(PYTHON) -m jobengine sim $(if $(SEED),replay --seed $(SEED),run --seeds $(SEEDS)) $(ARGS)

sim-mutants: $(DEV)  ## Plant bugs in the engine, one at a time, and see that simulation catches each
	@$(PYTHON) -m tests.sim.mutants $(ARGS)

chaos: $(DEV)  ## Kill, freeze, restart, cut and fill up for real (CHAOS_S=300 seconds a test)
	@JOBENGINE_CHAOS_S=$(CHAOS_S) $(PYTHON) -m pytest --timeout $$((2 * $(CHAOS_S) + 300)) tests/chaos $(ARGS)

lock: $(DEV)  ## Solve the lock files again (ARGS=--upgrade takes newer versions)
	@$(PYTHON) -m tools.lock $(ARGS)

clean:  ## Remove what make made: .venv, caches, builds
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# requirements.lock holds all that requirements-run.lock does, at the same versions.
$(DEV): requirements.lock pyproject.toml
	@sh tools/venv.sh requirements.lock $@
	@touch $(RUN)

$(RUN): requirements-run.lock pyproject.toml
	@sh tools/venv.sh requirements-run.lock $@
