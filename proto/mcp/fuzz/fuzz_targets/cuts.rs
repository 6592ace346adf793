//! No text makes the cutting of values fail: what is JSON stays so, nothing is there any more that was to be taken away, and what was to
//! stay is as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/cuts.rs"]
mod target;

fuzz_target!(|input: (u8, Vec<u8>)| target::check(input));
