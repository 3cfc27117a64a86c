# Everything from a fresh clone, with Python 3.11+, make and the network. `make help` lists it.

PYTHON ?= python3
BIN := .venv/bin
DEMO_DATA ?= demo-data
WORKERS ?= 2

# The tests start hundreds of processes: compiled modules are kept, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test check servers fuzz fuzz-sql chaos bench bench-cost bench-peers bench-flat bench-connectors bench-serve bench-jobs bench-replay nexmark clean
.DEFAULT_GOAL := help

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: .venv/demo ## Replay the 336,776 flights of New York 2013 and query the views of them
	@$(BIN)/python examples/flights.py --data $(DEMO_DATA)

test: check servers ## Check the code and run all tests
	@$(BIN)/python -m pytest -n $(WORKERS)

check: .venv/dev ## Check the code: style, types, arrows between modules
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > .venv/arrows || { cat .venv/arrows; exit 1; }

servers: .venv/dev ## Install the servers that tests talk to (PostgreSQL, Redis, Kafka), as far as this machine lets us
	@cd tests && ../$(BIN)/python -m servers

fuzz: .venv/dev ## Run the random tests with many examples
	@BOURNE_LONG=1 $(BIN)/python -m pytest -n $(WORKERS) tests/engine/test_law.py tests/log tests/connect tests/serve

fuzz-sql: .venv/dev ## Check 10,000 random queries over random changes against DuckDB (SEED=1 for the same ones)
	@cd tests && ../$(BIN)/python -m engine.test_queries --queries $(or $(QUERIES),10000) --processes $(WORKERS) $(if $(SEED),--seed $(SEED))

chaos: .venv/dev ## Kill apps, appenders and followers two thousand times, and check everything
	@BOURNE_LONG=1 $(BIN)/python -m pytest -s tests/chaos

bench: .venv/dev bench-cost ## Measure, and write docs/benchmarks.md, docs/benchmarks_log.md and docs/benchmarks_cost.md
	@$(BIN)/python -m benchmarks.main_path
	@$(BIN)/python -m benchmarks.log

bench-cost: .venv/dev ## Measure a step while the state grows to 10 M keys, and write docs/benchmarks_cost.md
	@$(BIN)/python -m benchmarks.cost_curve

bench-peers: .venv/dev ## Measure Nexmark next to DuckDB, Apache Flink and Pathway, and write docs/benchmarks_peers.md (EVENTS=, QUERIES=; needs a JDK)
	@$(BIN)/python -m benchmarks.peers --events $(or $(EVENTS),10000000) $(QUERIES)

bench-flat: .venv/dev ## Follow 100 M events through closing windows, and write docs/benchmarks_event_time.md (EVENTS=)
	@$(BIN)/python -m benchmarks.flat_memory

bench-connectors: .venv/dev servers ## Measure sources and sinks next to DuckDB, PostgreSQL's and Kafka's own clients, and write docs/benchmarks_connectors.md
	@$(BIN)/python -m benchmarks.connectors

bench-serve: .venv/dev ## Measure appends to subscribers, point reads, a thousand subscribers, and write docs/benchmarks_serve.md
	@$(BIN)/python -m benchmarks.serve

bench-jobs: .venv/dev servers ## Load a CSV into PostgreSQL by a job, by psql and by pandas, and write docs/benchmarks_jobs.md
	@$(BIN)/python -m benchmarks.jobs

bench-replay: .venv/dev ## Replay a view of 10 M records beside the live one, with appends and readers, and write docs/benchmarks_replay.md (RECORDS=)
	@$(BIN)/python -m benchmarks.replay $(RECORDS)

nexmark: .venv/dev ## Run all queries of Nexmark next to DuckDB
	@$(BIN)/python -m benchmarks.nexmark

clean: ## Remove what make made: the environment, caches, the demo's data
	rm -rf .venv .venv-flink .venv-pathway .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache $(DEMO_DATA)

# The files .venv/demo and .venv/dev say what is installed; they are made anew when pyproject.toml changes.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Bourne needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

.venv/demo: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	@touch $@

.venv/dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/demo
