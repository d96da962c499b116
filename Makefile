# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOLDERS := vtbench adapters tasks leaderboard tests benchmarks docs
OLDEST := .venv-oldest
# What depends on other packages' numbers and needs no minute: types, metrics, images, results, layers, the command line.
QUICK := $(addprefix tests/, types statistics results images metrics cli/test_surface.py \
	running/test_quickstart_numbers.py test_layers.py)

.PHONY: demo test check lint docs faults pages release oldest clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Stamps make the second time quick: pip runs again only when the project's requirements change.
$(VENV)/.offline: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install -q -e '.[offline]'
	touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install -q -e '.[test]'
	$(BIN)/python -m pip install -q --no-deps 'compressai>=1.2.8'
	touch $@ $(VENV)/.offline

$(VENV)/.docs: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install -q -e '.[docs]'
	touch $@

demo: $(VENV)/.offline
	$(BIN)/vtbench quickstart --out out/quick

# A file's tests stay together in one process; eight at most, since each holds torch, with one thread each, since idle
# threads of OpenMP would spin against the other processes.
test: $(VENV)/.test
	VTBENCH_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

lint: $(VENV)/.test
	$(BIN)/ruff check $(FOLDERS)
	$(BIN)/ruff format --check $(FOLDERS)
	$(BIN)/mypy vtbench
	$(BIN)/typos

# From scratch, without a network, strictly: a warning is an error, and every link inside the site leads somewhere.
docs: $(VENV)/.docs
	rm -rf build/docs
	VTBENCH_OFFLINE=1 $(BIN)/python -m sphinx -W --keep-going -n -q -b html docs build/docs
	$(BIN)/python -m benchmarks.links build/docs

check: lint docs test

# By hand: kills, damaged files and hostile folders by the thousand, an hour or two; writes the table of
# docs/reliability.md. One case again: python tests/faults/survey.py --only KIND --seed S --case N.
faults: $(VENV)/.test
	$(BIN)/python tests/faults/survey.py

# What is written from the cards: every address of a download, and what README counts.
pages: $(BIN)/python
	$(BIN)/python -m benchmarks.downloads > docs/downloads.md
	$(BIN)/python -m benchmarks.supported

release: pages
	$(BIN)/python -m vtbench.results.provenance

# By hand, not in CI: the lowest version of every requirement that pyproject.toml admits. Python 3.11 to 3.13, for which
# torch 2.6 exists; its Linux build brings CUDA along, 7 GB in all.
oldest:
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install -q uv
	$(OLDEST)/bin/python -m uv pip install -q --python $(OLDEST)/bin/python --resolution lowest-direct -e '.[test]'
	VTBENCH_OFFLINE=1 $(OLDEST)/bin/python -m pytest $(QUICK)

clean:
	rm -rf build dist out *.egg-info
