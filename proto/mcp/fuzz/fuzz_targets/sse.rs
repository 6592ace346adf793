//! No bytes make the decoder of events fail, however they are cut; what it holds stays within its limit.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/sse.rs"]
mod target;

fuzz_target!(|input: (u8, Vec<u8>)| target::check(input));
