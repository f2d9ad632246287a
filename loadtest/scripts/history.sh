#!/usr/bin/env bash
# What it costs to keep what topics said last: user memory (PSS) of 5,000 topics on each of which 64 messages of 128 bytes were
# said, by gateways that keep none of them, one of each topic, and all 64. Each topic has one subscriber, its publisher.
#
#   loadtest/scripts/history.sh [TOPICS [BYTES]]
#
# MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
help_or_build "$@"
# shellcheck source-path=SCRIPTDIR source=servers.sh
source loadtest/scripts/servers.sh
topics=${1:-5000} bytes=${2:-128}

printf '%-28s%14s%22s%26s\n' "kept of each topic" "PSS" "more than with none" "moongate_history_bytes"
none=
for keep in 0 1 64; do
    start moongate MOONGATE_HISTORY_MESSAGES=$keep
    log=$logs/history-$keep.log
    # shellcheck disable=SC2154 # It is set by start.
    (on_cpu "$client_cpu" "$load_bin" fanout --topics "$topics" --publishers "$topics" --subscribers 0 --size "$bytes" \
        --count $((topics * 64)) --window 64 --pid "${pid[moongate]}" "${address[moongate]}") >"$log" || {
        cat "$log" >&2
        exit 1
    }
    pss=$(sed -nE 's/^ +when all had come: .* PSS ([0-9]+) KiB$/\1/p' "$log")
    none=${none:-$pss}
    kept=$(metric moongate_history_bytes)
    printf '%-28s%14s%22s%26s\n' "$keep messages" "$pss KiB" "$(((pss - none) * 1024 / topics)) B/topic" "$((kept / topics)) B/topic"
    stop_all
done
