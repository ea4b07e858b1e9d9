# Two commands: `make serve` runs the main job with no camera and no GPU, `make test` passes the tests.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# On all cores, a file on one of them: its tests share daemons and trainings. The slowest are named at the end.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --durations 15 --durations-min 5

.PHONY: serve test test-device coverage check docs bench hooks torch-cpu clean

serve: $(VENV)/.base
	$(BIN)/crossglg-edge serve --camera demo

test: $(VENV)/.dev
	$(PYTEST)

# The tests on the device's packages alone; what needs an extra skips.
test-device: $(VENV)/.device
	$(PYTEST)

# Two fifths more of CPU than `make test`, in processes that the tests start too.
coverage: $(VENV)/.dev
	$(PYTEST) --cov

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(VENV)/.dev
	$(BIN)/python -m pytest benchmarks

# Check each commit, with the tools of $(VENV).
hooks: $(VENV)/.dev
	$(BIN)/pre-commit install

# PyTorch's CPU build, before the rest: from PyPI, torch brings several GB of CUDA packages.
torch-cpu: | $(BIN)/python
	$(PIP) torch --extra-index-url https://download.pytorch.org/whl/cpu

clean:
	rm -rf $(VENV) site .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

# The device's packages alone: no torch.
$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) (once) ..."
	$(PIP) -e .
	@touch $@

$(VENV)/.device: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[test-device]'
	@touch $@ $(VENV)/.base

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) with everything that training and tests need (once) ..."
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.base
