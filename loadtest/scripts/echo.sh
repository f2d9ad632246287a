#!/usr/bin/env bash
# Echo, each time against a gateway of its own: 64 connections with one message in flight on each, then 64 and 1,000 with
# eight. Every echo is checked; the exit code is 1 if one was wrong.
#
#   loadtest/scripts/echo.sh [options of moongate-load echo]
#
# With options it makes one run with just those, such as: --connections 10 --size 4096
# MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path; other MOONGATE_… variables are the
# gateway's settings.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

help_or_build "$@"
if (($# > 0)); then
    load echo "$@"
    exit
fi
for shape in "64 1" "64 8" "1000 8"; do
    read -r connections depth <<<"$shape"
    load echo --connections "$connections" --depth "$depth" --size 64 --duration 5
    echo
done
