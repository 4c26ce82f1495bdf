#!/usr/bin/env bash
# scripts/fuzz.sh TARGET [SECONDS]: fuzzes one target of fuzz/targets.rs with libFuzzer, for ten minutes where no time is
# given. What it finds on the way is kept in .slated/fuzz/TARGET, an input that fails in .slated/fuzz/TARGET-failures.
# It needs a C++ compiler, for libFuzzer itself.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

target=${1:?usage: scripts/fuzz.sh TARGET [SECONDS]}
seeds=$ROOT/fuzz/corpus/$target
[ -d "$seeds" ] || die "there is no $seeds; targets: $(cd "$ROOT/fuzz/corpus" && echo *)"

"$ROOT/scripts/onnxruntime.sh" >/dev/null
cd "$ROOT"
RUSTC_WORKSPACE_WRAPPER=$ROOT/scripts/fuzz-rustc.sh cargo build --workspace --locked --features fuzz --example fuzz

found=$FETCHED/fuzz/$target
mkdir -p "$found" "$found-failures"
SLATED_FUZZ_TARGET=$target exec "$CARGO_TARGET_DIR/debug/examples/fuzz" \
    -max_total_time="${2:-600}" -timeout=60 -rss_limit_mb=8192 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="$found-failures/" "$found" "$seeds"
