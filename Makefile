# `make demo` and `make test` need nothing but Python 3.10 or later; the rest is made here.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test faults lint docs format wheel clean

help:            ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps litdata
	@touch $@

install: $(STAMP) ## the virtual environment with the tested versions

demo: $(STAMP)   ## train on the embedded cartoon cast and show where the pictures are (900 iterations: 3 to 15 minutes on 2 cores)
	$(BIN)/python -m fexgan_lit.train experiment=demo

test: $(STAMP)   ## every test, three files at a time: on two cores the third has what the others leave while they wait
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

faults: $(STAMP) ## what happens when a run, a worker or a logger is killed; CI runs it after the tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m fault

lint: $(STAMP)   ## style, names, types, the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(STAMP)   ## the documentation as a site in site/; a broken link or anything fetched from elsewhere ends it
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "site/index.html"

format: $(STAMP) ## apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(STAMP)  ## dist/*.whl with the configuration inside
	$(BIN)/python -m build --wheel

clean:           ## remove what was made here, but for outputs/
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
