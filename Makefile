# The environment: made if there is none, and brought up to date when pyproject.toml or the checkout it serves changes.
VENV ?= .venv
EXTRAS ?= audio,video,test,bench,docs
# What makes it: the first of these that runs and is at least 3.11.
PYTHON ?= $$(for name in python3.13 python3.12 python3.11 python3 false; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; done; echo $$name)
# The lowest versions have wheels for the oldest Python alone.
FLOOR_VENV ?= .venv-floor
FLOOR_PYTHON ?= python3.11
# Apart from the others, see tests/models/test_torchao.py.
TORCHAO = 'torchao>=0.18'
WORKERS ?= 2
CASES ?= ../shared/parity
ARGS ?=

BIN = $(VENV)/bin
INSTALLED = $(VENV)/.hf_vits-installed
WANTED = $(shell cksum < pyproject.toml) $(EXTRAS) $(TORCHAO) $(CURDIR)
PYTEST = $(BIN)/python -m pytest -q --durations=10
UNIT_TESTS = --ignore tests/conformance --ignore tests/recipe_runs --ignore tests/browser tests
# Old versions may warn of what new ones have dropped, and transformers' own tests warn themselves.
ANY_WARNING = -W default::DeprecationWarning -W default::PendingDeprecationWarning -W default::FutureWarning
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# OpenMP's threads otherwise spin while they wait, which on busy cores makes a step many times longer.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help env demo test lint typecheck test-floor cards parity parity-ci conformance hub-campaign recipe-runs browser-tests fuzz claims bench docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "VENV=folder names the environment (default .venv), WORKERS=n the test processes, ARGS=... more arguments"

env: ## the environment that all others use
	@if [ "$$(cat $(INSTALLED) 2>/dev/null)" != "$(WANTED)" ]; then \
		set -e; \
		test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
			{ echo "error: this needs Python 3.11 or newer with its module venv; name one by PYTHON=" >&2; exit 1; }; \
		echo "installing hf_vits and what it needs into $(VENV)"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/torchao $(TORCHAO); \
		echo "$(WANTED)" > $(INSTALLED); \
	fi

demo: env ## convert, fine-tune, share, pull and use CCT on the digits; writes demo-report/
	@$(BIN)/python -m hf_vits.demo $(ARGS)

test: lint ## lint and all tests but conformance, recipe-runs and browser-tests
	$(ONE_THREAD) $(PYTEST) -n $(WORKERS) --dist worksteal $(UNIT_TESTS) $(ARGS)

lint: env ## ruff check and format, and the spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell .

typecheck: env ## pyright (basic) over src/ and conversion/
	$(BIN)/basedpyright --pythonpath $(BIN)/python

test-floor: ## the tests with the lowest versions that pyproject.toml allows, in FLOOR_VENV=.venv-floor
	test -x $(FLOOR_VENV)/bin/uv || { $(FLOOR_PYTHON) -m venv $(FLOOR_VENV) && $(FLOOR_VENV)/bin/python -m pip install --quiet uv; }
	$(FLOOR_VENV)/bin/uv pip install --quiet --python $(FLOOR_VENV)/bin/python --resolution lowest-direct -e '.[$(EXTRAS)]'
	$(FLOOR_VENV)/bin/uv pip install --quiet --python $(FLOOR_VENV)/bin/python --resolution lowest-direct --no-deps --target $(FLOOR_VENV)/torchao $(TORCHAO)
	$(ONE_THREAD) $(FLOOR_VENV)/bin/python -m pytest -q -n $(WORKERS) --dist worksteal $(ANY_WARNING) $(UNIT_TESTS) $(ARGS)

cards: env ## write what follows from facts and sizes in model_cards/ and README
	@$(BIN)/python -m model_cards.generate

# MKL's float32 exp differs by a unit in the last place between processors, which shows in tables of thousands of
# positions; its compatible mode computes the same everywhere, as where the golden cases were made.
parity parity-ci: export MKL_CBWR = COMPATIBLE

parity: parity-ci ## every golden case below CASES=../shared/parity
	$(PYTEST) tests/test_parity.py --cases $(CASES) -m large $(ARGS)

parity-ci: env ## the golden cases of at most 60M parameters
	$(ONE_THREAD) $(PYTEST) -n $(WORKERS) tests/test_parity.py --cases $(CASES) -m "not large" $(ARGS)

conformance: env ## transformers' own tests on every architecture
	HF_HUB_OFFLINE=1 $(ONE_THREAD) $(PYTEST) -n $(WORKERS) $(ANY_WARNING) tests/conformance $(ARGS)

hub-campaign: env ## every fault at every request of a push and a pull
	$(ONE_THREAD) $(BIN)/python -m tests.hub.campaign $(ARGS)

recipe-runs: env ## the small recipes without labels at full length, up to 20 minutes each
	$(PYTEST) tests/recipe_runs $(ARGS)

browser-tests: env ## click through the pages that commands write and serve, in Chromium: CHROMIUM=path names another
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[browser]'
	$(ONE_THREAD) $(PYTEST) -m browser tests/browser $(ARGS)

fuzz: env ## thousands of odd configurations, inputs, checkpoints, media and recipes, of three seeds
	$(ONE_THREAD) $(BIN)/python -m tests.fuzz --seed 0 1 2 --workers $(WORKERS) $(ARGS)

claims: env ## claims of papers, checked by training both sides: resumable, ARGS='--minutes 60' limits it
	$(ONE_THREAD) $(BIN)/hf-vits claims $(ARGS)

bench: env ## speed and memory beside transformers, timm and torchvision
	$(BIN)/python -m benchmarks.speed $(ARGS)

docs: env ## the documentation, as a site in site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet $(ARGS)

clean: ## what tests, builds and the demo left behind; neither environment nor runs
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .conformance demo-report site
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
