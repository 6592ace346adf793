# `make` alone prints what there is. Everything works from a fresh clone; what is missing is installed.
CARGO ?= cargo
TARGET = $(shell $(CARGO) metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
# Options for `make run`, as of `mcpctl dev`: make run ARGS='--edge-listen 127.0.0.1:8080'
ARGS ?=
# Options for `make bench` and `make bench-capacity`: make bench BENCH='--short'
BENCH ?=

# Options for `make conformance`: make conformance CONFORMANCE='--target direct --scenario tools-list'
CONFORMANCE ?=

.DEFAULT_GOAL := help
.PHONY: help run build test lint bench bench-capacity conformance protocol ci clean

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Builds and starts a whole gateway on embedded storage, and says what to do next
	tests/setup.sh build
	$(CARGO) build --locked --release --workspace --bins
	@echo 'In another terminal: export PATH="$(TARGET)/release:$$PATH"' >&2
	@"$(TARGET)/release/mcpctl" dev $(ARGS)

build: ## Builds the three binaries, optimised, into the target directory
	tests/setup.sh build
	$(CARGO) build --locked --release --workspace --bins

test: ## Installs what the tests need, and runs every test, with cargo-nextest if it is there; one that fails is run once more, alone
	tests/setup.sh build tools services
	$(CARGO) build --locked --workspace --bins --tests
	python3 tests/run.py --check $(CARGO) >/dev/null
	tests/services.sh python3 tests/run.py $(CARGO) --locked --workspace

lint: ## Formatting, clippy, the protos, licences and forbidden crates
	tests/setup.sh build tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	.tools/bin/buf lint proto
	.tools/bin/buf format proto --diff --exit-code
	python3 tests/licences.py

bench: ## One table: direct, one nginx hop, one Trunkline edge (4-6 minutes; BENCH='--short' for less)
	tests/setup.sh build bench
	$(CARGO) build --locked --release --workspace --bins --benches
	$(CARGO) bench --locked --bench hop -- $(BENCH)

bench-capacity: ## 10,000 tools at one edge, 1,000 edges at one control plane, 10,000 people: times, CPU, memory (some minutes)
	tests/setup.sh build
	$(CARGO) build --locked --release --workspace --bins --benches
	$(CARGO) bench --locked --bench capacity -- $(BENCH)

conformance: ## The public MCP conformance suite: direct, through one edge, through three without stickiness
	tests/setup.sh build conformance
	$(CARGO) build --locked --workspace --bins --examples
	python3 tests/conformance/run.py --programs "$(TARGET)/debug" --results "$(TARGET)/conformance" $(CONFORMANCE)

protocol: ## Every kind of client against every kind of upstream; writes the table of docs/PROTOCOL.md
	tests/setup.sh build tools
	$(CARGO) build --locked --workspace --bins
	.tools/python/bin/python tests/matrix/run.py --programs "$(TARGET)/debug" --write docs/PROTOCOL.md

ci: lint test conformance ## What must be green: lint, test and conformance

clean: ## Removes what was built and installed here
	$(CARGO) clean
	rm -rf .tools
