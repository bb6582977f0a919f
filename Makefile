# Neural collapse, re-executed. `make` lists the targets; `make book` and `make test` are the two that matter.
#
# Variables, all optional:
#   PYTHON       the interpreter to make .venv with; by default the first of python3.11, 3.12, 3.13 and python3
#                that is at least 3.11
#   TORCH_INDEX  an index of torch builds, to choose one for this machine: https://download.pytorch.org/whl/cpu
#                saves gigabytes where there is no GPU, .../whl/cu126 and the like name a version of CUDA
#   PY           an interpreter whose environment is ready (conda, Binder): `make book PY=python` makes no .venv
#   JOBS         tests at the same time, 2 by default

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SHELLFLAGS := -eu -c
.PHONY: help env check test notebooks gate site book record release clean

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
TORCH_INDEX ?=
JOBS ?= 2

ifeq ($(origin PY),command line)
ENV :=
BIN :=
else
PY := .venv/bin/python
ENV := .venv/.made
BIN := .venv/bin/
endif

# A kernel started from this environment is this environment's, whatever kernels the user has registered.
export JUPYTER_PREFER_ENV_PATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# One thread a process: sums come out in one order, and parallel tests do not fight over cores.
test: export OMP_NUM_THREADS := 1
test: export OPENBLAS_NUM_THREADS := 1
test: export MKL_NUM_THREADS := 1

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

env: $(ENV)  ## make .venv from constraints.txt

.venv/.made: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 found: install one, or name it: make PYTHON=..." >&2; exit 1; }
	.venv/bin/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		-c constraints.txt -e '.[book,test]'
	touch $@

check: $(ENV)  ## lint, format, and the gate on the executed notebooks
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m nclib.notebooks gate
	$(PY) tools/finding.py --check

test: $(ENV)  ## all tests: unit, property, oracle, claims, site; then the benchmarks; then nbval on the notebooks
	MPLBACKEND=agg $(PY) -m pytest -n $(JOBS) --dist loadscope --ignore=tests/benchmarks
	$(PY) -m pytest -p no:xdist tests/benchmarks
	$(PY) -m pytest -n $(JOBS) --dist loadscope --nbval-lax --nbval-current-env --nbval-cell-timeout 300 notebooks

notebooks: $(ENV)  ## execute every notebook in place
	$(PY) -m nclib.notebooks execute-all
	$(PY) tools/finding.py

gate: $(ENV)  ## are the notebooks executed in order, complete, fresh and without errors?
	$(PY) -m nclib.notebooks gate
	$(PY) tools/finding.py --check

site: $(ENV)  ## build _build/html from the notebooks as they are, and check it
	rm -rf _build
	$(BIN)jupyter-book build . -W -n --keep-going
	$(PY) tools/check_site.py _build/html

book: $(ENV)  ## the whole path: notebooks, gate, site
	$(MAKE) --no-print-directory notebooks
	$(MAKE) --no-print-directory gate
	$(MAKE) --no-print-directory site
	@echo "open _build/html/index.html"

record: $(ENV)  ## train and record every run of every grid that is missing (days, and on a GPU; `nclib status` counts)
	$(BIN)nclib record --all

release: book  ## pack the site in dist/ with its checksum
	mkdir -p dist
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --use-compress-program='gzip -n' \
		-cf dist/neural-collapse-site.tar.gz -C _build html
	cd dist && sha256sum neural-collapse-site.tar.gz > neural-collapse-site.tar.gz.sha256

clean:  ## remove what was built; recorded runs and .venv stay
	rm -rf _build dist .pytest_cache .ruff_cache .hypothesis
