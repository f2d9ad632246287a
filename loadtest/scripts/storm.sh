#!/usr/bin/env bash
# Handshakes, each time against a gateway of its own: connections that are closed as soon as they are answered, by a Close, by
# closing them and by a reset, as fast as can be, and then 2,000 a second. Says what CPU each costs the gateway and how long
# each took; the exit code is 1 if one failed.
#
#   loadtest/scripts/storm.sh [options of moongate-load storm]
#
# With options it makes one run with just those, such as: --connections 512 --leave abruptly --duration 10
# MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path; other MOONGATE_… variables are the
# gateway's settings.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

help_or_build "$@"
if (($# > 0)); then
    load storm "$@"
    exit
fi
for leave in politely silently abruptly; do
    load storm --leave "$leave" --duration 5
    echo
done
load storm --rate 2000 --duration 5
