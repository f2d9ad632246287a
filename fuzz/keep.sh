#!/bin/bash
# Keeps what the last fuzzing came to: the fewest files that cover what all of target/fuzz/corpus covers beyond the seeds,
# small ones only. Usage: ./keep.sh [TARGET...], after run.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

bytes_max=600
out=$PWD/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
for target in ${*:-head frames negotiate inflate hub body topic upstream v1 wamp}; do
    seeds=fuzz/seeds/$target
    merged=$out/merged/$target
    rm -rf "$merged"
    mkdir -p "$merged"
    # What was kept before makes room for what covers more; what has a name stays.
    find "$seeds" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -exec mv {} "$out/corpus/$target/" \;
    cp "$seeds"/* "$merged"
    "$out/$host/release/$target" -set_cover_merge=1 -use_counters=0 "$merged" "$out/corpus/$target" >"$out/$target.merge.log" 2>&1
    find "$merged" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -size -"${bytes_max}"c -exec cp {} "$seeds" \;
    echo "$target: $(find "$seeds" -type f | wc -l) seeds, $(cat "$seeds"/* | wc -c) bytes"
done
