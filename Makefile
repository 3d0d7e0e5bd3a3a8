# One definition of "passing": people and CI all run `make check`.
PYTHON ?= python3
PY := .venv/bin/python
CODE := model indexer server client tests benchmarks recguru_cli.py
STUBS := proto/recguru/v1
BUF_VERSION := 1.75.0
# What is installed stays, unless asked otherwise: `make test-gpu` must not put the CPU build over the GPU's.
FAISS ?= $(if $(wildcard .venv/.installed-gpu),gpu,cpu)
INSTALLED := .venv/.installed-$(FAISS)
OTHER_FAISS := $(filter-out $(INSTALLED),$(wildcard .venv/.installed-*))
DATA ?=
DATASET ?=
DEMO ?= demo

.DEFAULT_GOAL := help
.PHONY: help install proto proto-check buf format lint types test test-slow test-gpu check demo bench-serve bench-overload bench-reload clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv and install the project with its tools (FAISS=gpu for the GPU build)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python 3.11 or newer is needed; set PYTHON=...")'
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(if $(OTHER_FAISS),$(PY) -m pip uninstall --quiet --yes faiss-cpu faiss-gpu)
	$(PY) -m pip install --quiet --constraint constraints.txt torch
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[$(FAISS),milvus,plots,otel,dev]'
	rm -f .venv/.installed-*
	touch $@

# $(call protoc,DIR): write the stubs of every contract under DIR.
protoc = PATH="$(abspath $(dir $(PY))):$$PATH" $(PY) -m grpc_tools.protoc -I proto \
  --python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) \
  $(STUBS)/*.proto

proto: install ## regenerate the typed stubs from the .proto files
	$(call protoc,proto)

proto-check: install buf
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call protoc,$$fresh) && \
	  for stub in "$$fresh"/recguru/v1/*; do diff -u "$(STUBS)/$${stub##*/}" "$$stub" || \
	  { echo "stale stubs: run 'make proto'"; exit 1; }; done

buf:
	@if command -v npx >/dev/null; then cd proto && npx --yes @bufbuild/buf@$(BUF_VERSION) lint; \
	  else echo "buf lint skipped: node is not installed"; fi

format: install ## rewrite the code in the house format
	$(PY) -m ruff format $(CODE)
	$(PY) -m ruff check --fix $(CODE)

lint: install ## style and likely mistakes
	$(PY) -m ruff format --check $(CODE)
	$(PY) -m ruff check $(CODE)

types: install ## strict type check
	$(PY) -m mypy

test: install ## the tests: no network, no GPU, under 8 minutes on two cores
	$(PY) -m pytest -n 2 --dist worksteal

test-slow: install ## tests that train until they converge
	$(PY) -m pytest -m slow

test-gpu: install ## tests that need a CUDA device
	$(PY) -m pytest -m gpu

check: proto-check lint types test ## everything a change must pass

bench-serve: install ## how fast the server is, on DATASET=FOLDER and on 1.46 M made-up items
	$(if $(DATASET),$(PY) -m benchmarks.serving --data $(DATASET))
	$(PY) -m benchmarks.serving --items 1460000

bench-overload: install ## what the server does with four times what it can answer; DATASET=FOLDER
	$(PY) -m benchmarks.overload --data $(DATASET)

bench-reload: install ## what callers notice of reloads, and whether damage is kept out; DATASET=FOLDER
	$(PY) -m benchmarks.reloads --data $(DATASET)

demo: install ## the whole way, from logs to answers; DATA=FOLDER runs it on real data
	$(PY) -m benchmarks.demo --out $(DEMO) $(if $(DATA),--data $(DATA))

clean: ## remove what the targets above make
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache demo
