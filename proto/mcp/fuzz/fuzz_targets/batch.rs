//! No batch is taken apart into more than it holds: the parts lie apart, in order, and are the elements of the array.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/batch.rs"]
mod target;

fuzz_target!(|source: &[u8]| target::check(source));
