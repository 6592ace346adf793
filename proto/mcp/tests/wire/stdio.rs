//! `stdio`: lines, however they arrive.

use bytes::Bytes;
use mcp::stdio::{KEPT_START, LineDecoder, LineError, encode};
use proptest::prelude::*;

fn drain(decoder: &mut LineDecoder) -> Vec<Result<Bytes, LineError>> {
    let mut lines = Vec::new();
    while let Some(line) = decoder.next().transpose() {
        lines.push(line);
    }
    lines
}

#[test]
fn lines_lose_their_ends_and_blank_ones_are_skipped() {
    let mut decoder = LineDecoder::new(100);
    decoder.push(Bytes::from_static(b"{}\n\n \r\n{\"a\":1}\r\nhalf"));
    assert_eq!(drain(&mut decoder), [Ok(Bytes::from("{}")), Ok(Bytes::from("{\"a\":1}"))]);
    assert_eq!(decoder.finish(), Some(Bytes::from("half")));
    assert_eq!(decoder.finish(), None);
}

#[test]
fn a_long_line_is_refused_once_and_skipped() {
    let mut decoder = LineDecoder::new(10);
    let mut lines = Vec::new();
    for _ in 0..1000 {
        decoder.push(Bytes::from_static(b"0123456789"));
        lines.extend(drain(&mut decoder));
    }
    decoder.push(Bytes::from_static(b"end\nnext\n01234567890\nlast\n"));
    lines.extend(drain(&mut decoder));
    let long = || Err(LineError::TooLong { limit: 10, start: "0123456789".into() });
    assert_eq!(lines, [long(), Ok("next".into()), long(), Ok("last".into())]);
}

#[test]
fn the_start_of_a_long_line_is_kept() {
    let limit = 10 * KEPT_START;
    let mut decoder = LineDecoder::new(limit);
    let line = format!("{{\"id\":7,\"method\":\"{}", "x".repeat(limit));
    for chunk in line.as_bytes().chunks(1_000) {
        decoder.push(Bytes::copy_from_slice(chunk));
    }
    let Err(LineError::TooLong { start, .. }) = decoder.next() else { panic!("it is too long") };
    assert_eq!(start, line.as_bytes()[..KEPT_START]);
    assert_eq!(mcp::border::ids::id_in_prefix(&start), Some("7"));
}

#[test]
fn messages_become_one_line() {
    assert_eq!(encode(b"{\n  \"a\": 1\r\n}"), &b"{   \"a\": 1  }\n"[..]);
    assert_eq!(encode(b"{}"), &b"{}\n"[..]);
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_lines(
        stream in "([a-z]{0,14}\r?\n){0,9}[a-z]{0,14}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let whole = {
            let mut decoder = LineDecoder::new(10);
            decoder.push(Bytes::from(stream.clone()));
            drain(&mut decoder)
        };
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let mut decoder = LineDecoder::new(10);
        let mut lines = Vec::new();
        for pair in cuts.windows(2) {
            decoder.push(Bytes::copy_from_slice(&stream.as_bytes()[pair[0]..pair[1]]));
            lines.extend(drain(&mut decoder));
        }
        prop_assert_eq!(lines, whole);
    }
}
