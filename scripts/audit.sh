#!/usr/bin/env bash
# Checks the dependency tree against deny.toml: licences, banned and duplicate crates, sources.
#
# Advisories are left out because their database is a git repository that not every build machine reaches;
# where it is reachable: `cargo deny check advisories`.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

VERSION=0.20.2
tools=$CARGO_TARGET_DIR/tools

if [ "$("$tools/bin/cargo-deny" --version 2>/dev/null)" != "cargo-deny $VERSION" ]; then
    say "building cargo-deny $VERSION, once"
    # Light optimisation builds in half the time and still checks in a second. In a folder of its own, because cargo
    # locks a target folder as a whole.
    CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$tools/build \
        cargo install --quiet --debug --locked --force --root "$tools" --version "$VERSION" cargo-deny
    rm -rf "$tools/build"
fi

# Offline below means that every platform's crates must be here, not only those that this machine compiled.
cargo fetch --locked
"$tools/bin/cargo-deny" --offline --locked check --hide-inclusion-graph bans licenses sources
