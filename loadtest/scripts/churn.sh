#!/usr/bin/env bash
# Comings and goings, each time against a gateway of its own: 1,000 subscribers of which half leave and are replaced, 100 a
# second and then 1,000 a second, while messages flow. Those who stay must miss nothing, and who joins must miss nothing from
# then on; the exit code is 1 if anybody did.
#
#   loadtest/scripts/churn.sh [options of moongate-load churn]
#
# With options it makes one run with just those, such as: --subscribers 10000 --movers 9000 --moves 1000
# MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path; other MOONGATE_… variables are the
# gateway's settings.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

help_or_build "$@"
if (($# > 0)); then
    load churn "$@"
    exit
fi
for moves in 100 1000; do
    load churn --subscribers 1000 --moves "$moves" --duration 10
    echo
done
