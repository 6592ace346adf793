//! No text makes the reader of a condition fail, and what is read is written as what reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/access/fuzz/conditions.rs"]
mod target;

fuzz_target!(|text: &str| target::check(text));
