#!/usr/bin/env bash
# Finds the knee: the highest rate at which a gateway of its own still delivers everything in time. The rate rises by half
# until something gives (a loss, the time limit, the gateway's core, or this tool itself), then the last step is halved
# three times. Fills in loadtest/scripts/capacity.template: the report is target/capacity/capacity.md, with charts in capacity.html.
#
#   loadtest/scripts/capacity.sh [--subscribers N] [--size BYTES] [--p99-ms MS] [--seconds S] [--start RATE]
#
#   --subscribers N   how many hear each message (1000)
#   --size BYTES      of a message (128)
#   --p99-ms MS       latest that 99 % may arrive, from the moment they were due (20)
#   --seconds S       for each step (5)
#   --start RATE      messages a second to begin with (20)
#
# MOONGATE_BIN and MOONGATE_LOAD_BIN name other builds than the release, by full path; other MOONGATE_… variables are the
# gateway's settings.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
help_only "$@"

command="loadtest/scripts/capacity.sh $*"
subscribers=1000 size=128 p99_ms=20 seconds=5 rate=20 cpu_max=95
while (($# > 1)); do
    case $1 in
    --subscribers) subscribers=$2 ;;
    --size) size=$2 ;;
    --p99-ms) p99_ms=$2 ;;
    --seconds) seconds=$2 ;;
    --start) rate=$2 ;;
    *) break ;;
    esac
    shift 2
done
if (($#)); then
    echo "what is $1? See --help" >&2
    exit 2
fi
help_or_build "$@"
# shellcheck source-path=SCRIPTDIR source=servers.sh
source loadtest/scripts/servers.sh

out=target/capacity
rm -rf "$out"
mkdir -p "$out"
if ! start moongate; then exit 2; fi

rows='' steps=() reason='' knee=''

# The value of a JSON document at a path of keys, such as latency_seconds/p99: one key a line, as the tool writes it.
value() {
    awk -v wanted="$2" '
        match($0, /^ *"[^"]*":/) {
            depth = match($0, /"/) / 2
            key = substr($0, RSTART)
            match($0, /"[^"]*"/)
            keys[int(depth)] = substr($0, RSTART + 1, RLENGTH - 2)
            path = keys[1]
            for (level = 2; level <= int(depth); level++) path = path "/" keys[level]
            if (path == wanted) {
                sub(/^ *"[^"]*": */, "")
                sub(/,$/, "")
                print
                exit
            }
        }' "$1"
}

# step RATE: whether it holds; else says why in `reason`.
step() {
    local json=$out/$1.json failed=0 p50 p99 deliveries cpu core row
    (on_cpu "$client_cpu" "$load_bin" fanout "${address[moongate]}" --pid "${pid[moongate]}" --subscribers "$subscribers" --size "$size" \
        --rate "$1" --duration "$seconds" --json "$json") >"$out/$1.log" 2>&1 || failed=$?
    if ((failed > 1)); then
        cat "$out/$1.log" >&2
        exit 2
    fi
    steps+=("$json")
    p50=$(value "$json" latency_seconds/p50) p99=$(value "$json" latency_seconds/p99)
    deliveries=$(value "$json" deliveries_per_second)
    cpu=$(value "$json" server_cpu_per/total)
    core=$(sed -nE 's/^server .* ([0-9]+) % of a core.*/\1/p' "$out/$1.log")
    reason=
    if ((failed)); then
        reason="at $1 messages a second not all arrived as it was sent"
    elif grep -q "^NOTE.* bottleneck" "$out/$1.log"; then
        reason="at $1 messages a second the client was the limit, not the gateway: more CPUs for it would show more"
    elif ((${core:-0} >= cpu_max)); then
        reason="at $1 messages a second the gateway took $core % of its core"
    elif awk -v p99="$p99" -v most="$p99_ms" 'BEGIN {exit !(p99 * 1000 > most)}'; then
        reason="at $1 messages a second the p99 was past $p99_ms ms"
    fi
    row=$(awk -v rate="$1" -v deliveries="$deliveries" -v p50="$p50" -v p99="$p99" -v cpu="$cpu" -v core="$core" -v holds="${reason:+no}" 'BEGIN {
        printf "| %d | %.0f | %.2f ms | %.2f ms | %.2f µs | %d %% | %s |", rate, deliveries, p50 * 1000, p99 * 1000, cpu, core, holds == "" ? "yes" : "no"}')
    rows+=$row$'\n'
    echo "$row"
    [[ -z $reason ]]
}

while step "$rate"; do
    knee=$rate
    rate=$((rate * 3 / 2 > rate ? rate * 3 / 2 : rate + 1))
done
why=$reason
lower=${knee:-0} upper=$rate
for _ in 1 2 3; do
    rate=$(((lower + upper) / 2))
    if ((rate <= lower)); then break; fi
    if step "$rate"; then lower=$rate knee=$rate; else upper=$rate why=$reason; fi
done

if [[ -n $knee ]]; then
    result="$knee messages a second hold: $((knee * (subscribers + 1))) deliveries a second."
else
    result="Not even the first rate holds: begin lower with --start."
fi
"$load_bin" report "${steps[@]}" --html "$out/capacity.html"
machine="$(nproc --all) CPUs ($(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1))"
awk -v rows="${rows%$'\n'}" \
    -v pairs="DATE=$(date -u +%Y-%m-%d)|MACHINE=$machine|KERNEL=$(uname -r)|VERSION=${version[moongate]:-unknown}|SUBSCRIBERS=$subscribers|SIZE=$size|SECONDS=$seconds|SERVER_CPU=$server_cpu|CLIENT_CPU=$client_cpu|P99_MS=$p99_ms|CPU_MAX=$cpu_max|KNEE=$result|REASON=$why|COMMAND=${command% }" '
    BEGIN {
        count = split(pairs, list, "|")
        for (place = 1; place <= count; place++) {
            cut = index(list[place], "=")
            values[substr(list[place], 1, cut - 1)] = substr(list[place], cut + 1)
        }
        values["ROWS"] = rows
    }
    {
        while (match($0, /@[A-Z0-9_]+@/)) {
            name = substr($0, RSTART + 1, RLENGTH - 2)
            $0 = substr($0, 1, RSTART - 1) values[name] substr($0, RSTART + RLENGTH)
        }
        print
    }' loadtest/scripts/capacity.template >"$out/capacity.md"
echo
echo "$result"
echo "$why"
echo "the report is in $out/capacity.md and $out/capacity.html"
