//! No bytes make the reader of the copy on disk fail. What is fuzzed is the text inside the encryption: a file that
//! anybody changed does not get as far.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/pipeline/fuzz/snapshot_file.rs"]
mod target;

fuzz_target!(|source: &[u8]| target::check(source));
