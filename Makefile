# What one does with this project; `make` alone lists it.

PYTHON ?= python3
DATA ?=
PORT ?= 8000
SECONDS ?= 600
WORKERS ?= 2
ROUNDS ?= 50
VENV := .venv
BIN := $(VENV)/bin
MANAGE := $(BIN)/python manage.py
# The embedded database comes before what is measured or tested beside it.
BESIDE_DATABASE := $(BIN)/python -m aiaas_site.database_first

.DEFAULT_GOAL := help
.PHONY: help demo up compiled compiled-by compiled-if-possible test check format bench bench-peers bench-soak bench-training bench-ledger test-crash openapi lock clean python installed installed-dev

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: installed ## walk through everything as a customer would; DATA=folder takes your own pictures
	@$(MANAGE) demo $(if $(DATA),--data "$(DATA)")

up: installed ## serve everything until Ctrl-C; PORT=8000
	@$(MANAGE) up --port $(PORT)

compiled: compiled-by ## translate the prediction plane to C, so that small requests cost much less (needs a C compiler)
	@$(BIN)/python -m aiaas_site.compiling

test: installed-dev compiled-if-possible ## run the tests, in WORKERS=2 processes at a time
	$(BESIDE_DATABASE) $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not empties_tables"
	$(BESIDE_DATABASE) $(BIN)/pytest -m empties_tables

test-crash: installed-dev compiled-if-possible ## kill everything at random, ROUNDS=50 times, and look for what is missing or there twice
	ROUNDS=$(ROUNDS) $(BESIDE_DATABASE) $(BIN)/pytest tests/crash

check: installed-dev ## everything that must hold before a change goes in, the tests last
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(MANAGE) makemigrations --check --dry-run
	$(MANAGE) check --database default
	$(MANAGE) spectacular --validate --fail-on-warn --file $(VENV)/openapi.yaml
	@diff -u docs/openapi.yaml $(VENV)/openapi.yaml || { echo "docs/openapi.yaml is out of date: run make openapi" >&2; exit 1; }
	@$(MAKE) --no-print-directory test

format: installed-dev ## format the code and mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: installed compiled-if-possible ## measure speed against bare loops in the same run (minutes)
	$(BIN)/python -m benchmarks

bench-peers: installed compiled-if-possible ## measure ours beside other model servers, installed into var/peers (needs a package index)
	$(BIN)/python -m benchmarks peers

bench-soak: installed compiled-if-possible ## 1,000 requests a second of mixed traffic for ten minutes; SECONDS=600
	$(BESIDE_DATABASE) $(BIN)/python -m benchmarks.soak --seconds $(SECONDS)

bench-training: installed-dev ## examples a second of each recipe beside the plain Keras script of a tutorial (minutes)
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.paces

bench-ledger: installed compiled-if-possible ## what metering costs, events a second into the rollup, a month's report and invoice
	$(BIN)/python -m benchmarks ledger

openapi: installed-dev ## write docs/openapi.yaml anew
	$(MANAGE) spectacular --validate --fail-on-warn --file docs/openapi.yaml

lock: python ## pin the newest versions that pyproject.toml allows (needs a package index)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch" && "$$scratch/bin/pip" install --quiet --disable-pip-version-check uv && \
	compile="$$scratch/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet" && \
	$$compile pyproject.toml --upgrade --output-file requirements.lock && \
	$$compile pyproject.toml --extra dev --constraints requirements.lock --output-file requirements-dev.lock && \
	$$compile --group compile --constraints requirements-dev.lock --output-file requirements-compile.lock && \
	for alone in tests/clients/*.in benchmarks/peers/locks/*.in; do $$compile "$$alone" --upgrade --output-file "$${alone%.in}.lock" || exit 1; done

clean: ## remove what the commands above made: .venv, var, caches
	rm -rf $(VENV) var benchmarks/results .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12 …" >&2; exit 1; }

# A lock is installed when a copy of it lies in the environment; the development lock contains the other.
installed: $(BIN)/pip
	@cmp -s requirements.lock $(VENV)/requirements.lock || { $(call install,requirements.lock); }

installed-dev: $(BIN)/pip
	@{ cmp -s requirements-dev.lock $(VENV)/requirements-dev.lock && cmp -s requirements.lock $(VENV)/requirements.lock; } || \
	{ $(call install,requirements-dev.lock) && cp requirements.lock $(VENV)/requirements.lock; }

# A server takes what is compiled if it is of the sources that are there, else it runs from them.
compiled-if-possible: compiled-by
	@$(BIN)/python -m aiaas_site.compiling --if-possible

compiled-by: installed
	@cmp -s requirements-compile.lock $(VENV)/requirements-compile.lock || { $(call install,requirements-compile.lock); }

install = echo "Installing $(1) into $(VENV)$(if $(findstring compile,$(1)),.,; with TensorFlow this takes a few minutes.)" && \
	$(BIN)/pip install --disable-pip-version-check --require-hashes --no-deps -r $(1) && cp $(1) $(VENV)/$(1)

$(BIN)/pip: | python
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	echo "$(PYTHON) cannot make a virtual environment (Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
