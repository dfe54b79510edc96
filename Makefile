# The commands of this project; `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Number of parallel tests; most of them wait for another program most of the time.
PARALLEL ?= $(shell expr 2 \* $$(nproc 2>/dev/null || echo 1))

# What tests and benchmarks run besides Python, as Debian names the packages and the commands.
DEBIAN_PACKAGES := prometheus prometheus-alertmanager chromium chromium-driver systemd
DEBIAN_COMMANDS := prometheus promtool prometheus-alertmanager amtool chromium chromedriver systemd-analyze

# Where it is set, each process that a test starts would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-13s %s\n", $$1, $$2}'

# The stamps are written last, so that an interrupted step is repeated.
$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "$(PYTHON) can't create $(VENV). On Debian: sudo apt-get install python3-venv" >&2; \
	  exit 1; \
	}
	@touch $@

# Only the exporter: all that the demo needs.
$(VENV)/installed: pyproject.toml $(VENV)/created
	@echo "Installing the exporter into $(VENV)"
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# The exporter with the tools of development.
$(VENV)/developed: $(VENV)/installed
	@echo "Installing the tools of development into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

.PHONY: demo
demo: $(VENV)/installed ## Run the exporter against a simulated Nextmv account
	@exec $(BIN)/nextmv-exporter --demo

.PHONY: check
check: lint ## Check format, lint and types, and run the tests that need no other program: the quick loop
	$(BIN)/pytest -n $(PARALLEL) --dist worksteal -m "not system"

.PHONY: test
test: tools $(VENV)/developed ## Run all tests
	$(BIN)/pytest -n $(PARALLEL) --dist worksteal

# The oldest and the newest Python that the project's own machines have.
PYTHONS ?= 3.11 3.13

.PHONY: test-pythons
test-pythons: test ## Run all tests, and again on each Python of PYTHONS that is installed
	@for version in $(PYTHONS); do \
	  $(BIN)/python -c "import sys; sys.exit(sys.version.startswith('$$version.'))" || continue; \
	  python=$$($(BIN)/python tests/support/pythons.py $$version) || { \
	    echo "Python $$version is not installed: skipped"; continue; \
	  }; \
	  $(MAKE) --no-print-directory test PYTHON=$$python VENV=$(VENV)/python$$version || exit; \
	done

# Development packages may need newer versions, so the exporter's lowest versions are resolved first.
LOWEST := $(VENV)/lowest
$(LOWEST)/developed: $(VENV)/developed pyproject.toml
	$(BIN)/uv venv --quiet --clear --seed --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --no-emit-index-url \
	  --python $(LOWEST) --output-file $(LOWEST)/requirements.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(LOWEST) --overrides $(LOWEST)/requirements.txt \
	  --editable . --group dev
	@touch $@

.PHONY: test-lowest
test-lowest: tools $(LOWEST)/developed ## Run all tests with the lowest versions that pyproject.toml allows
	$(LOWEST)/bin/pytest -n $(PARALLEL) --dist worksteal

SOAK_SECONDS ?= 180

.PHONY: soak
soak: $(VENV)/developed ## Scrape under random faults for SOAK_SECONDS, and fail on growth
	SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python tests/soak.py

.PHONY: lint
lint: $(VENV)/developed ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: format
format: $(VENV)/developed ## Format the code and fix what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(VENV)/developed ## Measure speed and size, and print the tables of docs/performance.md
	@$(BIN)/python -m benchmarks

.PHONY: bench-small
bench-small: $(VENV)/developed ## Run the benchmarks at a small size; fail where a count is wrong
	@$(BIN)/python -m benchmarks --small

.PHONY: tools
tools: # Install what they run besides Python, where that is possible
	@for command in $(DEBIAN_COMMANDS); do \
	  command -v $$command >/dev/null || missing="$$missing $$command"; \
	done; \
	test -z "$$missing" && exit 0; \
	if command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	  echo "Installing, since these are missing:$$missing"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(DEBIAN_PACKAGES) >/dev/null; \
	else \
	  echo "These commands are needed and missing:$$missing" >&2; \
	  echo "On Debian: sudo apt-get install $(DEBIAN_PACKAGES)" >&2; \
	  exit 1; \
	fi

.PHONY: dashboards
dashboards: $(VENV)/developed ## Write the dashboard's JSON and the alerting rules from their code
	$(BIN)/python -m grafana

.PHONY: generated
generated: $(VENV)/developed ## Check that no generated file is stale
	$(BIN)/python -m grafana --check

PIN := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make requirements"

.PHONY: requirements
requirements: $(VENV)/developed ## Pin by hash what the image is made of
	$(PIN) --output-file requirements.txt pyproject.toml
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(PIN) --output-file requirements-build.txt -
