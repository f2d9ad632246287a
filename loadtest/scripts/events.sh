#!/usr/bin/env bash
# Event streams, each time against a gateway of its own: one publisher on a WebSocket and 100 and 1,000 subscribers that listen
# to event streams, and the same with WebSockets to compare it with. Every event is checked; the exit code is 1 if one was
# wrong.
#
#   loadtest/scripts/events.sh [options of moongate-load events]
#
# With options it makes one run with just those, such as: --subscribers 8000 --rate 20
# MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path; other MOONGATE_… variables are the
# gateway's settings.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

help_or_build "$@"
if (($# > 0)); then
    load events "$@"
    exit
fi
for subscribers in 100 1000; do
    load events --subscribers "$subscribers" --duration 5
    echo
    load fanout --subscribers "$subscribers" --text --duration 5
    echo
done
