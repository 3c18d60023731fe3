# Everything runs in .venv, which the first target that needs it makes. PYTHON picks the interpreter (3.10 or newer).
PYTHON ?= python3
BIN := .venv/bin
SOURCES := arch_hf dataset_scripts model_cards space tests benchmarks evaluate.py pretrain.py

.PHONY: demo test quality style

demo: .venv/installed
	$(BIN)/python evaluate.py

test: .venv/installed-test
	$(BIN)/pytest -q -n 2

quality: .venv/installed-quality
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports

style: .venv/installed-quality
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# torch comes first and pinned: a bare "torch" may resolve to a build with gigabytes of CUDA libraries.
.venv/installed: setup.cfg constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install -q -c constraints.txt -e ".[test,plots]"
	touch $@

.venv/installed-quality: .venv/installed
	$(BIN)/pip install -q -c constraints.txt -e ".[quality]"
	touch $@
