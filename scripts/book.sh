#!/usr/bin/env bash
# Builds the book of docs/ into .slated/book, checks that every link in it leads to a page or a heading of it, and prints its first
# page's path. What is in the book, and that its commands run, is for tests/documentation to say.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

python=$(scripts/python.sh book)
"$(dirname "$python")/mdbook" build >&2
"$python" scripts/book-links.py .slated/book
printf '%s\n' "$ROOT/.slated/book/index.html"
