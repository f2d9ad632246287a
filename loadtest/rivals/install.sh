#!/usr/bin/env bash
# Brings the servers that Moongate is compared with into target/rivals; nothing outside of target/ changes.
#
#   loadtest/rivals/install.sh [nchan] [nginx] [haproxy] [nats] [ws] [rust]
#
# Without names it brings all. nginx, nchan, HAProxy and nats-server are Debian's packages, unpacked and not installed, so
# that none becomes a service of the machine; ws comes from npm, and needs node and npm; rust builds the two servers of
# this directory. What is there already is left as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

case "${1:-}" in
-h | --help)
    sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' loadtest/rivals/install.sh
    exit 0
    ;;
esac

rivals=$PWD/target/rivals
mkdir -p "$rivals"
as_root=()
if ((EUID != 0)); then as_root=(sudo); fi

# The packages named and whatever they need that the machine does not have.
download() {
    local folder=$1 packages
    shift
    packages=$(apt-get install --simulate --no-install-recommends "$@" 2>/dev/null | awk '/^Inst/ {print $2}') || return
    # What the machine has installed is fetched all the same: it is to be unpacked here.
    packages=$(printf '%s\n' "$@" "$packages" | sort -u)
    # shellcheck disable=SC2086 # One word for each package.
    (cd "$folder" && apt-get download -qq -o APT::Sandbox::User="$(id -un)" $packages)
}

# unpack FOLDER PROGRAM PACKAGE…: target/rivals/FOLDER/run starts PROGRAM with the libraries that came with it.
unpack() {
    local name=$1 program=$2 folder=$rivals/$1
    shift 2
    if [[ -x $folder/run ]]; then return; fi
    echo "unpacking: $*"
    rm -rf "$folder" "$folder.new"
    mkdir -p "$folder.new"
    download "$folder.new" "$@" || { "${as_root[@]}" apt-get update -qq && download "$folder.new" "$@"; } || {
        echo "$name: apt has no package for it; the comparison goes on without" >&2
        rm -rf "$folder.new"
        return
    }
    for package in "$folder.new"/*.deb; do
        dpkg-deb --extract "$package" "$folder.new"
        rm "$package"
    done
    cat >"$folder.new/run" <<WRAPPER
#!/bin/sh
here=\$(dirname "\$0")
LD_LIBRARY_PATH=\$(echo "\$here"/usr/lib/*-linux-gnu) exec "\$here/$program" "\$@"
WRAPPER
    chmod +x "$folder.new/run"
    mv "$folder.new" "$folder"
}

# A Node of the machine's, or the one that the end-to-end tests brought.
bring_ws() {
    local node npm=() brought=target/test-env/bin
    if command -v node npm >/dev/null; then
        node=$(command -v node)
        npm=(npm)
    elif [[ -x $brought/node ]]; then
        node=$(readlink -f $brought/node)
        npm=("$node" "$(dirname "$node")/../lib/node_modules/npm/bin/npm-cli.js")
    else
        echo "ws: there is no node with npm; the comparison goes on without" >&2
        return
    fi
    ln -sfn "$node" "$rivals/node"
    if [[ -d $rivals/npm/node_modules/ws ]]; then return; fi
    echo "bringing: ws"
    "${npm[@]}" install --prefix "$rivals/npm" --silent --no-save --no-package-lock --no-audit --no-fund \
        --ignore-scripts ws@8.23.0
}

bring() {
    case $1 in
    nchan)
        unpack nchan usr/sbin/nginx nginx libnginx-mod-nchan || return
        # The module makes a folder in /var/lib whatever the configuration says. A name as long, but relative to the
        # folder that the server is started for, is as good.
        sed -i 's|/var/lib/nginx/|var/lib/nginx//|g' "$rivals"/nchan/usr/lib/nginx/modules/ngx_nchan_module.so
        ;;
    nginx) unpack nginx usr/sbin/nginx nginx ;;
    haproxy) unpack haproxy usr/sbin/haproxy haproxy ;;
    nats) unpack nats usr/sbin/nats-server nats-server ;;
    ws) bring_ws ;;
    rust) (cd loadtest/rivals && cargo build --quiet --release) ;;
    *)
        echo "$1: no rival of that name; see --help" >&2
        exit 2
        ;;
    esac
}

if (($# == 0)); then set -- nchan nginx haproxy nats ws rust; fi
for rival in "$@"; do bring "$rival"; done
