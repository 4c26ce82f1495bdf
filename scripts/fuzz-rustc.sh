#!/usr/bin/env bash
# Compiles this project's own crates so that libFuzzer sees which branches an input reaches: RUSTC_WORKSPACE_WRAPPER of
# scripts/fuzz.sh. The dependencies stay as they are, and need not be compiled again.
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
