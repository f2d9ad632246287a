# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # Some variables come from who sources this, some go there.
# Starts the servers that are compared, each once, and ends them. To be sourced after common.sh.
#
# Each listens on a free port of 127.0.0.1 and runs on the servers' CPU. `start NAME` fills in address[NAME] and pid[NAME],
# the process whose CPU time counts, and with[NAME], those that take part beside it, parted by commas; `stop_all` ends every
# server, also when the script that sources this one is interrupted.

rivals=$PWD/target/rivals
logs=$PWD/target/compare/logs
load_bin=${MOONGATE_LOAD_BIN:-$PWD/target/release/moongate-load}
moongate_bin=${MOONGATE_BIN:-$PWD/target/release/moongate}
floor_bin=${MOONGATE_FLOOR_BIN:-$PWD/target/release/examples/floor}
unset MOONGATE_BIN MOONGATE_LOAD_BIN MOONGATE_FLOOR_BIN # which are no settings

declare -A address=() pid=() with=() process=() version=() options=() may_lose=()
# The control listener of the gateway that was started last.
control=

mkdir -p "$logs"
# Connections take files in most servers.
ulimit -n "$(ulimit -Hn)"

stop_all() {
    local name
    for name in "${!process[@]}"; do kill -TERM "${process[$name]}" 2>/dev/null || true; done
    for name in "${!process[@]}"; do
        for _ in {1..50}; do
            kill -0 "${process[$name]}" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "${process[$name]}" 2>/dev/null || true
        wait "${process[$name]}" 2>/dev/null || true
    done
    address=() pid=() with=() process=() version=() options=() may_lose=()
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A port of 127.0.0.1 on which nobody listens, below those that connections leave from.
free_port() {
    local port
    while true; do
        port=$((20000 + RANDOM % 10000))
        if ! grep -qi "^ *[0-9]*: [0-9A-F]*:$(printf '%04X' "$port") " /proc/net/tcp; then
            echo "$port"
            return
        fi
    done
}

# launch NAME CPU COMMAND…: starts it with its output in a log.
launch() {
    local name=$1 cpu=$2
    shift 2
    : >"$logs/$name.log"
    on_cpu "$cpu" "$@" >>"$logs/$name.log" 2>&1 &
    process[$name]=$! pid[$name]=$!
}

# Waits until `command` succeeds while the server lives.
await() {
    local name=$1
    shift
    for _ in {1..100}; do
        if "$@" 2>/dev/null; then return; fi
        if ! kill -0 "${process[$name]}" 2>/dev/null; then break; fi
        sleep 0.1
    done
    echo "$name did not start:" >&2
    tail -n 5 "$logs/$name.log" >&2
    unset "process[$name]" "pid[$name]"
    return 1
}

# Whether the log says where it listens, in the words of this expression.
says_address() {
    address[$1]=$(sed -nE "s/$2/\1/p" "$logs/$1.log" | head -n 1)
    [[ -n ${address[$1]} ]]
}

answers() {
    (exec 3<>"/dev/tcp/${address[$1]%:*}/${address[$1]##*:}")
}

start_printing() {
    local name=$1
    launch "$name" "$server_cpu" "${@:2}" && await "$name" says_address "$name" '^listening on (.*)'
}

# start_filled NAME UPSTREAM TEMPLATE COMMAND…: with the template filled in; @CONFIG@ and @FOLDER@ stand in the command.
start_filled() {
    local name=$1 upstream=$2 template=$3 folder=$logs/$1 port words
    shift 3
    for _ in 1 2 3; do
        port=$(free_port)
        # Where nchan's module insists on making a folder.
        mkdir -p "$folder/var/lib/nginx"
        sed "s|@FOLDER@|$folder|; s|@PORT@|$port|; s|@UPSTREAM@|$upstream|; s|@MODULES@|$rivals/nchan/usr/lib/nginx/modules|" \
            "loadtest/rivals/$template" >"$folder/$template"
        words=("${@//@CONFIG@/$folder/$template}")
        words=("${words[@]//@FOLDER@/$folder}")
        address[$name]=127.0.0.1:$port
        launch "$name" "$server_cpu" "${words[@]}"
        if await "$name" answers "$name"; then return; fi
    done
    return 1
}

# The worker is what counts, not who supervises it.
count_worker() {
    pid[$1]=$(pgrep -P "${process[$1]}" | head -n 1)
}

# start_moongate NAME SHARDS [SETTING=VALUE…]
start_moongate() {
    local name=$1 shards=$2 cpu=$server_cpu
    shift 2
    if ((shards > 1)); then cpu=$cpus; fi
    launch "$name" "$cpu" env MOONGATE_LISTEN=127.0.0.1:0 MOONGATE_CONTROL=127.0.0.1:0 MOONGATE_LOG_FORMAT=text \
        MOONGATE_SHARDS="$shards" "$@" "$moongate_bin" run
    await "$name" says_address "$name" '.* ready listen=([^ ,]+).*' || return
    control=$(sed -nE 's/.* control=([^ ,]+).*/\1/p' "$logs/$name.log" | tail -n 1)
    version[$name]=$("$moongate_bin" --version 2>/dev/null | awk '{print $NF}')
}

# takes_part NAME PID: this process takes part beside the server.
takes_part() {
    with[$1]=${with[$1]:+${with[$1]}, }$2
}

# start_upstream NAME: the echo server that the tunnel of this name leads to, one for all; on the tool's CPU, because it is no
# part of what is measured.
start_upstream() {
    if [[ -z ${process[upstream]:-} ]]; then
        launch upstream "$client_cpu" "$floor_bin"
        await upstream says_address upstream '^listening on (.*)' || return
    fi
    takes_part "$1" "${pid[upstream]}"
}

# keep_busy NAME: what runs on the tool's CPU whenever the tool does not, so that this CPU is never idle while NAME is measured.
# CPUs that share a core slow each other down: a tool with more to do would make the server's own time look longer.
keep_busy() {
    if [[ -z ${process[busy]:-} ]]; then
        launch busy "$client_cpu" chrt --idle 0 sh -c 'while :; do :; done'
    fi
    takes_part "$1" "${pid[busy]}"
}

# start NAME [SETTING=VALUE…]: settings are for the gateway alone.
start() {
    local name=$1
    shift
    case $name in
    moongate) start_moongate moongate 1 "$@" ;;
    moongate-2) start_moongate moongate-2 2 "$@" ;;
    moongate-without-history) start_moongate moongate-without-history 1 MOONGATE_HISTORY_MESSAGES=0 "$@" ;;
    moongate-uring | moongate-tokio-uring | moongate-epoll)
        start_moongate "$name" 1 MOONGATE_DRIVER="${name#moongate-}" "$@"
        ;;
    moongate-tunnel)
        start_upstream moongate-tunnel &&
            start_moongate moongate-tunnel 1 MOONGATE_ROUTES="/* tunnel ${address[upstream]}" "$@"
        ;;
    floor) start_printing floor "$floor_bin" ;;
    floor-2)
        launch floor-2 "$cpus" "$floor_bin" --threads 2
        await floor-2 says_address floor-2 '^listening on (.*)'
        ;;
    fastwebsockets | tungstenite) start_printing "$name" "$rivals/release/rival-$name" ;;
    tungstenite-as-it-comes) start_printing "$name" "$rivals/release/rival-tungstenite" --as-it-comes ;;
    ws) start_printing ws "$rivals/node" loadtest/rivals/ws-server.mjs ;;
    nchan)
        start_filled nchan - nchan.conf "$rivals/nchan/run" -c @CONFIG@ -p @FOLDER@ && count_worker nchan
        version[nchan]=1.3.6
        ;;
    nats)
        start_filled nats - nats-server.conf env GOMAXPROCS=1 "$rivals/nats/run" -c @CONFIG@
        version[nats]=$("$rivals/nats/run" --version | awk '{print $2}')
        options[nats]='--dialect nats'
        ;;
    nginx)
        start_upstream nginx &&
            start_filled nginx "${address[upstream]}" nginx.conf "$rivals/nginx/run" -c @CONFIG@ -p @FOLDER@ &&
            count_worker nginx
        ;;
    haproxy)
        start_upstream haproxy &&
            start_filled haproxy "${address[upstream]}" haproxy.cfg "$rivals/haproxy/run" -db -f @CONFIG@
        ;;
    *)
        echo "there is no server called $name" >&2
        return 1
        ;;
    esac
}

# variant NAME SERVER [OPTIONS]: the lines of a plan about a server that was started.
variant() {
    local server=$2 extra="${options[$2]:-} ${3:-}"
    printf '\n[[variant]]\nname = "%s"\naddress = "%s"\npid = %s\n' "$1" "${address[$server]}" "${pid[$server]}"
    if [[ -n ${with[$server]:-} ]]; then printf 'with = [%s]\n' "${with[$server]}"; fi
    if [[ -n ${version[$server]:-} ]]; then printf 'version = "%s"\n' "${version[$server]}"; fi
    if [[ -n ${extra// /} ]]; then printf 'options = "%s"\n' "$extra"; fi
    if [[ -n ${may_lose[$server]:-} ]]; then printf 'may-lose = true\n'; fi
}

# metric NAME: a counter of the gateway that was started last, all shards together.
metric() {
    exec 3<>"/dev/tcp/${control%:*}/${control##*:}"
    printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    awk -v name="$1" 'index($1, name) == 1 && substr($1, length(name) + 1) ~ /^({.*)?$/ {sum += $2} END {printf "%.0f\n", sum}' <&3
    exec 3>&-
}
