//! The scanner takes the texts that are JSON to others, and no other.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/scan.rs"]
mod target;

fuzz_target!(|source: &[u8]| target::check(source));
