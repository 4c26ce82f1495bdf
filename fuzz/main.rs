//! libFuzzer over one of the targets: `scripts/fuzz.sh TARGET SECONDS`.
#![no_main]

use std::sync::OnceLock;

#[path = "targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<targets::Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let wanted = std::env::var("SLATED_FUZZ_TARGET").unwrap_or_default();
        let found = targets::TARGETS.iter().find(|(name, _)| *name == wanted);
        found.map_or_else(|| panic!("SLATED_FUZZ_TARGET must name a target, and is `{wanted}`"), |(_, target)| *target)
    });
    target(bytes);
});
