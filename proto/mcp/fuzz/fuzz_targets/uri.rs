//! No URI that is taken for canonical leads out of what its template says first, decoded or not, for whoever resolves it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wire/fuzz/uri.rs"]
mod target;

fuzz_target!(|texts: (&str, &str)| target::check(texts));
