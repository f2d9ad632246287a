#!/usr/bin/env bash
# Echo through a tunnel, each time through a gateway of its own that leads to an echo server of this script's: 64 connections
# with one message in flight on each, then 64 and 1,000 with eight. Every echo is checked; the exit code is 1 if one was wrong.
#
#   loadtest/scripts/tunnel.sh [options of moongate-load tunnel]
#
# With options it makes one run with just those, such as: --connections 10 --size 4096
# The echo server, which keeps to the tool's CPU, is named as taking part; what it costs is said beside the gateway's cost.
# MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path; other MOONGATE_… variables are the
# gateway's settings, but for MOONGATE_ROUTES, which leads to the echo server.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

help_or_build "$@"
load_bin=${MOONGATE_LOAD_BIN:-target/release/moongate-load}
log=target/load-upstream.log
(on_cpu "$client_cpu" "$load_bin" upstream) >"$log" &
upstream=$!
trap 'kill -TERM "$upstream" 2>/dev/null; wait "$upstream" || true' EXIT

far_end=
for _ in {1..100}; do
    far_end=$(sed -nE 's/^listening (.*)/\1/p' "$log")
    if [[ -n $far_end ]] || ! kill -0 "$upstream" 2>/dev/null; then break; fi
    sleep 0.1
done
if [[ -z $far_end ]]; then
    echo "the echo server did not start" >&2
    exit 2
fi
export MOONGATE_ROUTES="/tunnel tunnel $far_end"

if (($# > 0)); then
    load tunnel --with "$upstream" "$@"
    exit
fi
for shape in "64 1" "64 8" "1000 8"; do
    read -r connections depth <<<"$shape"
    load tunnel --with "$upstream" --connections "$connections" --depth "$depth" --size 64 --duration 5
    echo
done
