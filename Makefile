# make demo: everything from nothing to a report. make test: the tests. make check: ruff and mypy.
# make test-spark35: the tests on the Spark of emr-7.13.0, in a virtual environment of their own.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
BIN35 := .venv35/bin
DEMO := build/demo

.PHONY: demo test test-all test-spark35 test-spark35-short check package bench bench-peers install clean lock

demo: .venv/.demo
	$(BIN)/python -m tests.demo --folder $(DEMO)

# Two processes, each with a Spark of its own: most of a small test is one thread of a driver.
test: .venv/.jars
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --durations=20

test-all: .venv/.jars
	$(BIN)/python -m pytest

test-spark35: .venv35/.test
	$(BIN35)/python -m pytest -m "not slow"

# What each way from Spark to Python and back is used by, and the whole demo: a few minutes.
test-spark35-short: .venv35/.test
	$(BIN35)/python -m pytest -m "not slow" tests/e2e/test_demo.py tests/spark/test_spark_versions.py tests/spark/test_keepers.py

check: .venv/.test
	$(BIN)/ruff check
	$(BIN)/mypy

# PHOTOS: a folder of JPEG photographs, no two alike. OTHERS: JPEG images of few subjects,
# in a folder for each label. bench-peers installs other programs.
bench: .venv/.test
	@[ -d "$(PHOTOS)" ] || { echo "make bench PHOTOS=folder of photographs [OTHERS=folder of images of few subjects]" >&2; exit 2; }
	$(BIN)/python -m tests.bench.edits --photos "$(PHOTOS)" $(if $(OTHERS),--others "$(OTHERS)")
	[ -z "$(OTHERS)" ] || $(BIN)/python -m tests.bench.issues --photos "$(PHOTOS)" --labelled "$(OTHERS)"
	$(BIN)/python -m tests.bench.vectors --photos "$(PHOTOS)" $(if $(OTHERS),--others "$(OTHERS)")
	$(BIN)/python -m tests.bench.embed --photos "$(PHOTOS)" $(if $(OTHERS),--others "$(OTHERS)")
	$(BIN)/python -m tests.bench.clusters --photos "$(PHOTOS)"
	$(BIN)/python -m tests.bench.neighbours --photos "$(PHOTOS)" $(if $(OTHERS),--others "$(OTHERS)")

bench-peers: .venv/.test
	@[ -d "$(PHOTOS)" ] || { echo "make bench-peers PHOTOS=folder of photographs" >&2; exit 2; }
	$(BIN)/python -m tests.bench.peers --photos "$(PHOTOS)"

package: .venv/.demo
	$(BIN)/imagesieve emr package --kind cpu --out build/package

install: .venv/.demo

clean:
	rm -rf build

# The versions that the tests have passed with; setup.py says what else may do.
lock: .venv/.uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras setup.py -o constraints.txt

.venv/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "imagesieve needs Python 3.11 or newer: install one, or name it with make PYTHON=python3.12 (found: $$($(PYTHON) --version 2>&1))" >&2; exit 1; }
	@java="$${JAVA_HOME:+$$JAVA_HOME/bin/}java"; major=$$("$$java" -version 2>&1 | sed -n '1s/.*version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p'); [ "$${major:-0}" -ge 17 ] || { echo "imagesieve needs a JDK 17 or newer: install one (Debian: apt-get install openjdk-17-jdk-headless) and put it on PATH or in JAVA_HOME" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "python3 cannot make virtual environments: install them (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet uv
	@touch $@

.venv/.demo: .venv/.uv setup.py constraints.txt
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --constraints constraints.txt --editable ".[demo]"
	@touch $@

.venv/.test: .venv/.uv setup.py constraints.txt
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --constraints constraints.txt --editable ".[test]"
	@touch $@ .venv/.demo

# Ivy's cache is not made for two at once: what is missing is fetched before.
.venv/.jars: .venv/.test
	$(BIN)/python -c "from jobs import config, session; session.open_session(config.load(), uses_s3=True).stop()"
	@touch $@

# The versions of constraints.txt, but for Spark and Delta. Python 3.11: Spark 3.5 was not made for newer ones.
.venv35/.test: .venv/.uv setup.py constraints.txt
	$(BIN)/uv venv --quiet --allow-existing --python 3.11 .venv35
	sed -E '/^(pyspark|delta-spark|py4j)==/d' constraints.txt > .venv35/constraints.txt
	VIRTUAL_ENV=.venv35 $(BIN)/uv pip install --quiet --constraints .venv35/constraints.txt --editable ".[test]" pyspark==3.5.6 delta-spark==3.3.2
	@touch $@
