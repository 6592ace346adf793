//! No `Location` sends a request to another origin, or off TLS, and what is said of it is safe to print.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/redirect.rs"]
mod target;

fuzz_target!(|location: &[u8]| target::check(location));
