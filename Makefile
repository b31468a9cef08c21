# make demo        train, predict and evaluate on a synthetic data set, or on DATA=<folder>
# make test        all tests; TESTS='-m "not slow"' for the unit tests alone
# make coverage    the unit tests, and which lines they leave out; less than pyproject.toml's fail_under fails
# make integration nnU-Net's own integration scenario with SCD, about an hour; data in SCD_SHARED
# make lint        ruff and mypy
# make docs        the documentation site: docs/_build/html/index.html
# make lowest      the unit tests with the lowest versions that pyproject.toml promises, on Python 3.10
# make gpu         what SCD brings on an NVIDIA GPU, in BUDGET seconds: gpu.json and gpu.md; DRY=1 rehearses on a CPU
PYTHON ?= python3
VENV ?= .venv
DATA ?=
OUT ?= demo_output
SCD_SHARED ?= ../shared
TESTS ?=
BUDGET ?= 540
DRY ?=
# tests share the cores; what is trained once stays with one worker
WORKERS := -n logical --maxprocesses 4 --dist loadgroup --no-loadscope-reorder

# The environment is built again when dependencies change or the clone moves.
KEY := $(shell { cat pyproject.toml constraints.txt nnunet_trainers/scd_trainers.py nnunet_trainers/site/*; pwd; } | cksum | cut -d' ' -f1)
READY := $(VENV)/.ready-$(KEY)
BIN := $(VENV)/bin

.PHONY: demo test coverage integration integration-data docs lowest gpu lint environment clean

demo: $(READY)
	$(BIN)/scd demo --model-to-try bundles/scd_unetr_hippocampus --output "$(OUT)" $(if $(DATA),--data "$(DATA)")

test: $(READY)
	$(BIN)/python -m pytest $(WORKERS) -m "not integration" $(TESTS)

coverage: $(READY)
	$(BIN)/python -m pytest $(WORKERS) -m "not slow and not integration" --cov --cov-report=term:skip-covered $(TESTS)

integration: integration-data $(READY)
	$(BIN)/python -m pytest -m integration

# without them every test would be skipped, and make content
integration-data:
	@test -d "$(SCD_SHARED)/data/Task04_Hippocampus" || { echo "make integration needs data/Task04_Hippocampus of the Medical \
	Segmentation Decathlon in SCD_SHARED=$(SCD_SHARED); put it there, or name another folder" >&2; exit 1; }

# whatever Sphinx warns of is an error
docs: $(READY)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make docs needs Python 3.11 or 3.12: try make docs PYTHON=python3.11 VENV=.venv-docs" >&2; exit 1; }
	$(BIN)/python -m sphinx -W --keep-going --quiet docs docs/_build/html

# an environment of its own
lowest:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' || \
	  { echo "make lowest needs Python 3.10: try make lowest PYTHON=python3.10" >&2; exit 1; }
	$(PYTHON) -m venv "$(VENV)-lowest"
	"$(VENV)-lowest/bin/python" -m pip install --disable-pip-version-check --quiet -c constraints-lowest.txt -e '.[dev]'
	"$(VENV)-lowest/bin/python" -m pytest $(WORKERS) -m "not slow and not integration" $(TESTS)

gpu: $(READY)
	$(BIN)/python -W ignore benchmarks/gpu/gpu_run.py --budget $(BUDGET) $(if $(DRY),--dry)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

environment: $(READY)

$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "scd-plugin needs Python 3.10, 3.11 or 3.12; PYTHON=$(PYTHON) is none: try make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv "$(VENV)"
	rm -f "$(VENV)"/.ready-*
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	touch "$@"

clean:
	rm -rf "$(VENV)" "$(OUT)" docs/_build
