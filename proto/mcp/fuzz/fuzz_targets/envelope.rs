//! No bytes make the reader of messages fail, and what it lets through is JSON to others as well.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/envelope.rs"]
mod target;

fuzz_target!(|source: &[u8]| target::check(source));
