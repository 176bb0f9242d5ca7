# make train   an environment, and a first network trained on embedded handwritten digits
# make test    the same environment with the test tools, and the tests
# make check   style, types, import order and tests: what a change must pass
#
# PYTHON=python3.12     another interpreter (3.11 or later)
# TORCH_INDEX=URL       another package index for torch (PyTorch's CPU index on machines without a GPU)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: train test check proofs wheel clean

train: $(VENV)/.core
	$(BIN)/resnets train digits

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(WORKERS)

proofs: $(VENV)/.dev
	$(BIN)/python -m pytest tests/proofs -s

wheel: $(VENV)/.dev
	rm -rf build   # else a file that is no longer in src would be taken in
	$(BIN)/python -m pip wheel --no-deps -w dist .

clean:
	rm -rf $(VENV) build dist

$(VENV)/.core: pyproject.toml constraints.txt .ci/environment
	.ci/environment core "$(PYTHON)" "$(VENV)" "$(TORCH_INDEX)"

$(VENV)/.dev: pyproject.toml constraints.txt .ci/environment
	.ci/environment dev "$(PYTHON)" "$(VENV)" "$(TORCH_INDEX)"
