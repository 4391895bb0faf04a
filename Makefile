# Everything runs in .venv, which is built from requirements.lock when it is missing or older than the lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SEED ?= 0
PYTEST_ARGS ?=
ROOMS := immuno cluster agents evaluation db

.DEFAULT_GOAL := help
.PHONY: help demo test lint format check lock

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "Building $(VENV) from requirements.lock (a few GB with torch; once)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --quiet --compile-bytecode requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $(READY)

demo: $(READY)  ## The whole system on the mini-world, into runs/demo (make demo SEED=1 for another seed)
	@$(BIN)/python -m immuno demo --seed $(SEED)

test: $(READY)  ## All tests
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(READY)  ## ruff (format and rules) and mypy --strict
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(READY)  ## Format and mend what ruff can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

check: lint test  ## lint and test

# The lock holds no registry address. torch is the one that the vllm extra wants, so that both fit one environment.
lock:  ## Resolve requirements.lock again
	@printf 'torch==2.13.0\ntorchvision==0.28.0\n' > $(VENV)/constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile pyproject.toml --extra dev --extra postgres --extra s3 --extra turbo --universal --python-version 3.11 \
	  --no-header --no-annotate --generate-hashes --quiet -c $(VENV)/constraints.txt -o requirements.lock > /dev/null
