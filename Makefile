# The two commands of the README: `make demo` and `make test`. Both set .venv up on their first run.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo serve test check format bench bench-finetune faults accuracy lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	@echo "Setting up .venv: about 6 GB, a few minutes (torch with its GPU libraries is most of it)"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(INSTALLED)  ## The main job from nothing to answered predictions, on real data
	$(BIN)/graftwork demo --directory build/demo

serve: $(INSTALLED)  ## The demo's models behind a server that keeps running
	$(BIN)/graftwork demo --directory build/demo --keep

test: $(INSTALLED)  ## All tests
	$(BIN)/python -m pytest

check: $(INSTALLED)  ## Lint, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(INSTALLED)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## Speed of the request path, of serving beside in process, of a thousand models, of an idle server, of training
	$(BIN)/python -m tests.benchmarks

bench-finetune: $(INSTALLED)  ## What strategies make of public data sets, beside other tools: make bench-finetune DATA=folder
	$(BIN)/python -m tests.benchmarks.finetuning $(DATA)

faults: $(INSTALLED)  ## Kills, overload, abuse: what becomes of every request, as a table (many minutes)
	$(BIN)/python -m tests.faults

accuracy: $(INSTALLED)  ## Test accuracy on six public data sets: make accuracy DATA=folder
	$(BIN)/python -m tests.benchmarks.accuracy $(DATA)

LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --no-emit-index-url --quiet

lock: $(INSTALLED)  ## Rewrite requirements.txt (development) and requirements-image.txt (Dockerfile)
	$(LOCK) --upgrade --extra dev --output-file requirements.txt
	$(LOCK) --constraint requirements.txt --extra embedded --extra otel --extra export --output-file requirements-image.txt

clean:  ## Remove what was built, but keep .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
