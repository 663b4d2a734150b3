# Everything a developer or a curious stranger types; `make` alone lists it.

PYTHON ?= python3
ARGS ?=
SEEDS ?= 300
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PLOTS := $(VENV)/.plots
BENCHES ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-programs check gate lint sim bench guard engines clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(INSTALLED) engines ## translate three spoken sentences with a real server, node and engines
	@$(BIN)/python demo/run.py

test: $(INSTALLED) test-programs ## run the tests, a file on each core; ARGS="-k word" selects some
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

check: lint test ## what CI runs: formatting, lint, types, tests

gate: $(INSTALLED) test-programs ## what a release must pass: all tests, as a list of acceptance points
	@$(BIN)/python -m tests.gate $(ARGS)

lint: $(INSTALLED) ## formatting, lint and types only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

sim: $(INSTALLED) ## play SEEDS=300 simulated worlds; a problem names the command that replays it
	$(BIN)/python -m tests.sim --runs $(SEEDS)

bench: $(PLOTS) ## every bench, renews bench/README.md; BENCHES=select runs one, ARGS=--quick is fast
	@$(BIN)/python -m bench $(BENCHES) $(ARGS)

guard: $(INSTALLED) ## quick benches whose ratios must stay in bounds, two minutes
	@$(BIN)/python -m bench.guard

engines: ## install the programs of the speech and translation engines, or say which are missing
	@sh demo/packages.sh demo

test-programs:
	@sh demo/packages.sh test

clean: ## remove what was built and measured; keeps .venv
	rm -rf build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f linguad/_*.c linguad/_*.so $(INSTALLED) $(PLOTS)
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml setup.py $(wildcard linguad/_*.pyx linguad/_*.pxd)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "linguad needs Python 3.11 or newer; name one with: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' \
	  || { echo "This Python has no venv; on Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing linguad into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,engines]'
	@touch $@

$(PLOTS): $(INSTALLED)
	@echo "Installing what draws the plots of the benches …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@
