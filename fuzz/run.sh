#!/bin/bash
# Fuzzes for real: ./run.sh MINUTES [TARGET...]. Says for each target how many executions there were and what was found.
# What is found is kept among the seeds, so that the next `cargo test` fails on it too.
#
# The coverage that libFuzzer steers by comes from an LLVM pass that any rustc has, so neither a nightly compiler nor
# another tool is needed. Comparisons are not traced: that took four fifths of the time where a compressor runs, and the
# seeds and dictionaries have the words that it would find.
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=${1:?usage: fuzz/run.sh MINUTES [TARGET...]}
shift
targets=${*:-head frames negotiate inflate hub body topic upstream v1 wamp}
seconds=$(awk "BEGIN { printf \"%d\", $minutes * 60 }")
out=$PWD/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')

coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
# A target triple of its own keeps the instrumentation out of build scripts.
RUSTFLAGS=$coverage CARGO_TARGET_DIR=$out cargo build --quiet --release --target "$host" \
    --manifest-path fuzz/targets/Cargo.toml

found=0
for target in $targets; do
    corpus=$out/corpus/$target
    artifacts=$out/found/$target
    log=$out/$target.log
    mkdir -p "$corpus" "$artifacts"
    rm -f "$artifacts"/*
    dictionary=fuzz/dictionaries/$target.dict
    "$out/$host/release/$target" "$corpus" "fuzz/seeds/$target" \
        -max_total_time="$seconds" -max_len=8192 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$artifacts/" ${dictionary:+$([ -f "$dictionary" ] && echo "-dict=$dictionary")} \
        >"$log" 2>&1 || true
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
    edges=$(grep -o 'cov: [0-9]*' "$log" | tail -1 || true)
    crashes=$(find "$artifacts" -type f | wc -l)
    echo "$target: ${executions:-0} executions, ${edges:-cov: ?}, $crashes found (log: target/fuzz/$target.log)"
    for file in "$artifacts"/*; do
        [ -f "$file" ] || continue
        found=1
        seed=fuzz/seeds/$target/found-$(sha1sum "$file" | cut -c1-8)
        cp "$file" "$seed"
        grep -m1 -A3 'panicked at' "$log" | sed 's/^/    /' || true
        echo "    kept as $seed; replay: cargo run -p moongate-fuzz -- $target $seed"
    done
done
exit $found
