//! No definition makes the fitting fail; what is listed is JSON to others, and fits.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/entry.rs"]
mod target;

fuzz_target!(|definition: &str| target::check(definition));
