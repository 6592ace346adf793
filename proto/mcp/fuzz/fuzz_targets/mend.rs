//! No bytes make the mender fail; what it makes is a message to us and JSON to others, and what it does not is quoted safely.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/mend.rs"]
mod target;

fuzz_target!(|source: &[u8]| target::check(source));
