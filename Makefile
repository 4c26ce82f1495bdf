.DEFAULT_GOAL := help
SHELL := bash

# One place decides where compiled things go: scripts/lib.sh, which honours a CARGO_TARGET_DIR that is already set.
export CARGO_TARGET_DIR := $(shell . scripts/lib.sh && printf %s "$$CARGO_TARGET_DIR")

# Assigned on its own, because a failure inside a command's environment would go unnoticed.
with_redis = redis=$$(scripts/redis.sh) && SLATED_TEST_REDIS="$$redis"
with_python = python=$$(scripts/python.sh) && SLATED_TEST_PYTHON="$$python"
with_node = node=$$(scripts/node.sh) && SLATED_TEST_NODE="$$node"
with_api = api=$$(scripts/python.sh api) && SLATED_TEST_API_PYTHON="$$api"
with_clients = clients=$$(scripts/npm.sh clients) && SLATED_TEST_NPM_CLIENTS="$$clients"
with_personalizer = npm=$$(scripts/npm.sh personalizer) && SLATED_TEST_NPM_PERSONALIZER="$$npm"
with_models = models=$$(scripts/python.sh models) && SLATED_TEST_MODELS_PYTHON="$$models"
with_torch = torch=$$(scripts/python.sh torch) && SLATED_TEST_TORCH_PYTHON="$$torch"

.PHONY: help setup demo test test-torch clients chaos bench evaluation build book reference fmt lint lint-format lint-rust lint-scripts lint-deploy audit clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: ## Fetch ONNX Runtime and the Open Bandit rows into .slated/
	@scripts/onnxruntime.sh
	@scripts/open-bandit.sh

demo: setup ## Walk the whole loop on real data, then keep serving until Ctrl-C
	cargo run --release --locked -- demo

test: setup ## Run every test
	$(with_redis) && export SLATED_TEST_REDIS && $(with_node) && export SLATED_TEST_NODE && \
		$(with_personalizer) && export SLATED_TEST_NPM_PERSONALIZER && \
		$(with_clients) && export SLATED_TEST_NPM_CLIENTS && $(with_api) && export SLATED_TEST_API_PYTHON && \
		$(with_models) && export SLATED_TEST_MODELS_PYTHON && \
		$(with_python) cargo test --workspace --locked

test-torch: setup ## Run the test of examples/pytorch, for which PyTorch is fetched (4 GB)
	$(with_models) && export SLATED_TEST_MODELS_PYTHON && $(with_torch) && export SLATED_TEST_TORCH_PYTHON && \
		cargo test --workspace --locked --test examples -- --ignored

clients: ## Make typed clients for Python and TypeScript in clients/
	scripts/clients.sh

chaos: setup ## Kill the service 100 times under load, and compare what it acknowledged with what is readable
	SLATED_CHAOS_ROUNDS=$${SLATED_CHAOS_ROUNDS:-100} cargo test --workspace --locked --test chaos -- --nocapture

bench: setup ## Run the benchmarks, each beside its peer
	$(with_python) cargo bench --workspace --locked

evaluation: setup ## Evaluate policies on the Open Bandit rows, and print the table of docs/evaluation.md
	cargo run --release --locked --example open_bandit

build: ## Build the release binary
	cargo build --release --locked

book: ## Build the documentation as a web site, and follow its links
	scripts/book.sh

reference: setup ## Write docs/reference and openapi.yaml anew from the code
	UPDATE=1 cargo test --workspace --locked --test documentation reference

fmt: ## Format the Rust code
	cargo fmt --all

lint: lint-format lint-rust lint-scripts lint-deploy ## Run every linter

lint-format: ## Check the Rust code's format
	cargo fmt --all --check

lint-rust: ## Run clippy, warnings as errors
	cargo clippy --workspace --all-targets --locked -- -D warnings

lint-scripts: ## Check the shell scripts and the Dockerfile
	bin=$$(dirname "$$(scripts/python.sh)") && \
		"$$bin/shellcheck" --external-sources --source-path=SCRIPTDIR scripts/*.sh .ci/run && \
		"$$bin/hadolint" Dockerfile

lint-deploy: ## Check the manifests, the compose file, the queries and the units
	scripts/lint-deploy.sh

audit: ## Check the dependencies' licences, sources and bans
	scripts/audit.sh

clean: ## Remove what was compiled and fetched, for every clone that shares it; never a journal
	cargo clean
	rm -rf .slated
