//! No endpoint event makes us post anywhere but to the origin of its stream.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/endpoint.rs"]
mod target;

fuzz_target!(|data: &[u8]| target::check(data));
