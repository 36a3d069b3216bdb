# make demo: from nothing to a trained and evaluated model. make check: what to run while working.
# make test: every check. make docs: the pages, into site/. make soak: a long trial of what may go wrong.
PYTHON ?= python3
VENV   ?= .venv
DATA   ?= datasets
RUN    ?= logs/demo
# More options of tools/demo.py, and config keys and values.
OPTIONS ?=

INSTALLED := $(VENV)/installed

# Python compiles a file once, not in each of the processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo check test lint docs soak setup

demo: setup
	FASTREID_DATASETS=$(DATA) $(VENV)/bin/python tools/demo.py --out $(RUN) $(OPTIONS)

# Style, imports, types, and the tests that are not marked slow or gpu.
check: lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m "not slow and not gpu"

test: lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy

# Warnings are errors. The test of the pages builds them too.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

# Kills, damage, hostile inputs: about 20 minutes; figures go to soak.json.
soak: setup
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m tests.soak $(OPTIONS)

setup: $(INSTALLED)

$(INSTALLED): requirements.txt requirements-test.txt requirements-fastreid.txt setup.py
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; \
		sys.version_info >= (3, 11) or sys.exit(f"$(PYTHON) is {v}: expected 3.11 or newer, as in make demo PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -r requirements.txt -r requirements-test.txt
	$(VENV)/bin/pip install --no-deps --require-hashes -r requirements-fastreid.txt
	$(VENV)/bin/pip install --no-deps --no-build-isolation -e .
	touch $@
