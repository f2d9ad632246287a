#!/usr/bin/env bash
# Measures what Moongate is to reach, one bar after the other, and ends with which were reached. Most bars are plans in
# loadtest/plans/bars that compare.sh runs, the others are here.
#
#   loadtest/scripts/bars.sh [--quick] [--rounds N] [BAR…]
#
#   --quick, --rounds N   as for compare.sh
#   BAR…                  just these, of: fanout-one fanout-waiting fanout-volleys unbounded echo handshake memory growth
#                         shards stopped deflate kill resume events topics history drivers
#
# Every bar is several rounds of every server that takes part, so all of them take long. The exit code is 1 if a bar was
# missed, 2 if one could not be measured.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
help_or_build "$@"

options=() bars=()
while (($#)); do
    case $1 in
    --quick) options+=(--quick) ;;
    --rounds)
        options+=(--rounds "$2")
        shift
        ;;
    -*)
        echo "what is $1? See --help" >&2
        exit 2
        ;;
    *) bars+=("$1") ;;
    esac
    shift
done
if ((${#bars[@]} == 0)); then
    bars=(fanout-one fanout-waiting fanout-volleys unbounded echo handshake memory growth shards stopped deflate kill resume
        events topics history drivers)
fi
mkdir -p target/compare

# at_most WHAT VALUE MOST: says whether it is, and fails if not.
at_most() {
    awk -v what="$1" -v value="$2" -v most="$3" 'BEGIN {
        reached = value != "" && value + 0 <= most + 0
        printf "  %s %s: %s, at most %s\n", reached ? "reached" : "MISSED ", what, value == "" ? "nothing" : value, most
        exit !reached
    }'
}

# User memory: what each connection adds from 1,000 to 15,000, and what the gateway takes before the first.
bar_memory() {
    local log=target/compare/bar-memory.log verdict=0 log_each=target/compare/bar-memory-each.log
    echo
    echo "== memory of idle connections"
    export MOONGATE_CONNECTIONS_MAX=1000000
    load idle --connections 15000 | tee "$log" || return 2
    load idle --connections 15000 --topic-each | tee "$log_each" || return 2
    at_most "bytes PSS per connection on one topic" "$(slope "$log")" 256 || verdict=1
    at_most "bytes PSS per connection with a topic each" "$(slope "$log_each")" 768 || verdict=1
    # shellcheck disable=SC2016 # Expanded by awk.
    loadtest/scripts/with-gateway sh -c 'awk "/^Pss:/ {print \$2 / 1024}" "/proc/$GATEWAY_PID/smaps_rollup"' >"$log"
    at_most "MiB PSS of an empty gateway" "$(cat "$log")" 24 || verdict=1
    unset MOONGATE_CONNECTIONS_MAX
    return "$verdict"
}

slope() {
    sed -nE 's/.* ([-0-9]+) bytes PSS per connection \(slope\)/\1/p' "$1"
}

# How much more a delivery costs at 15,000 subscribers than at 1,000, against how much more it costs the floor.
bar_growth() {
    local log=target/compare/bar-growth.log
    loadtest/scripts/compare.sh "${options[@]}" loadtest/plans/bars/growth.toml | tee "$log" || return 2
    at_most "growth of CPU per delivery, as a ratio to the floor's" "$(awk '
        /ratios to floor/ {table = 1}
        table && $1 == "moongate" {ratio[++count] = $6; table = 0}
        END {if (count == 2) printf "%.3f", ratio[2] / ratio[1]}' "$log")" 1.15
}

# 15,000 vanish at once while 200 newcomers a second arrive.
bar_kill() {
    local log=target/compare/bar-kill.log verdict=0 before after
    echo
    echo "== 15,000 vanish at once"
    # shellcheck disable=SC2016 # Expanded by the inner shell.
    loadtest/scripts/with-gateway sh -c '"$0" kill --connections 15000 --control "$GATEWAY_CONTROL" "$1"' \
        "${MOONGATE_LOAD_BIN:-target/release/moongate-load}" | tee "$log" || return 2
    before=$(milliseconds before p99 "$log")
    after=$(milliseconds after p99 "$log")
    at_most "ms, p99 of connecting after" "$after" "$(awk -v before="$before" 'BEGIN {print (3 * before > 5 ? 3 * before : 5)}')" ||
        verdict=1
    at_most "ms until all slots are back" "$(milliseconds "all gone" max "$log")" 5000 || verdict=1
    return "$verdict"
}

# 10,000 come back at once, who missed 32 messages each on their topics.
bar_resume() {
    local log=target/compare/bar-resume.log verdict=0 before returning
    echo
    echo "== 10,000 come back at once"
    # shellcheck disable=SC2016 # Expanded by the inner shell.
    loadtest/scripts/with-gateway sh -c '"$0" resume --control "$GATEWAY_CONTROL" --pid "$GATEWAY_PID" "$1"' \
        "${MOONGATE_LOAD_BIN:-target/release/moongate-load}" | tee "$log" || return 2
    before=$(milliseconds before p99 "$log")
    returning=$(milliseconds returning p99 "$log")
    at_most "ms, p99 of bystanders meanwhile" "$returning" "$(awk -v before="$before" 'BEGIN {print (3 * before > 5 ? 3 * before : 5)}')" ||
        verdict=1
    # A hundred topics, each with 32 messages missed and 5 kept from before, two forms: 7,400. And what is said meanwhile, a
    # message a second on each topic.
    at_most "encodings of what was missed" "$(sed -nE 's/^found +([0-9]+) kept messages were encoded.*/\1/p' "$log")" 7600 ||
        verdict=1
    return "$verdict"
}

# milliseconds LINE FIGURE LOG: a time from a line such as "after      p50 253 µs, p90 …".
milliseconds() {
    sed -nE "s/^$1 .*$2 ([0-9.]+) (µs|ms|s)([, ].*)?$/\1 \2/p" "$3" |
        awk '{print $1 * ($2 == "s" ? 1000 : $2 == "ms" ? 1 : 0.001)}' | tail -n 1
}

worst=0 summary=()
for bar in "${bars[@]}"; do
    verdict=0
    case $bar in
    memory) bar_memory || verdict=$? ;;
    growth) bar_growth || verdict=$? ;;
    kill) bar_kill || verdict=$? ;;
    resume) bar_resume || verdict=$? ;;
    *)
        if [[ ! -f loadtest/plans/bars/$bar.toml ]]; then
            echo "there is no bar called $bar; see --help" >&2
            exit 2
        fi
        loadtest/scripts/compare.sh "${options[@]}" "loadtest/plans/bars/$bar.toml" || verdict=$?
        ;;
    esac
    case $verdict in
    0) summary+=("  reached      $bar") ;;
    1) summary+=("  NOT REACHED  $bar") ;;
    130 | 143) exit "$verdict" ;;
    *) summary+=("  FAILED       $bar") ;;
    esac
    if ((verdict > worst)); then worst=$verdict; fi
done
echo
printf '%s\n' "${summary[@]}"
exit "$worst"
