#!/usr/bin/env bash
# Fan-out, each time against a gateway of its own: one publisher and 100, 1,000 and 8,000 subscribers, with one message on
# its way and then with 16; then 100 at a rate of 5,000 messages a second, and as fast as the gateway takes it. Every delivery
# is checked; the exit code is 1 if one was wrong.
#
#   loadtest/scripts/fanout.sh [options of moongate-load fanout]
#
# With options it makes one run with just those, such as: --subscribers 15000 --count 200
# MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path; other MOONGATE_… variables are the
# gateway's settings.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

help_or_build "$@"
if (($# > 0)); then
    load fanout "$@"
    exit
fi
for window in 1 16; do
    for subscribers in 100 1000 8000; do
        load fanout --subscribers "$subscribers" --window "$window" --duration 5
        echo
    done
done
load fanout --subscribers 100 --rate 5000 --duration 5
echo
load fanout --subscribers 100 --unbounded --losses-allowed --duration 5
