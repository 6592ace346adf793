use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use mcp::border::body::{STEP_BYTES, Told, coding, label, sniff, tell};
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
        ("br", Coding::Unknown),
        ("zstd", Coding::Unknown),
        ("gzip, gzip", Coding::Unknown),
        ("gzip, br", Coding::Unknown),
        ("a\tb", Coding::Unknown),
    ] {
        assert_eq!(coding(Some(encoding.as_bytes())), expected, "{encoding}");
    }
    assert_eq!(coding(None), Coding::Identity);
    for plain in [Coding::Identity, Coding::Mislabelled, Coding::Unknown] {
        assert!(Inflater::new(&plain, 100).is_none());
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

/// What is left to come of what was fed, and the largest step.
fn all(inflater: &mut Inflater) -> Result<(Vec<u8>, usize), InflateError> {
    let (mut out, mut largest) = (Vec::new(), 0);
    while let Some(part) = inflater.step()? {
        out.extend_from_slice(&part);
        largest = largest.max(part.len());
    }
    Ok((out, largest))
}

fn feed(inflater: &mut Inflater, chunk: &[u8]) -> Result<Vec<u8>, InflateError> {
    inflater.feed(Bytes::copy_from_slice(chunk));
    all(inflater).map(|(out, _)| out)
}

fn finish(inflater: &mut Inflater) -> Result<Vec<u8>, InflateError> {
    inflater.end();
    all(inflater).map(|(out, _)| out)
}

/// However well a chunk was compressed, a worker is never long at one step of it, and what comes to no message is bounded.
#[test]
fn a_bomb_is_inflated_in_steps_and_ends_at_the_limit() {
    for how in 0..3 {
        let (coding, bomb) = compress(how, &vec![0; 64 << 20]);
        assert!(bomb.len() < 100 << 10);
        let limit = 1 << 20;
        let mut inflater = Inflater::new(&coding, limit).unwrap();
        inflater.feed(bomb.into());
        let (mut steps, mut inflated) = (0, 0);
        let error = loop {
            match inflater.step() {
                Ok(part) => {
                    let length = part.unwrap().len();
                    assert!(length <= 2 * STEP_BYTES, "{length}");
                    (steps, inflated) = (steps + 1, inflated + length);
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error, InflateError::TooLarge { limit });
        assert!(inflated <= 2 * limit && steps >= limit / STEP_BYTES, "{inflated} bytes in {steps} steps");
        assert_eq!(feed(&mut inflater, b""), Err(InflateError::TooLarge { limit }), "for good");
        assert_eq!(finish(&mut inflater), Err(InflateError::TooLarge { limit }));
    }
}

/// A stream of messages may go on for ever, one of comments may not.
#[test]
fn what_is_no_message_is_bounded_however_it_comes() {
    let limit = 16 << 10;
    for message_every in [None, Some(10)] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
        let mut inflater = Inflater::new(&Coding::Gzip, limit).unwrap();
        let chunks = (0..1_000).map(|at| {
            let is_message = message_every.is_some_and(|every| at % every == 0);
            let text = if is_message { format!("data: {at}\n\n") } else { ": keep-alive\n\n".repeat(4) };
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.flush().unwrap();
            (is_message, std::mem::take(encoder.get_mut()))
        });
        let ended = chunks.into_iter().try_for_each(|(is_message, chunk)| {
            feed(&mut inflater, &chunk)?;
            if is_message {
                inflater.message_taken(1_000);
            }
            Ok(())
        });
        let expected = if message_every.is_some() { Ok(()) } else { Err(InflateError::TooLarge { limit }) };
        assert_eq!(ended, expected);
    }
}

#[test]
fn events_are_not_held_back() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    let mut inflater = Inflater::new(&Coding::Gzip, 100).unwrap();
    for event in ["data: 1\n\n", "data: two\n\n", ": ping\n\n"] {
        encoder.write_all(event.as_bytes()).unwrap();
        encoder.flush().unwrap();
        let chunk = std::mem::take(encoder.get_mut());
        assert_eq!(feed(&mut inflater, &chunk).unwrap(), event.as_bytes());
    }
}

#[test]
fn what_is_not_compressed_so_is_refused() {
    let gzip = || Inflater::new(&Coding::Gzip, 100).unwrap();
    assert_eq!(feed(&mut gzip(), b"{\"jsonrpc\":\"2.0\"}"), Err(InflateError::Malformed));
    let (_, mut body) = compress(0, b"some text");
    let end = body.len();
    body[end - 5] ^= 1;
    let mut inflater = gzip();
    let inflated = feed(&mut inflater, &body).and_then(|_| finish(&mut inflater));
    assert_eq!(inflated, Err(InflateError::CutOff), "its checksum does not fit");
    for end in [1, 9, 12, end - 1] {
        let (_, body) = compress(0, b"some text");
        let mut inflater = gzip();
        feed(&mut inflater, &body[..end]).unwrap();
        assert_eq!(finish(&mut inflater), Err(InflateError::CutOff), "{end}");
    }
    assert_eq!(finish(&mut gzip()).unwrap(), b"", "as the body of a 202");
}

proptest! {
    #[test]
    fn bodies_come_out_as_they_went_in(
        how in 0..3_usize,
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2_000),
            (any::<u8>(), 0..300_000_usize).prop_map(|(byte, length)| vec![byte; length]),
        ],
        chunk in 1..50_usize,
        twice: bool,
    ) {
        let (coding, mut compressed) = compress(how, &body);
        let mut expected = body;
        if twice && how == 0 {
            compressed.extend_from_within(..);
            expected.extend_from_within(..);
        }
        let mut inflater = Inflater::new(&coding, expected.len()).unwrap();
        let mut out = Vec::new();
        for part in compressed.chunks(chunk) {
            out.extend_from_slice(&feed(&mut inflater, part).unwrap());
        }
        out.extend_from_slice(&finish(&mut inflater).unwrap());
        prop_assert!(out == expected);
        prop_assert_eq!(feed(&mut inflater, b"more").unwrap(), b"", "after its end nothing comes");
    }
}
