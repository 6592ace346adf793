#!/bin/sh
# Installs what is missing, and nothing twice. Parts:
#   build     a C compiler, rustfmt and clippy
#   tools     Python and npm packages, pinned, in .tools/ (git-ignored)
#   services  PostgreSQL and Redis, for private instances that the tests start themselves
#   bench     nginx, the hop that `make bench` compares with
#   conformance  the public MCP conformance suite, pinned, and the Node that it needs, in .tools/conformance/
set -eu
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }

# apt NAME…: installs Debian packages, as root or through sudo.
updated=
apt() {
    say "installing $*"
    as=
    [ "$(id -u)" = 0 ] || as=sudo
    if [ -z "$updated" ]; then
        $as apt-get update -qq >&2
        updated=yes
    fi
    # Not started as services: the tests run their own, on free ports.
    $as env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@" >&2
}

has() { command -v "$1" >/dev/null 2>&1; }

build() {
    has cc || apt build-essential
    has make || apt make
    if has rustup; then
        cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
        cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
    fi
}

services() {
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || has initdb || apt postgresql
    has redis-server || apt redis-server
    has git || apt git
    has zsh || apt zsh
    has fish || apt fish
}

bench() {
    has nginx || [ -x /usr/sbin/nginx ] || apt nginx-light
}

tools() {
    ln -sfn ../.tools/node/node_modules tests/node_modules # where an ES module looks for packages
    stamp=.tools/stamp
    want=$(cat tests/clients/requirements.txt tests/clients/package-lock.json | sha256sum)
    [ "$(cat $stamp 2>/dev/null)" = "$want" ] && return 0
    has python3 || apt python3 python3-venv
    has node || apt nodejs npm
    python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null || apt python3-venv
    say "installing Python packages"
    mkdir -p .tools/bin
    python3 -m venv --clear .tools/python
    .tools/python/bin/pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
    say "installing npm packages"
    # Not `npm ci`: it refuses a lock file that leaves out the optional packages of other platforms.
    mkdir -p .tools/node
    cp tests/clients/package.json tests/clients/package-lock.json .tools/node/
    (cd .tools/node && npm install --no-save --no-audit --no-fund --loglevel=error --ignore-scripts >&2)
    ln -sf ../node/node_modules/.bin/buf .tools/bin/buf
    echo "$want" >$stamp
}

conformance() {
    has python3 || apt python3
    has npm || apt nodejs npm
    stamp=.tools/conformance/stamp
    want=$(cat tests/conformance/package-lock.json | sha256sum)
    [ "$(cat $stamp 2>/dev/null)" = "$want" ] && return 0
    say "installing the conformance suite"
    mkdir -p .tools/conformance
    cp tests/conformance/package.json tests/conformance/package-lock.json .tools/conformance/
    (cd .tools/conformance && npm install --no-save --no-audit --no-fund --loglevel=error --ignore-scripts >&2)
    echo "$want" >$stamp
}

for part in "$@"; do
    case $part in
    build | tools | services | bench | conformance) "$part" ;;
    *) say "unknown part: $part" && exit 2 ;;
    esac
done
