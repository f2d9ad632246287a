#!/usr/bin/env bash
# What memory idle connections cost Moongate and other servers: user memory and the kernel's, as the slope from 334
# connections to five thousand on one topic. Each server is started afresh, so that it has no memory left from before.
#
#   loadtest/scripts/memory.sh [SERVER…]
#
# Servers: moongate fastwebsockets tungstenite tungstenite-as-it-comes ws nchan nats. What is missing is built or brought into
# target/, as for compare.sh. By name also the gateway on one driver: moongate-uring moongate-tokio-uring moongate-epoll.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
help_or_build "$@"
servers=("$@")
if (($# == 0)); then servers=(moongate fastwebsockets tungstenite tungstenite-as-it-comes ws nchan nats); fi
loadtest/rivals/install.sh rust ws nchan nats
# shellcheck source-path=SCRIPTDIR source=servers.sh
source loadtest/scripts/servers.sh

printf '%-26s%14s%14s%14s\n' "bytes per connection" "RSS" "PSS" "kernel slab"
for server in "${servers[@]}"; do
    start "$server"
    log=$logs/memory-$server.log
    # shellcheck disable=SC2086 # Options are words.
    (on_cpu "$client_cpu" "$load_bin" idle --connections 5000 --pid "${pid[$server]}" ${options[$server]:-} \
        "${address[$server]}") >"$log" || {
        cat "$log" >&2
        exit 1
    }
    rss=$(sed -nE 's/^ +([-0-9]+) bytes RSS.*/\1/p' "$log") pss=$(sed -nE 's/.* ([-0-9]+) bytes PSS.*/\1/p' "$log")
    slab=$(sed -nE 's/^ +([-0-9]+) bytes kernel slab.*/\1/p' "$log")
    printf '%-26s%14s%14s%14s\n' "$server" "$rss" "$pss" "$slab"
    stop_all
done
