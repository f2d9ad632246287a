# What the scripts of this directory share. To be sourced, not run.

cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# With --help as its argument: prints the script's own head and ends.
help_or_build() {
    case "${1:-}" in
    -h | --help)
        sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "loadtest/scripts/$(basename "$0")"
        exit 0
        ;;
    esac
    if [[ -z "${MOONGATE_BIN:-}" || -z "${MOONGATE_LOAD_BIN:-}" ]]; then
        cargo build --quiet --release -p moongate -p moongate-load
    fi
}

# Runs the tool against a gateway of its own, so that no run inherits memory or topics from the one before.
load() {
    loadtest/scripts/with-gateway "${MOONGATE_LOAD_BIN:-target/release/moongate-load}" "$@"
}
