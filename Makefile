# One line per verb. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The steps of a verb build in the same place and load the same cores: in order, also under -j.
.NOTPARALLEL:

# How many seeds `make sim` tries; each is a world of its own.
SEEDS ?= 100
FROM ?= 0
# How long `make fuzz` spends on each target, and on which: all, or those named.
MINUTES ?= 10
TARGET ?=
# What `make load` runs: a scenario of the load tool, with any of its options.
LOAD ?= fanout
# What `make bench` runs: all, or those whose name contains this.
BENCH ?=
# Options for `make soak`, such as SOAK="--connections 100000 --seed 7".
SOAK ?=
# What drives the gateway in the end-to-end tests: auto, uring, tokio-uring or epoll.
DRIVER ?=
# Options for the end-to-end tests, on every driver, such as `make test E2E="-k chat"`.
E2E ?=
# The same for `make interop`.
INTEROP ?=

# A fresh machine that has rustup may have it outside the PATH of a non-interactive shell.
export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: help run build test check fmt fmt-check lint unit loom instructions instructions-accept e2e drivers interop autobahn sim fuzz soak bench load

help: ## List these verbs.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  \1\t/' | expand -t 23

run: ## Build the release and run the gateway on loopback; it says where its page is.
	cargo build --release -p moongate
	@exec target/release/moongate run

build: ## Build the release: target/release/moongate.
	cargo build --release -p moongate

test: fmt-check lint unit loom instructions e2e drivers ## Everything a change must pass; ends with the end-to-end tests.

check: fmt-check lint unit ## The quick part of test: format, lints, unit tests.

fmt: ## Format the code.
	cargo fmt --all

fmt-check:
	cargo fmt --all --check

lint: ## Clippy on everything, warnings denied.
	cargo clippy --workspace --all-targets -- -D warnings

unit: ## The Rust tests, simulation included.
	cargo test --workspace

loom: ## The lane in every order that threads can run.
	RUSTFLAGS="--cfg moongate_loom" CARGO_TARGET_DIR=target/loom cargo test -p moongate-lane --release --test loom

instructions: ## The instructions that hot functions take, against what is committed; a rise of 10 % fails.
	tests/install.sh
	cargo run --release -p moongate-benches --bin instructions

instructions-accept: ## Write down the instructions that are counted now: benches/instructions.txt.
	tests/install.sh
	cargo run --release -p moongate-benches --bin instructions -- accept

e2e: ## The end-to-end tests, on the real kernel.
	tests/install.sh
	cargo build --profile checked -p moongate
	@DRIVER=$(DRIVER) target/test-env/bin/python -m pytest tests/e2e $(E2E)

drivers: ## The end-to-end tests again, on the two drivers that `auto` does not take here.
	tests/install.sh
	cargo build --profile checked -p moongate
	@for driver in tokio-uring epoll; do \
		echo "on $$driver:"; DRIVER=$$driver target/test-env/bin/python -m pytest tests/e2e -m "not once" $(E2E); \
	done

autobahn: ## All 517 cases of the Autobahn suite; writes docs/conformance.md.
	tests/autobahn/setup.sh
	cargo build --profile checked -p moongate
	@tests/autobahn/run.py --write docs/conformance.md

interop: ## Clients that take minutes to build: tokio-tungstenite, fastwebsockets, websocat.
	tests/install.sh
	tests/interop/install.sh
	cargo build --profile checked -p moongate
	@target/test-env/bin/python -m pytest tests/interop $(INTEROP)

sim: ## The simulation with SEEDS=100 seeds from FROM=0 on; a failure says which seed replays it.
	cargo run --profile checked -p moongate-sim --bin sim -- --seeds $(SEEDS) --from $(FROM)

soak: ## A million connections that leave at any moment; nothing may stay behind. SOAK="--connections 100000".
	tests/install.sh
	cargo build --profile checked -p moongate
	@target/test-env/bin/python tests/e2e/soak.py $(SOAK)

fuzz: ## Fuzz every target, or TARGET="head hub", for MINUTES=10 each; what is found is kept as a seed.
	@fuzz/run.sh $(MINUTES) $(TARGET)

bench: ## The micro-benchmarks, with a table of ratios at the end; BENCH=name picks some.
	@benches/run $(BENCH)

load: ## A load scenario on a gateway of its own: LOAD="fanout|echo|idle|storm|… [options]".
	cargo build --release -p moongate -p moongate-load
	loadtest/scripts/with-gateway target/release/moongate-load $(LOAD)
