#!/usr/bin/env bash
# Measures Moongate beside other servers: the same work, driven by the same tool, in slices that take turns, so that what
# changes on the machine meanwhile changes for all. Every delivery is checked. Ends with ratios and their spread; the
# results, as JSON and as a report for a browser, are in target/compare.
#
#   loadtest/scripts/compare.sh [--quick] [--only SERVER,…] [--rounds N] [PLAN…]
#
#   --quick       two rounds of half a second, to see that all works
#   --only ...    just these servers, of those that a plan names; the one that ratios refer to always takes part
#   --rounds N    so many rounds, instead of five or what the plan says
#   PLAN…         just these plans; without any, all in loadtest/plans. What Moongate must reach is in loadtest/plans/bars:
#                 bars.sh runs those. Memory is compared by memory.sh.
#
# Servers keep to one CPU and the tool to another, where there are two. What is missing is built, or brought into target/ by
# loadtest/rivals/install.sh, without becoming a service of the machine. MOONGATE_BIN, MOONGATE_LOAD_BIN and
# MOONGATE_FLOOR_BIN name other builds than the release, by full path; other MOONGATE_… variables are the gateway's
# settings. The exit code is 1 if anything came otherwise than it was sent or a bar was missed, 2 if a measure could not take
# place.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
help_only "$@"

quick='' only='' rounds=() plans=()
while (($#)); do
    case $1 in
    --quick) quick=yes ;;
    --only)
        only=,$2,
        shift
        ;;
    --rounds)
        rounds=(--rounds "$2")
        shift
        ;;
    -*)
        echo "what is $1? See --help" >&2
        exit 2
        ;;
    *) plans+=("$1") ;;
    esac
    shift
done
if [[ -n $quick ]]; then rounds=(--rounds 2); fi
if ((${#plans[@]} == 0)); then plans=(loadtest/plans/*.toml); fi

# The value of a line `# name: value` at the head of a plan.
headline() {
    sed -n "s/^# $2: //p" "$1"
}

# The servers of a plan that are wanted, its reference first.
servers_of() {
    local reference server
    reference=$(sed -n 's/^reference = "\(.*\)"/\1/p' "$1" | head -n 1)
    for server in $(headline "$1" servers); do
        if [[ -z $only || $only == *,$server,* || $server == "$reference" ]]; then echo "$server"; fi
    done
}

# What the plans need is built and brought before anything is measured.
prepare() {
    local -A wanted=()
    local plan server
    for plan in "${plans[@]}"; do
        for server in $(servers_of "$plan"); do
            case $server in
            moongate-tunnel) wanted[moongate]=1 wanted[floor]=1 ;;
            moongate*) wanted[moongate]=1 ;;
            floor*) wanted[floor]=1 ;;
            fastwebsockets | tungstenite*) wanted[rust]=1 ;;
            nginx | haproxy) wanted[$server]=1 wanted[floor]=1 ;;
            *) wanted[$server]=1 ;;
            esac
        done
    done
    if [[ -z ${MOONGATE_LOAD_BIN:-} ]]; then cargo build --quiet --release -p moongate-load; fi
    if [[ -n ${wanted[moongate]:-} && -z ${MOONGATE_BIN:-} ]]; then cargo build --quiet --release -p moongate; fi
    if [[ -n ${wanted[floor]:-} && -z ${MOONGATE_FLOOR_BIN:-} ]]; then
        cargo build --quiet --release -p moongate-sys --example floor
    fi
    unset 'wanted[moongate]' 'wanted[floor]'
    if ((${#wanted[@]})); then loadtest/rivals/install.sh "${!wanted[@]}"; fi
}
prepare
# shellcheck source-path=SCRIPTDIR source=servers.sh
source loadtest/scripts/servers.sh

# tool ARGUMENT…: the load tool on its CPU.
tool() {
    (on_cpu "$client_cpu" "$load_bin" "$@")
}

# sends_per_window RUN: how often the gateway sends to each subscriber per window of messages in this run.
sends_per_window() {
    local words subscribers window before after audience
    read -ra words <<<"$(sed -E 's/--duration [0-9.]+//' <<<"$1")"
    subscribers=$(sed -nE 's/.*--subscribers ([0-9]+).*/\1/p' <<<"$1")
    window=$(sed -nE 's/.*--window ([0-9]+).*/\1/p' <<<"$1")
    audience=$((subscribers + 1))
    before=$(metric moongate_sends_total),$(metric moongate_messages_ordered_total)
    tool "${words[@]}" "${address[moongate]}" --duration 2 >"$logs/calibration.log" 2>&1 || return
    after=$(metric moongate_sends_total),$(metric moongate_messages_ordered_total)
    # Each connection's 101 and its answer to Close were sends, too.
    awk -F, -v window="$window" -v audience="$audience" '
        NR == 1 {sends = -$1 - 2 * audience; messages = -$2}
        NR == 2 {
            each = (sends + $1) * window / ((messages + $2) * audience)
            printf "%.2f\n", (each < 1 ? 1 : each > window ? window : each)
        }' <<<"$before"$'\n'"$after"
}

# deflated_bytes: how many bytes a message of 4 KiB of JSON is when the gateway has compressed it.
deflated_bytes() {
    tool fanout "${address[moongate]}" --deflate --filling json --text --size 4096 --subscribers 10 --count 500 \
        >"$logs/calibration.log" 2>&1 || return
    awk '{printf "%.0f\n", $1 / $2}' <<<"$(metric moongate_compression_bytes_out_total) $(metric moongate_compression_messages_total)"
}

# filled PLAN: the plan with what is only known now. @SENDS@ is how often the gateway sends per window in the run above it,
# @DEFLATED@ how many bytes 4 KiB of JSON are when they are compressed.
filled() {
    local line run='' sends deflated
    while IFS= read -r line; do
        if [[ $line == *@DEFLATED@* ]]; then
            deflated=$(deflated_bytes) || return
            line=${line//@DEFLATED@/$deflated}
        fi
        if [[ $line =~ ^run\ =\ \"(.*)\" ]]; then run=${BASH_REMATCH[1]}; fi
        if [[ $line == *@SENDS@* ]]; then
            sends=$(sends_per_window "$run") || return
            echo "  Moongate sends $sends times per window and subscriber: ${run#fanout }" >&2
            line=${line//@SENDS@/$sends}
        fi
        if [[ -n $quick && $line =~ ^run ]]; then
            line=$(sed -E 's/--duration [0-9.]+/--duration 0.5/; s/--hold [0-9.]+/--hold 0.2/' <<<"$line")
        fi
        printf '%s\n' "$line"
    done <"$1"
}

# Runs one plan against servers of its own.
run_plan() {
    local plan=$1 name server settings also out verdict=0
    name=$(basename "$plan" .toml)
    out=target/compare/$name
    read -ra settings <<<"$(headline "$plan" moongate)"
    echo
    echo "== $(headline "$plan" title)"
    local started=()
    for server in $(servers_of "$plan"); do
        if start "$server" "${settings[@]}"; then started+=("$server"); else verdict=2; fi
    done
    if [[ -n $(headline "$plan" busy) ]]; then
        for server in "${started[@]}"; do keep_busy "$server"; done
    fi
    if filled "$plan" >"$out.toml"; then
        also=$(headline "$out.toml" also)
        for server in "${started[@]}"; do variant "$server" "$server"; done >>"$out.toml"
        while read -r name server words; do
            if [[ -n $name ]]; then variant "$name" "$server" "$words"; fi
        done <<<"$also" >>"$out.toml"
        tool compare "$out.toml" "${rounds[@]}" --json "$out.json" --html "$out.html" || verdict=$?
    else
        cat "$logs/calibration.log" >&2
        verdict=2
    fi
    stop_all
    return "$verdict"
}

worst=0
for plan in "${plans[@]}"; do
    verdict=0
    run_plan "$plan" || verdict=$?
    if ((verdict > worst)); then worst=$verdict; fi
done
exit "$worst"
