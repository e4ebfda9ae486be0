# Needs Python 3.11 or newer, git and make. `make` lists what there is.

PYTHON ?= python3
POETRY ?= poetry
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LIBRARIES := $(VENV)/.libraries
INSTALLED := $(VENV)/.installed
# Number of test processes; each loads torch.
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow coverage lint format lock dist clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv with everything, pinned; a second time it does nothing

# The stamps lie in the environment, so they go with it. The libraries are fetched again only when they change; the
# project itself is built with what requirements.txt installed (hence --no-build-isolation), without a connection.
$(LIBRARIES): requirements.txt $(wildcard third_party/*/*.toml third_party/*/*.py)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
		"$(PYTHON) is Python %d.%d, but rl_framework needs 3.11, 3.12 or 3.13: make install PYTHON=python3.11" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --requirement requirements.txt
	@touch $@

$(INSTALLED): $(LIBRARIES) pyproject.toml
	$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

demo: install ## train an agent, record it, and show where the result lies
	$(BIN)/python exploration/train_rl_agent.py

test: install ## the tests that take seconds
	$(PYTEST)

test-slow: install ## the tests that take minutes; those of the wheel need a package index
	$(PYTEST) -m slow

coverage: install ## the same tests as `make test`, with a report of the lines that they leave out
	$(PYTEST) --cov --cov-report=term

# As `pre-commit` does it on a commit, over every tracked file.
lint: install ## format, style, types, spelling
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pre-commit run --all-files

format: install ## mend what can be mended by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: ## resolve the dependencies anew (needs Poetry 2.2 or newer: pip install poetry)
	$(POETRY) lock
	$(PYTHON) scripts/export_requirements.py

dist: install ## build the wheel and the source distribution into dist/
	$(BIN)/python -m build --no-isolation

clean: ## remove what was generated; the environment stays (rm -r .venv removes that)
	rm -rf build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints -o -name '*.egg-info' \) \
		-type d -prune -exec rm -rf {} +
