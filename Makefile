# What a developer types. Everything runs in .venv, which is made here when it is missing
# and made again when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_FLAGS ?=
BENCH_FLAGS ?=
APT_GET ?= apt-get

# A stamp belongs to one Python version and one folder: a copied checkout brings along a .venv
# whose scripts and editable install still point at the original.
STAMP := $(VENV)/.made-$(shell $(PYTHON) -c "import os, sys, zlib; \
    print('%d.%d-%08x' % (*sys.version_info[:2], zlib.crc32(os.getcwd().encode())))")

# Folders that hold tests and documentation with examples that must run. Those with processes of
# their own mostly wait, so they run beside the others.
TESTED := tests/unit zcluster $(wildcard examples) $(wildcard docs/*.md) $(wildcard README.md)
TESTED_WITH_PROCESSES := tests/processes
RUN_TESTS = $(BIN)/python -m pytest --durations=10 --doctest-modules --doctest-glob='*.md' \
    -m 'not slow' $(PYTEST_FLAGS)
# The slow ones, in parts of about the same length: two of them run side by side.
RUN_SLOW = $(BIN)/python -m pytest --durations=10 -m 'slow or system' $(PYTEST_FLAGS)
SLOW_PARTS := slow-first slow-second slow-others
# What two runs print must not be mixed; an old make has to run one after the other.
BESIDE := $(if $(filter output-sync,$(.FEATURES)),--jobs=2 --output-sync=target)
# A file there that does not run by itself is shared code; echo.py is started by the others, and
# chaos.py takes minutes and options of its own.
BENCHMARKS := $(filter-out benchmarks/echo.py benchmarks/chaos.py,$(shell grep -l __main__ benchmarks/*.py 2>/dev/null))

# Commands that tests/system needs, each as command:debian-package. Nothing today.
SYSTEM_COMMANDS :=

.PHONY: help demo test test-units test-processes lint format bench docs test-system clean $(SLOW_PARTS)
.DELETE_ON_ERROR:

help:
	@echo "make demo         run examples/pi.py on a local cluster"
	@echo "make test         unit tests, tests with processes, examples in the documentation"
	@echo "make lint         ruff, mypy, import contracts"
	@echo "make format       let ruff rewrite the files"
	@echo "make bench        benchmarks (BENCH_FLAGS=--quick)"
	@echo "make docs         the documentation, into docs/_build/html"
	@echo "make test-system  tests that need packages of the machine, and slow ones"
	@echo "make clean        remove everything that can be made again"
	@echo "PYTHON=python3.12 chooses the interpreter, PYTEST_FLAGS='-k name' is passed on"

$(STAMP): pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(STAMP)-test: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

$(STAMP)-docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

demo: $(STAMP)
	$(BIN)/python examples/pi.py

# Two runs of pytest, each with a line at its end that says what happened; tests/conftest.py prints
# the time each folder took. Launchers hold no doctests and are not in the list. What is slow
# (gigabytes, a million tasks, processes frozen for ten seconds) runs with test-system.
# What became of the tests that prove names of Dask and NumPy is kept in build/dask-names.json and
# build/array-names.json, for `make docs`.
test: $(STAMP)-test
	@$(MAKE) --no-print-directory --keep-going $(BESIDE) test-units test-processes

test-units: $(STAMP)-test
	$(RUN_TESTS) $(TESTED)

test-processes: $(STAMP)-test
	$(RUN_TESTS) $(TESTED_WITH_PROCESSES)

# Every check runs, also after one that failed.
lint: $(STAMP)-test
	@status=0; \
	for check in "ruff check" "ruff format --check" "mypy" "lint-imports --no-cache --no-logo"; do \
	    echo "== $$check"; $(BIN)/$$check || status=1; \
	done; exit $$status

format: $(STAMP)-test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP)
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script $(BENCH_FLAGS); done

docs: $(STAMP)-docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

test-system: $(STAMP)-test
	@missing=; for need in $(SYSTEM_COMMANDS); do \
	    command -v "$${need%%:*}" >/dev/null 2>&1 || missing="$$missing $${need#*:}"; \
	done; \
	if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" = 0 ] && command -v $(APT_GET) >/dev/null 2>&1; then \
	        $(APT_GET) update -qq && \
	        DEBIAN_FRONTEND=noninteractive $(APT_GET) install -y -qq --no-install-recommends $$missing; \
	    else \
	        echo "test-system needs the Debian packages:$$missing (install them, or run as root)" >&2; \
	        exit 1; \
	    fi; \
	fi
	@$(MAKE) --no-print-directory --keep-going $(BESIDE) $(SLOW_PARTS)

slow-first: $(STAMP)-test
	$(RUN_SLOW) $(wildcard tests/processes/test_[a-l]*.py)

slow-second: $(STAMP)-test
	$(RUN_SLOW) $(wildcard tests/processes/test_[m-z]*.py) tests/processes/dask_names

slow-others: $(STAMP)-test
	$(RUN_SLOW) tests/unit tests/system

clean:
	rm -rf $(VENV) build dist *.egg-info docs/_build docs/generated
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find zcluster launchers tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
