# Everything runs in .venv, which the first target that needs it makes. PYTHON picks the interpreter (3.10 or newer).
PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(wildcard arch_hf dataset_scripts model_cards space tests benchmarks examples evaluate.py pretrain.py)
# pip's own words for what it fetches, without the rest of them.
INSTALL = $(BIN)/pip install --disable-pip-version-check -c constraints.txt
FETCHED = awk '/^ *Downloading /{ sub(/^ *Downloading /, "    "); print; fflush() }'
SHELL := bash
.SHELLFLAGS := -o pipefail -c

.PHONY: demo test quality style docs

demo: .venv/installed-demo
	@echo "The main job, on corpora that the package makes itself: embed every clip, train the probes, write results/"
	@$(BIN)/arch-hf evaluate
	@echo
	@$(BIN)/arch-hf report --output report

test: .venv/installed-test
	$(BIN)/pytest -q -n 2

quality: .venv/installed-quality
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/mypy

# The site lies in site/ then: open site/index.html, or look at it with .venv/bin/mkdocs serve.
docs: .venv/installed-docs
	$(BIN)/mkdocs build --strict

style: .venv/installed-quality
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# torch comes first and pinned: a bare "torch" may resolve to a build with gigabytes of CUDA libraries.
.venv/installed: setup.cfg constraints.txt
	@test -x $(BIN)/python || { echo "Making .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; }
	@echo "Installing arch-hf with PyTorch, transformers and datasets into .venv: a few minutes, once. It fetches"
	@$(INSTALL) -e . | $(FETCHED)
	@touch $@

.venv/installed-demo: .venv/installed
	@echo "Installing matplotlib, for the report's plots"
	@$(INSTALL) -e ".[plots]" | $(FETCHED)
	@touch $@

.venv/installed-test: .venv/installed
	@echo "Installing what the tests need"
	@$(INSTALL) -e ".[test,plots]" | $(FETCHED)
	@touch $@

.venv/installed-quality: .venv/installed
	@echo "Installing ruff and what else checks the sources"
	@$(INSTALL) -e ".[quality]" | $(FETCHED)
	@touch $@

.venv/installed-docs: .venv/installed
	@echo "Installing mkdocs and its theme"
	@$(INSTALL) -e ".[docs]" | $(FETCHED)
	@touch $@
