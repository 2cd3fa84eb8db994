#!/bin/sh
# Makes .venv hold what a lock file names, and jobengine itself as an editable install.
#
#   sh tools/venv.sh LOCK STAMP    STAMP is touched last: make comes here only while it is out of date
#
# Needs a Python >= 3.11 with venv, and the package index. Everything installed is checked against
# the hashes of LOCK; the editable build takes its backend from there too.
set -eu
lock=$1
stamp=$2
log=.venv/install.log

say() { printf '%s\n' "$*" >&2; }

# A candidate is run, not only looked up: version managers leave shims of versions that are not on.
is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

choose_python() {
    without_venv=
    for python in python3.14 python3.13 python3.12 python3.11 python3; do
        is_new_enough "$python" || continue
        if "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            printf '%s' "$python"
            return
        fi
        without_venv=${without_venv:-$python}
    done
    if [ -n "$without_venv" ]; then
        version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        say "$without_venv cannot make virtual environments: its venv package is missing."
        say "On Debian and Ubuntu: apt-get install python$version-venv"
    else
        say "jobengine needs Python 3.11 or newer with venv; none of python3.14 to python3.11 and"
        say "python3 is one. On Debian and Ubuntu: apt-get install python3 python3-venv"
    fi
    return 1
}

# One line that moves while pip works; only a terminal gets it, rewritten in place.
follow() {
    [ -t 2 ] || return 0
    total=$(grep -c '^[a-z0-9].*==' "$lock")
    begun_at=$(date +%s)
    while kill -0 "$1" 2>/dev/null; do
        sleep 0.5
        found=$(grep -cE '^(Collecting|Requirement already satisfied:) ' "$log" || true)
        printf '\rInstalling into .venv from %s: %s of at most %s packages, %s s ' \
            "$lock" "$found" "$total" "$(($(date +%s) - begun_at))" >&2
    done
    printf '\n' >&2
}

install() {
    PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
        .venv/bin/python -m pip install --no-input --progress-bar off "$@" >>"$log" 2>&1
}

if ! is_new_enough .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(choose_python)
    rm -rf .venv
    "$python" -m venv .venv
fi

: >"$log"
[ -t 2 ] || say "Installing into .venv from $lock ($(.venv/bin/python --version))"
(install --require-hashes -r "$lock" && install --no-deps --no-build-isolation -e .) &
installer=$!
trap 'kill "$installer" 2>/dev/null || true; exit 130' INT TERM
follow "$installer"
if ! wait "$installer"; then
    tail -n 15 "$log" >&2
    say "The installation failed; all of its output is in $log"
    exit 1
fi
touch "$stamp"
