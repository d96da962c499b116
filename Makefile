# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOLDERS := vtbench adapters tasks leaderboard tests benchmarks

.PHONY: demo test check lint release clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Stamps make the second time quick: pip runs again only when the project's requirements change.
$(VENV)/.offline: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install -q -e '.[offline]'
	touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install -q -e '.[test]'
	touch $@ $(VENV)/.offline

demo: $(VENV)/.offline
	$(BIN)/vtbench quickstart --out out/quick

test: $(VENV)/.test
	VTBENCH_OFFLINE=1 $(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check $(FOLDERS)
	$(BIN)/ruff format --check $(FOLDERS)
	$(BIN)/mypy vtbench
	$(BIN)/typos

check: lint test

release: $(BIN)/python
	$(BIN)/python -m vtbench.provenance

clean:
	rm -rf build dist out *.egg-info
