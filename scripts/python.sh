#!/usr/bin/env bash
# Makes a Python environment and prints its interpreter's path: without an argument that of the tests and benchmarks
# (python-requirements.txt), with a NAME another (python-requirements-NAME.txt).
# Nothing that ships needs them: they hold the readers and peers that slated's files and numbers are held against.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

name=python${1:+-$1}
REQUIREMENTS=$ROOT/scripts/python-requirements${1:+-$1}.txt
[ -f "$REQUIREMENTS" ] || die "there is no $REQUIREMENTS"

mkdir -p "$CARGO_TARGET_DIR"
# Absolute, because tests run in their own package's folder.
venv=$(cd "$CARGO_TARGET_DIR" && pwd)/$name

# The copy is written last, so an environment that was cut short counts as none.
is_complete() {
    cmp -s "$REQUIREMENTS" "$venv/requirements.txt" && [ -x "$venv/bin/python" ]
}

if ! is_complete && command -v flock >/dev/null; then
    # An environment cannot be built elsewhere and moved, because it holds its own path; so builds wait for each other.
    exec 9>"$venv.lock"
    flock 9
fi

if ! is_complete; then
    base=$(first_python 'import sys; assert (3, 11) <= sys.version_info < (3, 15)') ||
        die "Python 3.11, 3.12, 3.13 or 3.14 is needed${PYTHON:+, and $PYTHON is none of them}; name one in PYTHON"
    say "making $venv with $("$base" --version)"
    rm -rf "$venv"
    "$base" -m venv "$venv" >&2 ||
        die "$base cannot make a virtual environment; on Debian: apt-get install python3-venv"
    # Without dependencies, because the file names them, and leaves out those of parts that are not used.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --only-binary=:all: --no-deps \
        --requirement "$REQUIREMENTS" >&2 ||
        die "cannot install $REQUIREMENTS: pip says why above; without the network, name a mirror in PIP_INDEX_URL"
    cp "$REQUIREMENTS" "$venv/requirements.txt"
fi

printf '%s\n' "$venv/bin/python"
