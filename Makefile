# Every target works alone on a fresh checkout: it makes .venv first, and again when a dependency file changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
# Without cached bytecode every worker compiles pytest's plugins again, which takes 10 s.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

.PHONY: demo test test-all test-versions study coverage check docs bench clean

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12"; exit 1; }
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs,app,ray,datasets,torchvision,timm,transformers]'
	touch $(READY)

demo: $(READY)  ## the whole story on drawn pictures, in demo-out/
	$(BIN)/sightline demo --out demo-out

test: $(READY)  ## the tests of every day, in minutes
	$(PYTEST) -m "not slow and not study"

test-all: $(READY)  ## also browser, Ray, kills, demo, real networks
	$(PYTEST) -m "not study" --ignore=tests/test_app_browser.py
	$(PYTEST) -m "not study" tests/test_app_browser.py  # its server shares the process with no other tests

study: $(READY)  ## tests of tens of minutes, which no CI runs
	OMP_NUM_THREADS=1 $(BIN)/pytest -m study

test-versions: $(READY)  ## the golden file and the core's tests with the oldest and the newest dependencies
	$(BIN)/python tests/versions.py

coverage: $(READY)  ## lines and branches that no test of `make test-all` runs, in htmlcov/
	$(PYTEST) -m "not study" --cov --cov-report=term-missing:skip-covered --cov-report=html

check: $(READY)  ## lint, types, spelling, docs
	$(BIN)/pre-commit run --all-files --show-diff-on-failure
	$(MAKE) --no-print-directory docs

docs: $(READY)  ## the documentation as a site, in site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(READY)  ## measurements, into benchmarks/RESULTS.md
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/catalogue.py
	$(BIN)/python benchmarks/adaptive.py

clean:
	rm -rf site .venv .venv-oldest .venv-newest demo-out htmlcov .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
