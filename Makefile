# Everything goes into .venv in this folder; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := $(VENV)/.installed-demo

.PHONY: install demo test audit browser check docs fuzz bench clean

install: $(INSTALLED)

$(INSTALLED): $(DEMO)
	@echo "Installing all that the tests need: two to five minutes, most of it torch."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $(INSTALLED)

# wordsight itself, without torch.
$(DEMO): pyproject.toml
	@echo "Installing into $(VENV): about a minute."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $(DEMO)
	@echo "Done. 'source $(BIN)/activate' makes the command wordsight known to this shell."

demo: $(DEMO)
	$(BIN)/wordsight demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

# The browser that tests of pages need; without it they are skipped.
browser:
	command -v chromium || command -v google-chrome || apt-get install --yes chromium || (apt-get update && apt-get install --yes chromium)

check: install
	$(BIN)/ruff check src tests scripts benchmarks docs
	$(BIN)/ruff format --check src tests scripts benchmarks docs
	$(BIN)/mypy

# The documentation, into site/; a warning is an error. The variable quietens what the theme prints of its own future (it says so itself).
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Known holes in what is installed, asked of the public advisories; needs a network.
audit: install
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/python -m pip freeze --exclude-editable > $(VENV)-audit/installed.txt
	$(VENV)-audit/bin/pip-audit --requirement $(VENV)-audit/installed.txt --no-deps --disable-pip

# A hundred thousand mutated files; FUZZ="--cases 1000 --targets images" does less.
fuzz: install
	$(BIN)/python tests/fuzzing.py $(FUZZ)

# Other tools to compare with get an environment of their own; ONLY="train predict" runs some of the comparisons.
bench: $(VENV)-bench/.installed
	$(VENV)-bench/bin/python benchmarks/bench.py $(ONLY)

$(VENV)-bench/.installed: pyproject.toml benchmarks/requirements.txt
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check -e '.[app,export,ray,train,words]' -r benchmarks/requirements.txt
	touch $(VENV)-bench/.installed

clean:
	rm -rf $(VENV) $(VENV)-bench $(VENV)-audit wordsight-demo build site src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
