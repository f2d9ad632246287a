#!/usr/bin/env bash
# Everything together against a gateway of its own: WebSockets and event streams, messages by WebSocket and by POST, comings
# and goings, and echoes, for ten seconds. All of it is checked; the exit code is 1 if anything was wrong.
#
#   loadtest/scripts/mixed.sh [options of moongate-load mixed]
#
# With options it makes one run with just those, such as: --subscribers 5000 --rate 50 --moves 200
# MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path; other MOONGATE_… variables are the
# gateway's settings.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

help_or_build "$@"
if (($# > 0)); then
    load mixed "$@"
    exit
fi
load mixed --subscribers 1000 --duration 10
