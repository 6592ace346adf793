//! No arguments, schema or header make the mirror fail: what it writes it verifies, and what it reads it writes again.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/mirror.rs"]
mod target;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| target::check(input));
