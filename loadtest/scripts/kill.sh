#!/usr/bin/env bash
# A mass vanishing against a gateway of its own: 15,000 connections are reset at once, while 200 newcomers arrive a second.
# Says how long those waited for their answer before and in the ten seconds after, and when the gateway said that all had
# gone; in the end all come back. The exit code is 1 if one could not.
#
#   loadtest/scripts/kill.sh [options of moongate-load kill]
#
# With options it makes one run with just those, such as: --connections 5000 --rate 500
# MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path; other MOONGATE_… variables are the
# gateway's settings.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

help_or_build "$@"
if (($# == 0)); then set -- --connections 15000; fi
# The gateway's control listener is known when it runs.
# shellcheck disable=SC2016
loadtest/scripts/with-gateway bash -c 'exec "$0" kill --control "$GATEWAY_CONTROL" "$@"' \
    "${MOONGATE_LOAD_BIN:-target/release/moongate-load}" "$@"
