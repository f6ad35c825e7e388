# Sourced by the scripts: the project's virtual environment in .venv, made from the lock files of requirements/.
# `ensure_venv runtime` gives what the node needs, `ensure_venv test` what the tests and checks need as well.
# Either leaves a working `.venv/bin/bacalhau` that runs this checkout.
# shellcheck shell=bash

project="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"

# Prints a Python that is new enough and can make virtual environments, or says in one line what is missing.
find_python() {
    local candidate found=""
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        candidate="$(command -v "$candidate" || true)"
        [ -n "$candidate" ] || continue
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        found="$candidate"
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    if [ -n "$found" ]; then
        echo "$found has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv)" >&2
    else
        echo "Python 3.11 or newer is needed and was not found: install it, then run this again" >&2
    fi
    return 1
}

# The hash changes with the lock and with the interpreter: either makes an installation stale.
_stamp_of() {
    "$project/.venv/bin/python" - "$project/requirements/$1.txt" <<'PYTHON'
import hashlib
import pathlib
import sys

print(hashlib.sha256(sys.version.encode() + pathlib.Path(sys.argv[1]).read_bytes()).hexdigest())
PYTHON
}

_is_installed() {
    [ -f "$project/.venv/.installed-$1" ] && [ "$(cat "$project/.venv/.installed-$1")" = "$(_stamp_of "$1")" ]
}

# install_lock NAME: installs requirements/NAME.txt, by hash, unless this very lock is in place already.
install_lock() {
    _is_installed "$1" && return 0
    local started=$SECONDS
    echo "installing requirements/$1.txt into .venv ..." >&2
    "$project/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        --require-hashes --no-deps -r "$project/requirements/$1.txt" || return 1
    _stamp_of "$1" >"$project/.venv/.installed-$1"
    echo "installed in $((SECONDS - started)) s" >&2
}

# Puts the checkout itself on the environment's path: as an editable installation does, without a build.
_link_checkout() {
    local packages
    packages="$("$project/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    echo "$project" >"$packages/bacalhau-checkout.pth"
    cat >"$project/.venv/bin/bacalhau.new" <<WRAPPER
#!/bin/sh
'''exec' "$project/.venv/bin/python" "\$0" "\$@"
'''
import sys
from bacalhau.cli.main import main
sys.exit(main())
WRAPPER
    chmod +x "$project/.venv/bin/bacalhau.new"
    mv "$project/.venv/bin/bacalhau.new" "$project/.venv/bin/bacalhau"
}

_make_venv() {
    local python
    # An interpreter that has gone since leaves an environment that cannot run.
    if ! "$project/.venv/bin/python" -c '' 2>/dev/null; then
        python="$(find_python)" || return 1
        rm -rf "$project/.venv"
        "$python" -m venv "$project/.venv" || return 1
    fi
    # The test lock is a superset with the same pins, so it serves both.
    if [ "$1" != runtime ] || ! _is_installed test; then
        install_lock "$1" || return 1
    fi
    _link_checkout
}

# ensure_venv runtime|test
ensure_venv() {
    # Two scripts at once must not install into one environment; where there is no flock, they are not guarded.
    if command -v flock >/dev/null; then
        (
            flock 9
            _make_venv "$1"
        ) 9>"$project/.venv.lock"
    else
        _make_venv "$1"
    fi
}
