#!/usr/bin/env bash
# Checks what deploys slated with each format's own rules: manifests against Kubernetes' schemas, the compose file against the
# compose specification and for what is dangerous in it, queries with PromQL's grammar, units with systemd's own analyser.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

python=$(scripts/python.sh deploy)
"$python" scripts/lint-deploy.py
said=$("$(dirname "$python")/compose-lint" deploy/compose/compose.yaml 2>&1) || die "$said"

if ! command -v systemd-analyze >/dev/null; then
    say "the units were not checked: there is no systemd-analyze here"
    exit
fi

# In a folder that looks like the installed system, because a unit whose program is absent is an error.
system=$(mktemp -d)
trap 'rm -rf "$system"' EXIT
mkdir -p "$system/usr/bin" "$system/etc/systemd/system"
printf '#!/bin/sh\n' >"$system/usr/bin/slated"
chmod +x "$system/usr/bin/slated"
cp deploy/systemd/*.service "$system/etc/systemd/system/"
# Targets of the system itself, which are not in that folder.
for target in network-online sysinit basic shutdown multi-user; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$target" >"$system/etc/systemd/system/$target.target"
done
for unit in "$system"/etc/systemd/system/*.service; do
    said=$(systemd-analyze --root "$system" verify "$(basename "$unit")" 2>&1) || die "$(basename "$unit"): $said"
    [ -z "$said" ] || die "$(basename "$unit"): $said"
    # 0 is locked up, 10 is open; systemd calls what is below 5 a medium exposure.
    systemd-analyze security --offline=true --threshold=20 --no-pager "$unit" >/dev/null ||
        die "$(basename "$unit") is exposed more than 2.0: systemd-analyze security --offline=true $unit says by what"
done
say "all of deploy/ keeps the rules of its formats"
