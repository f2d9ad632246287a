#!/usr/bin/env bash
# Slow readers, each time against a gateway of its own: 1,000 subscribers at 500 messages of 1 KB a second, all of which read;
# then 1 % do not read at all, and 1 % read 100 kB a second, of 512 kB. Compare the latency of the others. Who is cut is
# counted, with what it missed; the exit code is 1 if anybody heard something wrong.
#
#   loadtest/scripts/slow.sh [options of moongate-load slow]
#
# With options it makes one run with just those, such as: --subscribers 8000 --share 0.05 --slow-rate 10000
# MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path; other MOONGATE_… variables are the
# gateway's settings.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

help_or_build "$@"
if (($# > 0)); then
    load slow "$@"
    exit
fi
load fanout --subscribers 1000 --rate 500 --size 1024 --duration 10
echo
for rate in 0 100000; do
    load slow --subscribers 1000 --share 0.01 --slow-rate "$rate" --rate 500 --size 1024 --duration 10
    echo
done
