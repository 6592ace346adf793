use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use mcp::border::body::{Told, coding, label, sniff, tell};
use mcp::border::{Coding, InflateError, Inflater, Media};
use proptest::prelude::*;

#[test]
fn labels() {
    use Media::{Events, Json};
    for (content_type, media) in [
        ("application/json", Some(Json)),
        ("application/json; charset=utf-8", Some(Json)),
        (" Application/JSON ;charset=\"utf-8\"", Some(Json)),
        ("application/json, text/event-stream", Some(Json)),
        ("application/vnd.mcp+json", Some(Json)),
        ("application/problem+JSON; a=b", Some(Json)),
        ("text/json", Some(Json)),
        ("application/json-rpc", Some(Json)),
        ("application/jsonrequest", Some(Json)),
        ("text/event-stream", Some(Events)),
        ("text/event-stream;charset=utf-8", Some(Events)),
        ("TEXT/EVENT-STREAM", Some(Events)),
        ("", None),
        (";", None),
        ("text/plain", None),
        ("text/html; charset=utf-8", None),
        ("application/octet-stream", None),
        ("image/svg+json", None),
        ("json", None),
        ("application/jsonp", None),
    ] {
        assert_eq!(label(Some(content_type.as_bytes())), media, "{content_type}");
    }
    assert_eq!(label(None), None);
    assert_eq!(label(Some(b"\xff")), None);
}

#[test]
fn first_bytes() {
    use Media::{Events, Json};
    for (body, media) in [
        ("{\"jsonrpc\":", Some(Json)),
        ("\u{feff}{", Some(Json)),
        ("\r\n [", Some(Json)),
        ("data: {}", Some(Events)),
        ("\u{feff}event: message\n", Some(Events)),
        ("\n\nid: 1\n", Some(Events)),
        ("retry:10\n", Some(Events)),
        (": ping\n\n", Some(Events)),
        ("", None),
        ("data", None),
        ("<html>", None),
        ("oops", None),
        ("\"text\"", None),
        ("7", None),
    ] {
        assert_eq!(sniff(body.as_bytes()), media, "{body:?}");
    }
}

#[test]
fn no_label_stands_against_what_a_body_plainly_is() {
    use Media::{Events, Json};
    use Told::{Labelled, Mislabelled, Neither};
    for (first, as_json, as_events, unlabelled) in [
        ("{\"a\"", Labelled(Json), Mislabelled(Json), Mislabelled(Json)),
        ("\u{feff}\n {", Labelled(Json), Mislabelled(Json), Mislabelled(Json)),
        ("[{", Labelled(Json), Mislabelled(Json), Mislabelled(Json)),
        ("data: 1", Mislabelled(Events), Labelled(Events), Mislabelled(Events)),
        ("\r\n\r\nid: 1", Mislabelled(Events), Labelled(Events), Mislabelled(Events)),
        (": ping", Mislabelled(Events), Labelled(Events), Mislabelled(Events)),
        // Neither: then the label says, and what reads it what is wrong.
        ("<html>", Labelled(Json), Labelled(Events), Neither),
        ("error: no such session", Labelled(Json), Labelled(Events), Neither),
        ("dates", Labelled(Json), Labelled(Events), Neither),
        ("7", Labelled(Json), Labelled(Events), Neither),
    ] {
        for (label, expected) in [(Some(Json), as_json), (Some(Events), as_events), (None, unlabelled)] {
            assert_eq!(tell(label, first.as_bytes(), false), Some(expected), "{first:?} {label:?}");
        }
    }
    // Too little to tell, unless nothing more comes.
    for first in ["", " \n", "\u{feff}", "\n\u{feff}", "dat", "retry", "i"] {
        for (label, ended) in [(Some(Json), Labelled(Json)), (None, Neither)] {
            assert_eq!(tell(label, first.as_bytes(), false), None, "{first:?} {label:?}");
            assert_eq!(tell(label, first.as_bytes(), true), Some(ended), "{first:?} {label:?}");
        }
    }
    assert_eq!(tell(Some(Json), b"\xef\xbb", false), None, "half a mark");
    assert_eq!(tell(Some(Json), &[b' '; 4096], false), Some(Labelled(Json)), "it is not waited for ever");
}

#[test]
fn codings() {
    for (encoding, expected) in [
        ("", Coding::Identity),
        ("identity", Coding::Identity),
        ("Identity, identity", Coding::Identity),
        ("gzip", Coding::Gzip),
        ("X-GZIP", Coding::Gzip),
        ("identity, gzip", Coding::Gzip),
        ("deflate", Coding::Deflate),
        ("utf-8", Coding::Mislabelled),
        ("UTF8", Coding::Mislabelled),
        ("none", Coding::Mislabelled),
        ("br", Coding::Unknown("br".into())),
        ("zstd", Coding::Unknown("zstd".into())),
        ("gzip, gzip", Coding::Unknown("gzip, gzip".into())),
        ("gzip, br", Coding::Unknown("gzip, br".into())),
        ("a\tb", Coding::Unknown("a\\tb".into())),
    ] {
        assert_eq!(coding(Some(encoding.as_bytes())), expected, "{encoding}");
    }
    assert_eq!(coding(None), Coding::Identity);
    for plain in [Coding::Identity, Coding::Mislabelled, Coding::Unknown("br".into())] {
        assert!(Inflater::new(&plain).is_none());
    }
}

/// A body, compressed as servers do it.
fn compress(how: usize, body: &[u8]) -> (Coding, Vec<u8>) {
    let level = Compression::new(6);
    match how {
        0 => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(body).unwrap();
            (Coding::Gzip, encoder.finish().unwrap())
        }
        1 => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(body).unwrap();
            (Coding::Deflate, encoder.finish().unwrap())
        }
        _ => {
            let mut encoder = DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(body).unwrap();
            (Coding::Deflate, encoder.finish().unwrap())
        }
    }
}

#[test]
fn a_bomb_ends_at_the_limit() {
    for how in 0..3 {
        let (coding, bomb) = compress(how, &vec![0; 64 << 20]);
        assert!(bomb.len() < 100 << 10);
        let limit = 1 << 20;
        let mut inflater = Inflater::new(&coding).unwrap();
        assert_eq!(inflater.feed(&bomb, limit), Err(InflateError::TooLarge { limit }));
        assert_eq!(inflater.feed(b"", limit), Err(InflateError::TooLarge { limit }), "for good");
        assert_eq!(inflater.finish(limit), Err(InflateError::TooLarge { limit }));
    }
}

#[test]
fn events_are_not_held_back() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    let mut inflater = Inflater::new(&Coding::Gzip).unwrap();
    for event in ["data: 1\n\n", "data: two\n\n", ": ping\n\n"] {
        encoder.write_all(event.as_bytes()).unwrap();
        encoder.flush().unwrap();
        let chunk = std::mem::take(encoder.get_mut());
        assert_eq!(inflater.feed(&chunk, 100).unwrap(), event);
    }
}

#[test]
fn what_is_not_compressed_so_is_refused() {
    let mut inflater = Inflater::new(&Coding::Gzip).unwrap();
    assert_eq!(inflater.feed(b"{\"jsonrpc\":\"2.0\"}", 100), Err(InflateError::Malformed));
    let (_, mut body) = compress(0, b"some text");
    let end = body.len();
    body[end - 5] ^= 1;
    let mut inflater = Inflater::new(&Coding::Gzip).unwrap();
    let inflated = inflater.feed(&body, 100).and_then(|_| inflater.finish(100));
    assert_eq!(inflated, Err(InflateError::CutOff), "its checksum does not fit");
    for end in [1, 9, 12, end - 1] {
        let (_, body) = compress(0, b"some text");
        let mut inflater = Inflater::new(&Coding::Gzip).unwrap();
        inflater.feed(&body[..end], 100).unwrap();
        assert_eq!(inflater.finish(100), Err(InflateError::CutOff), "{end}");
    }
    let mut nothing = Inflater::new(&Coding::Gzip).unwrap();
    assert_eq!(nothing.finish(100).unwrap(), "", "as the body of a 202");
}

proptest! {
    #[test]
    fn bodies_come_out_as_they_went_in(
        how in 0..3_usize, body in prop::collection::vec(any::<u8>(), 0..2_000), chunk in 1..50_usize, twice: bool,
    ) {
        let (coding, mut compressed) = compress(how, &body);
        let mut expected = body;
        if twice && how == 0 {
            compressed.extend_from_within(..);
            expected.extend_from_within(..);
        }
        let mut inflater = Inflater::new(&coding).unwrap();
        let mut out = Vec::new();
        for part in compressed.chunks(chunk) {
            out.extend_from_slice(&inflater.feed(part, 4_000 - out.len()).unwrap());
        }
        out.extend_from_slice(&inflater.finish(4_000 - out.len()).unwrap());
        prop_assert_eq!(out, expected);
        prop_assert_eq!(inflater.feed(b"more", 9).unwrap(), "", "after its end nothing comes");
    }
}
