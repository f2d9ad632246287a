#!/usr/bin/env bash
# Runs the script of every scenario in its usual size, one after the other, and ends with what came of each.
#
#   loadtest/scripts/all.sh [SCENARIO…]
#
# Without names it runs all: fanout echo idle storm churn slow kill resume events tunnel mixed. What they say is also in
# target/load, a file for each. MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path;
# other MOONGATE_… variables are the gateway's settings. The exit code is 1 if anything came otherwise than it was sent, 2
# if a run could not take place.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
help_or_build "$@"

scenarios=("$@")
if (($# == 0)); then
    scenarios=(fanout echo idle storm churn slow kill resume events tunnel mixed)
fi
mkdir -p target/load

worst=0 summary=()
for scenario in "${scenarios[@]}"; do
    script=loadtest/scripts/$scenario.sh
    if [[ ! -x $script ]]; then
        echo "there is no script for $scenario; see --help" >&2
        exit 2
    fi
    echo
    echo "== $scenario"
    verdict=0 began=$SECONDS
    "$script" 2>&1 | tee "target/load/$scenario.log" || verdict=$?
    took=$((SECONDS - began))
    case $verdict in
    0) said="all came as it was sent" ;;
    1) said="NOT ALL CAME AS IT WAS SENT" ;;
    130 | 143) exit "$verdict" ;;
    *) said="COULD NOT TAKE PLACE" verdict=2 ;;
    esac
    summary+=("$(printf '  %-8s %4d s  %s' "$scenario" "$took" "$said")")
    if ((verdict > worst)); then worst=$verdict; fi
done
echo
printf '%s\n' "${summary[@]}"
exit "$worst"
