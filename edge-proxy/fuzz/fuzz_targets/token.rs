//! No text in `Authorization` is believed without a signature, and none makes the edge fail; likewise for session ids.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/pipeline/fuzz/token.rs"]
mod target;

fuzz_target!(|text: &str| target::check(text));
