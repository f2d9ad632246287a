#!/usr/bin/env bash
# Idle connections, each time against a gateway of its own: 10,000 on one topic, then 10,000 with a topic each. Says what
# memory each costs, and checks that each still hears a message; the exit code is 1 if one does not.
#
#   loadtest/scripts/idle.sh [options of moongate-load idle]
#
# With options it makes one run with just those, such as: --connections 15000 --hold 60
# MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path; other MOONGATE_… variables are the
# gateway's settings.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

help_or_build "$@"
if (($# > 0)); then
    load idle "$@"
    exit
fi
load idle --connections 10000
echo
load idle --connections 10000 --topic-each
