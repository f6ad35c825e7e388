# Sourced by the scripts: which real parts this machine has. One line each, so that a skipped test surprises nobody.
# shellcheck shell=bash

can_build_p2p() {
    command -v cc >/dev/null && echo '#include <gmp.h>' | cc -E -x c - >/dev/null 2>&1
}

find_kubo() {
    local candidate
    for candidate in "${BACALHAU_KUBO:-}" "$(command -v ipfs || true)" "$project/../shared/tools/kubo/ipfs"; do
        if [ -n "$candidate" ] && [ -x "$candidate" ]; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

_part() {
    local name="$1" absent="$2"
    shift 2
    if "$@" >/dev/null 2>&1; then
        echo "$name: here"
    else
        echo "$name: missing ($absent)"
    fi
}

_engine_answers() { command -v docker && timeout 10 docker version; }
_registry_answers() { (exec 3<>"/dev/tcp/127.0.0.1/5000"); }
_can_build_wasm() { clang --print-targets | grep -q wasm32 && command -v wasm-ld && [ -d /usr/include/wasm32-wasi ]; }
_has_clients() { command -v node && command -v npm; }

name_parts() {
    _part docker "no Docker engine answers; scripts/parts start" _engine_answers
    _part registry "nothing listens on 127.0.0.1:5000; scripts/parts start" _registry_answers
    _part kubo "no ipfs command; set BACALHAU_KUBO to its path" find_kubo
    _part grpcurl "no grpcurl command" command -v grpcurl
    _part go "no go command" command -v go
    _part node "no node and npm commands" _has_clients
    _part wasi-libc "Debian: apt-get install clang lld wasi-libc libclang-rt-dev-wasm32" _can_build_wasm
}
