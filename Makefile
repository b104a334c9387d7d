# `make demo` and `make test` set up everything they need; docs/installation.md says how.
#
#   PYTHON=    interpreter to build with (default: the first of python3.11, 3.12, 3.10, python3)
#   TORCH=     another torch than the pinned one, e.g. TORCH=2.8.0
#   TORCH_INDEX=  where torch comes from: an index without CUDA, or a folder of wheels
#   FLAVOUR=   onedl (default: the maintained OpenMMLab forks) or openmmlab (the originals)
#   OPS=       mmcv's operators: torchvision (default), or compiled (about 15 minutes)
#   TASK=      of the demo: detection (default), segmentation or classification
#   ARGS=      more arguments for the demo, pytest or a benchmark, e.g. ARGS="-k quad"
#   WORKERS=   processes that share the tests, by file (default: one per core, at most 4); 0: none

PYTHON  ?=
TORCH   ?=
TORCH_INDEX ?=
FLAVOUR ?= onedl
OPS     ?=
ARGS    ?=
TASK    ?=
WORKERS ?= auto --maxprocesses 4

# Other packages than the environment's would come from there (ROS and modules set it).
unexport PYTHONHOME PYTHONPATH

VENV  = $(CURDIR)/.venv$(if $(filter openmmlab,$(FLAVOUR)),-openmmlab)
# Any Python that can run the set-up will do here; the set-up chooses the one to build with.
RUNS  = import sys; sys.exit(sys.version_info < (3, 8))
START = $(or $(shell for p in $(PYTHON) python3 python3.11 python3.12 python3.10; do \
	env -u PYTHONHOME "$$p" -c "$(RUNS)" 2>/dev/null && echo "$$p" && break; done),\
	$(error No Python found: install Python 3.10, 3.11 or 3.12, or set PYTHON=/path/to/python))
SETUP = $(START) setup/setup_env.py

.PHONY: help demo test lint docs bench benchmodels benchpeers env doctor clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

demo: env  ## Set up, then train and picture a small model
	@PATH="$(VENV)/bin:$$PATH" PYTHON=python bash tools/demo/demo.sh $(TASK) $(ARGS)

test: env  ## Set up, then run the tests
	@"$(VENV)/bin/python" -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: env  ## Check style and types
	@PATH="$(VENV)/bin:$$PATH" && ruff check . && ruff format --check . && mypy

docs: env  ## Build the documentation site in build/site
	@PATH="$(VENV)/bin:$$PATH" && NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo "build/site/index.html; with search: python3 -m http.server --directory build/site"

bench: env  ## Time scan layers on every backend: tables, JSON, plot
	@"$(VENV)/bin/python" -m benchmarks.benchmark_scan $(ARGS)

benchmodels: env  ## Time whole backbones, and what their time goes into
	@"$(VENV)/bin/python" -m benchmarks.benchmark_backbone $(ARGS)

benchpeers: env  ## Time backbones beside Swin and ConvNeXt
	@"$(VENV)/bin/python" -m benchmarks.benchmark_peers $(ARGS)

env:  ## Create or update the environment
	@$(SETUP) --flavour "$(FLAVOUR)" --python "$(PYTHON)" --torch "$(TORCH)" --ops "$(OPS)" \
		--torch-index "$(TORCH_INDEX)"

doctor: env  ## Print versions and what is wrong with them
	@"$(VENV)/bin/python" -m mmquad.environment

clean:  ## Remove the environments and caches; data and work_dirs stay
	@$(SETUP) --clean && rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
