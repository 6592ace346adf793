//! `splice` against the naive way: edits from the back, one by one.

use bytes::Bytes;
use mcp::message::{Envelope, span};
use mcp::splice::Splice;
use proptest::prelude::*;

#[test]
fn a_renamed_call_keeps_every_other_byte() {
    let source =
        br#"{"jsonrpc":"2.0","id":1, "method":"tools/call","params":{"name":"up_echo","big":123456789012345678901}}"#;
    let envelope = Envelope::parse(source).unwrap();
    let [name] = mcp::json::members(envelope.params.unwrap(), ["name"]).unwrap();
    let out = Splice::new()
        .replace(span(source, name.unwrap()), "\"echo\"")
        .replace(span(source, envelope.id.unwrap()), String::from("\"e1-7\""))
        .apply(source);
    let expected =
        br#"{"jsonrpc":"2.0","id":"e1-7", "method":"tools/call","params":{"name":"echo","big":123456789012345678901}}"#;
    assert_eq!(out, Bytes::from_static(expected));
}

#[test]
#[should_panic(expected = "slice index starts at 2 but ends at 1")]
fn overlapping_edits_panic() {
    let _out = Splice::new().replace(0..2, "x").replace(1..3, "y").apply(b"abcd");
}

type Edit = (std::ops::Range<usize>, Vec<u8>);

/// Cut points and pieces, as sorted edits that do not overlap.
fn edits() -> impl Strategy<Value = (Vec<u8>, Vec<Edit>)> {
    let source = prop::collection::vec(any::<u8>(), 0..60);
    let cuts =
        prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..5)), 0..6);
    (source, cuts).prop_map(|(source, cuts)| {
        let (mut points, mut pieces): (Vec<usize>, Vec<Vec<u8>>) =
            cuts.into_iter().map(|(at, piece)| (at.index(source.len() + 1), piece)).unzip();
        points.sort_unstable();
        pieces.truncate(points.len() / 2);
        let ranges = points.chunks_exact(2).map(|pair| pair[0]..pair[1]);
        let edits = ranges.zip(pieces).collect();
        (source, edits)
    })
}

proptest! {
    #[test]
    fn edits_equal_the_naive_model((source, edits) in edits(), backwards in any::<bool>()) {
        let mut expected = source.clone();
        for (range, piece) in edits.iter().rev() {
            expected.splice(range.clone(), piece.iter().copied());
        }
        let distinct = edits.windows(2).all(|pair| pair[0].0 != pair[1].0);
        let mut order: Vec<_> = edits.iter().collect();
        if backwards && distinct {
            order.reverse();
        }
        let splice = order.into_iter().fold(Splice::new(), |splice, (range, piece)| splice.replace(range.clone(), &piece[..]));
        prop_assert_eq!(splice.length(source.len()), expected.len());
        prop_assert_eq!(&splice.apply(&source)[..], &expected[..]);
    }
}
