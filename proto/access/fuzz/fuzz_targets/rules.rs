//! No text makes the reader of a rule fail, and no arguments make a rule fail.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/access/fuzz/rules.rs"]
mod target;

fuzz_target!(|input: (&str, &[u8])| target::check(input.0, input.1));
