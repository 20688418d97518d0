# Two commands matter: `make demo` shows what this is, `make test` says whether it works.

VENV ?= .venv
BIN := $(VENV)/bin
# The first of these that is Python 3.11 or newer makes the virtual environment; `make demo PYTHON=...` names another.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
# A further requirement for the environment, such as 'ipykernel==6.31.*', and which tests test-python runs.
WITH ?=
SELECT ?= not browser
# How many tests run at a time, 0: one after another in this process; which folders they are in; which notebooks run.
JOBS ?= 0
TESTS ?= tests
NOTEBOOKS ?= notebooks
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# Kernels must be this environment's own, and see no other modules, whatever the shell has set.
unexport JUPYTER_PATH PYTHONPATH PYTHONHOME
export JUPYTER_PREFER_ENV_PATH := 1

BENCH_INSTALL = $(VENV)-bench/bin/python -m pip install -qq --disable-pip-version-check
SPHINX = $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs
PIP_INSTALL = $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: help demo lab test test-python faults soak bench bench-panel screenshots docs linkcheck binder release-check format clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.notebooks ## Run the quickstart in a real kernel and print what it found
	@$(BIN)/python notebooks/_run.py notebooks/01-quickstart.ipynb build/01-quickstart.ipynb

lab: $(VENV)/.notebooks ## Open the notebooks in JupyterLab
	$(BIN)/python -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/01-quickstart.ipynb

test: $(VENV)/.tests ## Style, types, arrows, tests, notebooks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --nbval-lax --nbval-current-env --timeout=300 notebooks

test-python: $(VENV)/.tests ## The tests and notebooks only, on another interpreter: VENV=.venv-3.13 PYTHON=python3.13
	$(PYTEST) --ignore=tests/meta -m '$(SELECT)' $(TESTS)
	$(if $(NOTEBOOKS),$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --nbval-lax --nbval-current-env --timeout=300 $(NOTEBOOKS))

faults: $(VENV)/.tests .venv-peers/.installed ## Seventeen faults on ten pools: prints the table and writes it into the docs
	$(BIN)/python -m benchmarks.faults --peers .venv-peers/bin/python

soak: $(VENV)/.tests ## Half an hour of kills, restarts and pools, into build/soak.json: SOAK=quick, SOAK=full
	$(BIN)/python -m benchmarks.soak $(SOAK)

bench: $(VENV)-bench/.installed ## Eleven kinds of work beside seven peers, half an hour at most, into docs/performance.md; QUICK=1: three minutes
	$(VENV)-bench/bin/python -m benchmarks.speed $(if $(QUICK),--size quick) $(if $(ONLY),--only $(ONLY))

bench-panel: $(VENV)/.tests ## What it costs to be watched: items per second with a panel and without, side by side
	$(BIN)/python -m benchmarks.panel --kernel

screenshots: $(VENV)/.tests ## Take the pictures in docs/images anew, in a real JupyterLab; needs Chromium
	$(BIN)/python -m tests.browser.screenshots docs/images

docs: $(VENV)/.docs ## Build the pages into build/docs; a warning is an error. Runs notebooks that have changed; QUICK=1: none
	$(SPHINX) -b html $(if $(QUICK),-D nb_execution_mode=off) . build/docs
	@echo "The pages: build/docs/index.html"

linkcheck: $(VENV)/.docs ## Ask every other site that a page links to whether the link is good
	$(SPHINX) -b linkcheck -D nb_execution_mode=off . build/linkcheck

binder: $(VENV)/.tests ## Do what Binder would do, in a bare environment, and run every notebook there
	$(BIN)/python binder/rehearse.py

release-check: $(VENV)/.tests ## Build sdist and wheel, look at both, run the quickstart from the wheel alone
	rm -rf dist build/release
	$(BIN)/python -m hatchling build -t sdist
	$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m venv build/release
	build/release/bin/python -m pip install -qq --disable-pip-version-check "$$(echo dist/*.whl)[notebooks]"
	cp -R notebooks build/release/
	cd build/release && bin/python notebooks/_run.py notebooks/01-quickstart.ipynb 01-quickstart.ipynb

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

$(VENV)/.docs: pyproject.toml | $(VENV)/.tests
	@echo "Installing what the pages need into $(VENV) (once, a minute) ..."
	@$(PIP_INSTALL) --editable '.[notebooks,test,dev,docs]' $(if $(WITH),'$(WITH)')
	@touch $@

.venv-peers/.installed: benchmarks/faults/requirements.txt | $(BIN)/python
	@$(BIN)/python -m venv .venv-peers
	@.venv-peers/bin/python -m pip install -qq --disable-pip-version-check -r $<
	@touch $@

# A peer that this Python cannot install is left out. From wheels only: what must be compiled fails late, and at length.
$(VENV)-bench/.installed: benchmarks/speed/requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing aiopool and the pools it is compared with into $(VENV)-bench (once, a few minutes) ..."
	@$(BIN)/python -m venv $(VENV)-bench
	@$(BENCH_INSTALL) --editable .
	@$(BENCH_INSTALL) --only-binary :all: -r $< || grep -v '^#' $< | while read -r peer; do \
	  $(BENCH_INSTALL) --only-binary :all: "$$peer" || echo "Left out: $$peer" >&2; \
	done
	@touch $@

$(BIN)/python:
	@for python in $(PYTHON); do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  "$$python" -m venv $(VENV) && exit 0; \
	  rm -rf $(VENV); \
	  echo "$$python cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	done; \
	echo "aiopool needs Python 3.11 or newer; none of these is: $(PYTHON)" >&2; \
	echo "Name one that is: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3.12" >&2; exit 1
