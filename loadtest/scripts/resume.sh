#!/usr/bin/env bash
# 10,000 subscribers of a hundred topics come back at once, twice, each time against a gateway of its own. First they are cut
# off, miss 32 messages each, and come back to their places: nothing may be missing, and nothing come twice. Then the gateway is
# replaced by another one, to which they come back with places that it cannot know: each must be told so, and hear what was
# kept since. Says how long it took until all were live again, what bystanders on another topic noticed (which have a thread of
# the tool's to themselves, so that they do not wait while it looks after the others), what the gateway encoded for those who
# came back beside what it sent them, and what that cost. The exit code is 1 if anything was missed.
#
#   loadtest/scripts/resume.sh [options of moongate-load resume]
#
# With options it makes one run with just those and without a restart, such as: --connections 5000 --missed 10 --streams 1
# MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path; other MOONGATE_… variables are the
# gateway's settings. Logs of the second part are target/load-old.log and target/load-new.log.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

help_or_build "$@"
# The gateway's control listener is known when it runs.
# shellcheck disable=SC2016
loadtest/scripts/with-gateway bash -c 'exec "$0" resume --control "$GATEWAY_CONTROL" --pid "$GATEWAY_PID" "$@"' \
    "${MOONGATE_LOAD_BIN:-target/release/moongate-load}" "$@"
if (($#)); then exit; fi

echo
bin=${MOONGATE_BIN:-$PWD/target/release/moongate}
load_bin=${MOONGATE_LOAD_BIN:-$PWD/target/release/moongate-load}
unset MOONGATE_BIN MOONGATE_LOAD_BIN MOONGATE_FLOOR_BIN # which are no settings

# start LISTEN CONTROL LOG: a gateway, whose process is $gateway when it listens.
start() {
    : >"$3"
    MOONGATE_LISTEN=$1 MOONGATE_CONTROL=$2 MOONGATE_LOG_FORMAT=text on_cpu "$server_cpu" "$bin" run 2>"$3" &
    gateway=$!
    for _ in {1..100}; do
        if grep -q ' ready listen=' "$3"; then return; fi
        if ! kill -0 "$gateway" 2>/dev/null; then break; fi
        sleep 0.1
    done
    cat "$3" >&2
    return 1
}

gateway='' tool=''
folder=$(mktemp -d)
leave() {
    if [[ -n $tool ]]; then kill -TERM "$tool" 2>/dev/null || true; fi
    if [[ -n $gateway ]]; then kill -TERM "$gateway" 2>/dev/null || true; fi
    wait
    rm -r "$folder"
}
trap leave EXIT
start 127.0.0.1:0 127.0.0.1:0 target/load-old.log
address=$(sed -nE 's/.* ready listen=([^ ,]+).*/\1/p' target/load-old.log)
control=$(sed -nE 's/.* control=([^ ,]+).*/\1/p' target/load-old.log | tail -n 1)

# The tool's command asks here for the other gateway, so that it is a child of this script, and waits until it listens.
mkfifo "$folder/ask" "$folder/answer"
exec 3<>"$folder/ask" 4<>"$folder/answer"
(on_cpu "$client_cpu" "$load_bin" resume --control "$control" --pid "$gateway" \
    --restart "echo >$folder/ask && read -r ready <$folder/answer" "$address") &
tool=$!
until read -r -t 1 <&3; do
    if ! kill -0 "$tool" 2>/dev/null; then break; fi
done
if kill -0 "$tool" 2>/dev/null; then
    kill -KILL "$gateway"
    wait "$gateway" 2>/dev/null || true
    start "$address" "$control" target/load-new.log
    echo ready >&4
fi
verdict=0
wait "$tool" || verdict=$?
tool=''
exit "$verdict"
