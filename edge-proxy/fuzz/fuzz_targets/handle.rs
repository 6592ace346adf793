//! No text that no edge sealed opens as a handle of any kind, and none makes the edge fail.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/pipeline/fuzz/handle.rs"]
mod target;

fuzz_target!(|text: &str| target::check(text));
