# Everything a developer or a curious stranger types; `make` alone lists it.

PYTHON ?= python3
ARGS ?=
SEEDS ?= 300
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCHES := $(filter-out __init__ report,$(basename $(notdir $(wildcard bench/*.py))))

.DEFAULT_GOAL := help
.PHONY: help demo test check lint sim bench engines clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(INSTALLED) engines ## translate three spoken sentences with a real server, node and engines
	@$(BIN)/python demo/run.py

test: $(INSTALLED) engines ## run the tests; ARGS="-k word" selects some
	$(BIN)/python -m pytest $(ARGS)

check: lint test ## what CI runs: formatting, lint, types, tests

lint: $(INSTALLED) ## formatting, lint and types only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

sim: $(INSTALLED) ## play SEEDS=300 simulated worlds; a problem names the command that replays it
	$(BIN)/python -m tests.sim --runs $(SEEDS)

bench: $(INSTALLED) ## every bench as a table; BENCHES=select runs one, ARGS=--quick is fast
	@for name in $(BENCHES); do $(BIN)/python -m bench.$$name $(ARGS) || exit 1; done

engines: ## install the programs of the speech and translation engines, or say which are missing
	@sh demo/engines.sh

clean: ## remove what was built and measured; keeps .venv
	rm -rf build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f linguad/_*.c linguad/_*.so $(INSTALLED)
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml setup.py $(wildcard linguad/_*.px*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "linguad needs Python 3.11 or newer; name one with: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' \
	  || { echo "This Python has no venv; on Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing linguad into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,engines]'
	@touch $@
