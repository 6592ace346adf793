//! No body under the label of events makes its reader fail, however it is cut: the same comes of it, nothing is larger than the limit,
//! and of JSON texts no byte is lost.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/event_reader.rs"]
mod target;

fuzz_target!(|input: (u8, Vec<u8>)| target::check(input));
