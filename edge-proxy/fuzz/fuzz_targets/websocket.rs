//! Whatever bytes come after the handshake, what is taken for a message has at most the size that is allowed, and
//! the end comes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/pipeline/fuzz/websocket.rs"]
mod target;

fuzz_target!(|frames: &[u8]| target::check(frames));
