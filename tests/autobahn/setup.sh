#!/usr/bin/env bash
# Puts the Autobahn WebSocket test suite into a folder, so that FOLDER/wstest runs it.
# usage: setup.sh [FOLDER]; the default is target/autobahn. Quick when everything is there already.
#
# The suite needs Python 2.7, which Debian last had in 11 (bullseye). Its packages come from the mirror that this machine's
# own apt uses, are checked against Debian's keys, and are only unpacked into the folder. Nothing is installed on the system
# but, when missing, a C compiler and python3-venv.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(realpath -m "${1:-$here/../../target/autobahn}")
stamp=$folder/installed
log=$folder.log

mkdir -p "$(dirname "$folder")"
# Whoever comes second finds it done.
exec 9>"$folder.lock"
flock 9
# The folder's own name stands in what is installed.
wanted=$({ echo "$folder"; cat "$here/setup.sh" "$here/requirements.txt"; } | sha256sum)
if [[ "$(cat "$stamp" 2>/dev/null)" == "$wanted" ]]; then
    exit 0
fi

echo "putting the Autobahn suite into $folder; the log is $log"
: >"$log"
trap 'code=$?; if ((code)); then tail -n 30 "$log" >&2; echo "the Autobahn suite could not be set up: see $log" >&2; fi' EXIT

packages=()
command -v gcc >/dev/null || packages+=(gcc)
[[ -e /usr/include/stdio.h ]] || packages+=(libc6-dev)
python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
if ((${#packages[@]})); then
    as_root=()
    if ((EUID != 0)); then as_root=(sudo); fi
    echo "installing: ${packages[*]}"
    "${as_root[@]}" apt-get update -qq >>"$log" 2>&1
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >>"$log" 2>&1
fi

rm -rf "$folder"
mkdir -p "$folder"/{apt/lists/partial,apt/cache/archives/partial,packages,root,site}
cd "$folder"

# The mirrors of this Debian, wherever its sources stand and in whichever format: apt itself says where it would look.
# Before apt is told to use the folder instead.
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirrors=$(apt-get --print-uris update -o Dir::State::lists="$folder/apt/lists" |
    sed -n "s#^'\(.*\)/dists/$codename/InRelease'.*#\1#p" | sort -u)

# An apt of the folder's own: other sources, no knowledge of what the system has.
touch apt/status
cat >apt/apt.conf <<C
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$folder/apt/lists";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt/cache";
APT::Sandbox::User "";
C
export APT_CONFIG=$folder/apt/apt.conf

# Not every source of a codename is Debian: the first that has a bullseye with Debian's signature is.
# It changes no more, so how old its index is says nothing.
found=
for mirror in $mirrors; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no] $mirror bullseye main" >apt/sources.list
    if apt-get update -qq --error-on=any >>"$log" 2>&1; then
        found=$mirror
        break
    fi
done
if [[ -z $found ]]; then
    echo "no apt source of this machine has Debian 11 (bullseye); tried:" ${mirrors:-none} >>"$log"
    exit 1
fi
(
    cd packages
    apt-get download -qq python2.7 python2.7-minimal libpython2.7-minimal libpython2.7-stdlib libpython2.7 \
        libpython2.7-dev python2.7-dev libffi7 libssl1.1 libtinfo6 libncursesw6
) >>"$log" 2>&1
for package in packages/*.deb; do
    dpkg -x "$package" root
done

# The last pip that runs on Python 2.7 is a zip file it can run; only a pip of today is sure to find it.
python3 -m venv python3
python3/bin/pip download -q --disable-pip-version-check --no-deps -d packages pip==20.3.4 setuptools==44.1.1 wheel==0.37.1 >>"$log" 2>&1
for wheel in packages/setuptools*.whl packages/wheel*.whl; do
    python3 -m zipfile -e "$wheel" site
done
triple=$(gcc -print-multiarch)
export LD_LIBRARY_PATH=$folder/root/usr/lib/$triple:$folder/root/lib/$triple
export C_INCLUDE_PATH=$folder/root/usr/include/python2.7:$folder/root/usr/include
env PYTHONPATH="$folder/packages/pip-20.3.4-py2.py3-none-any.whl:$folder/site" "$folder/root/usr/bin/python2.7" \
    -m pip install --no-deps --no-build-isolation --target "$folder/site" -r "$here/requirements.txt" >>"$log" 2>&1
touch site/zope/__init__.py

cat >wstest <<C
#!/bin/sh
export LD_LIBRARY_PATH='$LD_LIBRARY_PATH' PYTHONPATH='$folder/site' PYTHONWARNINGS=ignore
exec '$folder/root/usr/bin/python2.7' -m autobahntestsuite.wstest "\$@"
C
chmod +x wstest
./wstest -a >>"$log" 2>&1
rm -rf apt packages python3
echo "$wanted" >"$stamp"
