# `make` alone says what there is. Needs python3 (3.11 or later), git and make; the rest is installed into .venv.
# Another Python: make test PYTHON=python3.12 (it gets an environment of its own).

PYTHON ?= python3
VENV   := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN    := $(VENV)/bin
RUN    := $(BIN)/python -m
STAMP  := $(VENV)/.complete
ARGS   ?=
SPREAD := -n auto --maxprocesses=4 --dist=worksteal

.DEFAULT_GOAL := help
.PHONY: help env bench bench-quick demo picture test test-long lint format check clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

env: $(STAMP) ## make the environment (every other target does it by itself)

demo: $(STAMP) ## watch it: three runs of a real training, then back to the first, every byte compared
	@PATH="$$PWD/$(BIN):$$PATH" examples/digits/demo.sh

picture: $(STAMP) ## run a short session and draw it: docs/session.svg
	@$(BIN)/python docs/picture.py

bench: $(STAMP) ## measure it beside cp, rsync, git, dvc, restic, borg: docs/benchmarks (two hours, 35 GB of disk, a quiet machine; ARGS=--help: parts of it)
	$(RUN) benchmarks $(ARGS)

bench-quick: $(STAMP) ## the same on one small tree, to the terminal alone (3 minutes)
	@$(RUN) benchmarks --quick $(ARGS)

test: $(STAMP) ## run every test (make test ARGS="-k packs" runs some)
	$(RUN) pytest $(SPREAD) $(ARGS)

test-long: $(STAMP) ## run the long variants, which `make test` leaves out; this takes an hour
	$(RUN) pytest $(SPREAD) -m long --timeout=3600 $(ARGS)

lint: $(STAMP) ## check style and types
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(BIN)/shellcheck hooks/tensortime.bash hooks/completion.bash

format: $(STAMP) ## put the code into the one format
	$(RUN) ruff check --fix
	$(RUN) ruff format

check: lint test ## lint and test: what a commit should pass

clean: ## remove everything that make made
	rm -rf .venv .venv-* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An editable install names the folder it lies in: in a checkout that was moved or copied it is made again.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

$(STAMP): pyproject.toml
	@sh -c "$$NEED_PYTHON" need-python "$(PYTHON)" "make $(MAKECMDGOALS)"
	@echo "Making $(VENV), once. This takes a minute."
	@$(RUN) pip --version >/dev/null 2>&1 || { echo "$(PYTHON) -m venv $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	$(RUN) pip install --quiet --disable-pip-version-check 'pip>=25.1' # the first that knows --group
	$(RUN) pip install --quiet --disable-pip-version-check --editable . --group test --group lint --group demo
	@pwd -P > $@

# Says the one command that helps, before anything else is done.
define NEED_PYTHON
python=$$1 again=$$2
if test "$$(id -u)" = 0; then sudo=; else sudo='sudo '; fi
stop() { printf '%s\n\n' "$$1" >&2; shift; printf '    %s\n' "$$@" >&2; exit 1; }
newest() { for n in 14 13 12 11; do "$$1" "python3.$$n" && echo "python3.$$n" && return; done; }
works() { "$$1" -c 'import ensurepip' 2>/dev/null; }
has_package() { apt-cache show "$$1-venv" >/dev/null 2>&1; }
has_formula() { test "$$1" = python3.13 && command -v brew >/dev/null; }

if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    "$$python" -m ensurepip --version >/dev/null 2>&1 && exit 0
    package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    stop "$$python cannot make an environment, its ensurepip is missing. What helps:" "$${sudo}apt install $$package" "$$again"
fi
version=$$("$$python" -c 'import platform; print(platform.python_version())' 2>/dev/null) || version="not there"
problem="Python 3.11 or later is needed, $$python is $$version."
if other=$$(newest works); then
    stop "$$problem A newer one is here:" "$$again PYTHON=$$other"
elif other=$$(newest has_package); then
    stop "$$problem What helps:" "$${sudo}apt install $$other-venv" "$$again PYTHON=$$other"
elif other=$$(newest has_formula); then
    stop "$$problem What helps:" "brew install python@3.13" "$$again PYTHON=$$other"
fi
stop "$$problem What helps:" "install Python 3.13" "$$again PYTHON=python3.13"
endef
export NEED_PYTHON
