//! No message makes the translation of what it mentions fail, it stays a message, nothing but URIs changes, and what is translated there
//! and back is what it was.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/mentions.rs"]
mod target;

fuzz_target!(|input: (u8, Vec<u8>)| target::check(input));
