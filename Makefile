# Every target sets up what it needs. `make run` and `make test` are the two to know.
.DEFAULT_GOAL := help
BIN := .venv/bin
WORKERS ?= auto
# Where it is set, every process would compile Nilometer and its libraries again: a second each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run test services phase broken lint format bench soak large fuzz coverage lock clean

help: ## Show this help
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## Make .venv with everything, so that .venv/bin/nilometer runs
	@scripts/setup

run: setup ## Start Nilometer with sample traffic, and print where to look
	@$(BIN)/nilometer demo --data-dir data

test: setup ## Run everything, every real part included
	@scripts/setup-clients
	@scripts/services run -- $(BIN)/pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal $(ARGS)

# `make services status`: the second word is no target of its own.
ifeq (services,$(firstword $(MAKECMDGOALS)))
DO ?= $(or $(word 2,$(MAKECMDGOALS)),start)
ifneq (,$(word 2,$(MAKECMDGOALS)))
.PHONY: $(word 2,$(MAKECMDGOALS))
$(word 2,$(MAKECMDGOALS)): ; @:
endif
endif

services: setup ## Start Kafka, PostgreSQL, S3 and ClickHouse: make services [stop|status]
	@scripts/services $(DO)

# `make phase 3`: the second word is no target of its own.
ifeq (phase,$(firstword $(MAKECMDGOALS)))
N ?= $(word 2,$(MAKECMDGOALS))
ifneq (,$(word 2,$(MAKECMDGOALS)))
.PHONY: $(word 2,$(MAKECMDGOALS))
$(word 2,$(MAKECMDGOALS)): ; @:
endif
endif

phase: setup ## Pass the acceptance phases 1 to N: make phase 3
	@$(BIN)/python -m tests.acceptance.phase $(N) $(ARGS)

broken: setup ## See each phase's tests fail on builds broken for it
	@$(BIN)/python -m tests.acceptance.broken $(ARGS)

lint: setup ## Format, style, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	for script in scripts/setup scripts/setup-clients scripts/setup-services scripts/services scripts/lock scripts/fuzz examples/litellm/start-litellm-proxy.sh .ci/run; do bash -n $$script || exit 1; done

format: setup ## Rewrite the code in the project's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## Measure, in one run, beside the floor; results in .build/bench
	$(BIN)/python -m bench $(ARGS)

soak: setup large ## Load, kill -9 and restart, counted: embedded 20 times, distributed 10 minutes
	@scripts/setup-services
	NILOMETER_SOAK_ROUNDS=20 NILOMETER_SOAK_SECONDS=$${NILOMETER_SOAK_SECONDS:-600} \
		NILOMETER_CHAOS_EXCEPTIONS=10000 \
		$(BIN)/pytest tests/soak tests/integration/test_chaos.py -p no:randomly --reruns 0 $(ARGS)

LARGE := every_line_of_a_mixture or line_of_a_gigabyte or writers_that_are_killed
large: setup ## Trace files at full size: 1,000,000 records, a line of 1 GB, a minute of racing
	NILOMETER_TRACES_RECORDS=$${NILOMETER_TRACES_RECORDS:-1000000} \
		NILOMETER_LINE_BYTES=$${NILOMETER_LINE_BYTES:-1073741824} \
		NILOMETER_RACE_SECONDS=$${NILOMETER_RACE_SECONDS:-60} \
		$(BIN)/pytest tests/test_e2e_workflow.py tests/test_security.py -k '$(LARGE)' \
		-p no:randomly --reruns 0 --timeout 1800 $(ARGS)

fuzz: setup ## Fuzz the parsers for a minute each (FUZZ_SECONDS=60)
	scripts/fuzz

USAGE := sdk integrations usage budgets dynamodb pricing
coverage: setup ## Lines and branches of usage tracking that its tests run: 95% or it fails
	@mkdir -p .build/coverage
	$(BIN)/coverage erase
	scripts/services run -- $(BIN)/coverage run -m pytest -n $(WORKERS) --maxprocesses 4 \
		$(or $(TESTS),$(wildcard $(addprefix tests/,$(USAGE) api cli))) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage xml -q -o coverage.xml
	$(BIN)/coverage json -q -o .build/coverage/coverage.json
	@$(BIN)/coverage report --include "$$(printf 'src/nilometer/%s/*,' $(USAGE))"
	@$(BIN)/python scripts/check_coverage.py .build/coverage/coverage.json

lock: setup ## Pin the newest versions that pyproject.toml allows
	scripts/lock --upgrade

clean: ## Remove what the other targets made, but for the data of `make run`
	@[ ! -d .build/services ] || scripts/services clear
	rm -rf .venv .build dist .pytest_cache .ruff_cache .hypothesis .coverage* coverage.xml
	find . -name __pycache__ -prune -exec rm -rf {} +
