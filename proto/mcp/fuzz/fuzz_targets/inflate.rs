//! No body decompresses to more than its limit, and none makes the inflater fail, however it is cut and labelled.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/inflate.rs"]
mod target;

fuzz_target!(|input: (u8, &[u8])| target::check(input));
