//! The checks of the fuzz targets in `fuzz/`, each tried here on noise and on what is nearly right.

mod handle;
mod snapshot_file;
mod token;
mod websocket;

use proptest::collection::vec;
use proptest::prelude::*;

fn noise() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..64)
}

/// An image of a snapshot whose lengths and kinds are small, and mostly wrong.
fn image() -> impl Strategy<Value = Vec<u8>> {
    (any::<[u8; 16]>(), vec(0_u8..4, 0..64)).prop_map(|(head, records)| [head.to_vec(), records].concat())
}

/// A masked frame, as a client sends one.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let first =
        prop_oneof![Just(0x81_u8), Just(0x01), Just(0x80), Just(0x82), Just(0x88), Just(0x89), any::<u8>()];
    let text = prop_oneof![Just(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_owned()), "[ -~]{0,40}"];
    (first, any::<[u8; 4]>(), text).prop_map(|(first, mask, text)| {
        let masked = text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let head = [first, 0x80 | u8::try_from(text.len()).unwrap()];
        head.into_iter().chain(mask).chain(masked).collect()
    })
}

proptest! {
    #[test]
    fn handles(text in prop_oneof![".{0,40}", "[A-Za-z0-9_-]{0,200}"]) {
        handle::check(&text);
    }

    #[test]
    fn snapshot_files(source in prop_oneof![noise(), image()]) {
        snapshot_file::check(&source);
    }

    #[test]
    fn tokens(text in prop_oneof![
        ".{0,40}",
        // The header is `{"typ":"JWT","alg":"ES256","kid":"k"}`.
        "Bearer (eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ|[A-Za-z0-9_-]{0,50})\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,90}",
    ]) {
        token::check(&text);
    }

    #[test]
    fn websockets(frames in prop_oneof![noise(), vec(frame(), 0..4).prop_map(|frames| frames.concat())]) {
        websocket::check(&frames);
    }
}
