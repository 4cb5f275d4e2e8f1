# Names for commands; what they do stands in the programs they call.
VENV := .venv
PYTHON := $(VENV)/bin/python

.DEFAULT_GOAL := help

.PHONY: help run test test-long chaos lint bench bench-quick clean

help:  ## say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

run: $(VENV)/installed  ## serve on HITCOUNTER_BIND (127.0.0.1:5000) until Ctrl-C; without DATABASE_URL, on a PostgreSQL of its own
	@exec $(PYTHON) manage.py serve

# On one process more than there are cores, since many tests wait.
PYTEST := $(PYTHON) -m pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal

# Else each of the processes, and each service that they start, would compile all modules anew.
test test-long: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/installed-dev  ## run the tests, against real PostgreSQL, but for those that take long
	$(PYTEST) -m "not long"

test-long: $(VENV)/installed-dev  ## run those that take long: commands and services that are killed, flooded, waited for
	$(PYTEST) -m long

chaos: $(VENV)/installed-dev  ## lose workers, databases, connections, disks under load, and show that no hit is lost or counted twice
	$(PYTHON) -m pytest --chaos --timeout 900 tests/faults

lint: $(VENV)/installed-dev  ## check style, types, import rules, missing migrations and production settings
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	DATABASE_URL=postgresql://unused $(VENV)/bin/mypy
	DATABASE_URL=postgresql://unused $(VENV)/bin/lint-imports
	$(PYTHON) manage.py makemigrations --check --dry-run
	DATABASE_URL=postgresql://unused HITCOUNTER_BIND=0.0.0.0:5000 HITCOUNTER_HOSTS=counts.example.org \
		HITCOUNTER_SECRET_KEY="$$($(PYTHON) -c 'import secrets; print(secrets.token_hex())')" \
		$(PYTHON) manage.py check --deploy --fail-level WARNING

bench: $(VENV)/installed-dev  ## measure how fast hits are counted and read, beside rivals; 25 minutes on 2 cores (needs wrk, redis-server)
	$(PYTHON) -m benchmarks.suite

bench-quick: $(VENV)/installed-dev  ## see whether counting has become slower, by ratios; two minutes (needs wrk, redis-server)
	$(PYTHON) -m benchmarks.quick

clean:  ## remove the virtual environments; the data in var/ stays
	rm -rf $(VENV) benchmarks/.venvs

$(VENV)/bin/python:
	@python3 -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/installed: $(VENV)/bin/python requirements.txt requirements-fast.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements-fast.txt 2> /dev/null \
		|| echo "The fast HTTP parser could not be installed (is there a C compiler?); the one in Python will serve."
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
