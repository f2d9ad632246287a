# shellcheck shell=bash
# What the scripts of this directory share. To be sourced, not run.

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

# With --help as its argument: prints the script's own head and ends.
help_or_build() {
    help_only "$@"
    if [[ -z "${MOONGATE_BIN:-}" || -z "${MOONGATE_LOAD_BIN:-}" ]]; then
        cargo build --quiet --release -p moongate -p moongate-load
    fi
}

help_only() {
    case "${1:-}" in
    -h | --help)
        sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "loadtest/scripts/$(basename "$0")"
        exit 0
        ;;
    esac
}

# Where there are two CPUs or more, servers keep to the first that this shell may use and the tool to the last, so that
# neither takes the other's time.
cpus=$(awk '/^Cpus_allowed_list/ {print $2}' /proc/self/status)
server_cpu=${cpus%%[,-]*}
client_cpu=${cpus##*[,-]}

# Runs a command on one CPU, if there is one to spare.
on_cpu() {
    local cpu=$1
    shift
    if [[ $server_cpu == "$client_cpu" ]]; then exec "$@"; fi
    exec taskset -c "$cpu" "$@"
}

# Runs the tool against a gateway of its own, so that no run inherits memory or topics from the one before.
load() {
    loadtest/scripts/with-gateway "${MOONGATE_LOAD_BIN:-target/release/moongate-load}" "$@"
}
