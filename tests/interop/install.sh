#!/usr/bin/env bash
# Builds the clients that take minutes: those in rust-clients, and websocat. Quick when they are there already.
set -euo pipefail
cd "$(dirname "$0")/../.."

export CARGO_TARGET_DIR=$PWD/target/interop/build
cargo build --quiet --locked --manifest-path tests/interop/rust-clients/Cargo.toml
# The 1.x releases no longer compile with Rust 1.95.
cargo install --quiet --locked --root target/interop --no-default-features websocat@4.0.0-alpha3
