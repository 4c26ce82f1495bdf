#!/usr/bin/env bash
# scripts/npm.sh NAME: installs the npm packages of scripts/npm/NAME/package-lock.json, each with the hash that stands
# there, and prints the folder that holds their node_modules. Nothing that ships needs them.
#
# After a change of scripts/npm/NAME/package.json:
#   npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts
# The lock then names no registry, so that whichever npm is set to use serves.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

name=${1:?usage: scripts/npm.sh NAME}
files=$ROOT/scripts/npm/$name
[ -f "$files/package-lock.json" ] || die "there is no $files/package-lock.json"

node=$("$ROOT/scripts/node.sh")
# Beside node in what node.sh fetches; on PATH where that is.
npm=$(dirname "$node")/npm
[ -x "$npm" ] || npm=$(command -v npm) || die "npm was not found beside $node; install it"

mkdir -p "$CARGO_TARGET_DIR"
folder=$(cd "$CARGO_TARGET_DIR" && pwd)/npm-$name

# The copy is written last, so a folder that was cut short counts as none.
is_complete() { cmp -s "$files/package-lock.json" "$folder/installed"; }

if ! is_complete && command -v flock >/dev/null; then
    exec 9>"$folder.lock"
    flock 9
fi

if ! is_complete; then
    say "installing the npm packages of $name"
    rm -rf "$folder"
    mkdir "$folder"
    cp "$files/package.json" "$files/package-lock.json" "$folder/"
    # None of the packages' own programs is run to install them.
    (cd "$folder" && "$npm" ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >&2) ||
        die "cannot install $files: npm says why above; without the network, name a mirror in npm_config_registry"
    cp "$files/package-lock.json" "$folder/installed"
fi

printf '%s\n' "$folder"
