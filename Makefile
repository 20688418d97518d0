# Two commands matter: `make demo` shows what this is, `make test` says whether it works.

VENV ?= .venv
BIN := $(VENV)/bin
# The first of these that is Python 3.11 or newer makes the virtual environment; `make demo PYTHON=...` names another.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
# A further requirement for the environment, such as 'ipykernel==6.31.*', and which tests test-python runs.
WITH ?=
SELECT ?= not browser

# Kernels must be this environment's own, and see no other modules, whatever the shell has set.
unexport JUPYTER_PATH PYTHONPATH PYTHONHOME
export JUPYTER_PREFER_ENV_PATH := 1

PIP_INSTALL = $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: help demo lab test test-python format clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.notebooks ## Run the quickstart in a real kernel and print what it found
	@$(BIN)/python notebooks/_run.py notebooks/01-quickstart.ipynb build/01-quickstart.ipynb

lab: $(VENV)/.notebooks ## Open the notebooks in JupyterLab
	$(BIN)/python -m jupyterlab notebooks/01-quickstart.ipynb

test: $(VENV)/.tests ## Style, types, arrows, tests, notebooks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env --timeout=300 notebooks

test-python: $(VENV)/.tests ## The tests and notebooks only, on another interpreter: VENV=.venv-3.13 PYTHON=python3.13
	$(BIN)/python -m pytest --ignore=tests/meta -m '$(SELECT)' tests
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env --timeout=300 notebooks

format: $(VENV)/.tests ## Put the source in order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove everything that make has made
	rm -rf .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests notebooks -name __pycache__ -prune -exec rm -rf {} +

# The stamps keep a second run from installing again, until pyproject.toml changes.
$(VENV)/.notebooks: pyproject.toml | $(BIN)/python
	@echo "Installing aiopool and what its notebooks need into $(VENV) (once, a minute or two) ..."
	@$(PIP_INSTALL) --editable '.[notebooks]' $(if $(WITH),'$(WITH)')
	@touch $@

$(VENV)/.tests: pyproject.toml | $(BIN)/python
	@echo "Installing aiopool and what its tests need into $(VENV) (once, a minute or two) ..."
	@$(PIP_INSTALL) --editable '.[notebooks,test,dev]' $(if $(WITH),'$(WITH)')
	@touch $@ $(VENV)/.notebooks

$(BIN)/python:
	@for python in $(PYTHON); do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  "$$python" -m venv $(VENV) && exit 0; \
	  rm -rf $(VENV); \
	  echo "$$python cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	done; \
	echo "aiopool needs Python 3.11 or newer; none of these is: $(PYTHON)" >&2; \
	echo "Name one that is: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3.12" >&2; exit 1
