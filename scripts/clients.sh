#!/usr/bin/env bash
# scripts/clients.sh [FOLDER]: makes typed clients of openapi.yaml in FOLDER (clients/ where it is not given): a Python
# package in python/, and types for TypeScript in typescript/slated.ts. docs/clients.md says how to use them.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

folder=${1:-$ROOT/clients}
python=$("$ROOT/scripts/python.sh" api)
packages=$("$ROOT/scripts/npm.sh" clients)
node=$("$ROOT/scripts/node.sh")

mkdir -p "$folder/typescript"
folder=$(cd "$folder" && pwd)

# The generator formats what it wrote with ruff, which lies beside it.
PATH=$(dirname "$python"):$PATH "$python" -m openapi_python_client generate --path "$ROOT/openapi.yaml" \
    --config "$ROOT/scripts/clients-python.yaml" --meta setup --overwrite --fail-on-warning \
    --output-path "$folder/python" >&2 || die "the Python client cannot be made"
"$node" "$packages/node_modules/openapi-typescript/bin/cli.js" "$ROOT/openapi.yaml" \
    --default-non-nullable false --output "$folder/typescript/slated.ts" >&2 || die "the TypeScript types cannot be made"

printf '%s\n' "$folder"
