//! `sse` against tables; any chunking gives the same events.

use bytes::Bytes;
use mcp::sse::{Decoder, Ends, Event, EventError, KEEP_ALIVE, encode, encode_data};
use proptest::prelude::*;

fn event(data: &str) -> Event {
    Event { data: Bytes::copy_from_slice(data.as_bytes()), ..Event::default() }
}

fn typed(event: &str, data: &str) -> Event {
    Event { event: Some(Bytes::copy_from_slice(event.as_bytes())), ..self::event(data) }
}

fn with_id(id: &str, data: &str) -> Event {
    Event { id: Some(Bytes::copy_from_slice(id.as_bytes())), ..event(data) }
}

fn drain(decoder: &mut Decoder) -> Result<Vec<Event>, EventError> {
    let mut events = Vec::new();
    while let Some(event) = decoder.next()? {
        events.push(event);
    }
    Ok(events)
}

fn decode(source: &[u8]) -> Vec<Event> {
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(Bytes::copy_from_slice(source));
    drain(&mut decoder).unwrap()
}

#[test]
fn streams_and_their_events() {
    let cases: Vec<(&str, Vec<Event>)> = vec![
        ("", vec![]),
        ("\n\n\n", vec![]),
        ("data: a\n\n", vec![event("a")]),
        ("data:a\r\rdata:  b\r\n\r\n", vec![event("a"), event(" b")]),
        ("data: a\ndata\ndata: b\n\n", vec![event("a\n\nb")]),
        ("data\ndata\n\n", vec![event("\n")]),
        (": comment\n\ndata: a\n: another\n\n", vec![event("a")]),
        ("event: message\ndata: {}\n\n", vec![typed("message", "{}")]),
        ("event: lonely\n\ndata: a\n\n", vec![event("a")]),
        ("id: 7\ndata:\n\n", vec![with_id("7", "")]),
        ("id: 7\n\n", vec![with_id("7", "")]),
        ("id\ndata: a\n\n", vec![with_id("", "a")]),
        ("id: a\0b\ndata: a\n\n", vec![event("a")]),
        ("retry: 3000\n\n", vec![Event { retry: Some(3000), ..Event::default() }]),
        ("retry: 3s\ndata: a\nretry: -1\n\n", vec![event("a")]),
        ("retry: 99999999999999999999999\ndata: a\n\n", vec![event("a")]),
        ("\u{feff}data: a\n\ndata: b\n\n", vec![event("a"), event("b")]),
        ("data: a\n\n\u{feff}data: b\n\n", vec![event("a")]),
        ("unknown: x\nDATA: y\ndata: a\n\n", vec![event("a")]),
        ("data: cut off\n", vec![]),
        ("data: cut off", vec![]),
    ];
    for (stream, events) in cases {
        assert_eq!(decode(stream.as_bytes()), events, "{stream:?}");
    }
}

#[test]
fn bytes_that_are_not_text_pass() {
    assert_eq!(decode(b"data: \xff\xfe\n\n")[0].data, &b"\xff\xfe"[..]);
}

#[test]
fn a_whole_event_is_a_slice_of_its_chunk() {
    let chunk = Bytes::from_static(b"data: {\"a\":1}\n\n");
    let mut decoder = Decoder::new(100);
    decoder.push(chunk.clone());
    let event = decoder.next().unwrap().unwrap();
    assert_eq!(event.data.as_ptr(), chunk[6..].as_ptr());
}

#[test]
fn large_events_are_refused_before_they_are_held() {
    let limit = 100;
    let streams: [&[u8]; 4] = [
        // No line ever ends; no event ever ends; a comment never ends; ids pile up.
        &[b"data: ", &[b'x'; 50][..]].concat(),
        b"data: 0123456789\n",
        &[b": ", &[b'x'; 50][..]].concat(),
        b"id: 0123456789\n",
    ];
    for stream in streams {
        let mut decoder = Decoder::new(limit);
        let refused = (0..50).find_map(|round| {
            let part = if round == 0 || stream.ends_with(b"\n") { stream } else { &stream[2..] };
            decoder.push(Bytes::copy_from_slice(part));
            drain(&mut decoder).err().map(|error| (round, error))
        });
        let (round, error) = refused.expect("it is refused");
        assert!(round * stream.len() <= 2 * limit, "refused in time");
        assert_eq!(error, EventError::TooLarge { limit });
        decoder.push(Bytes::from_static(b"data: a\n\n"));
        assert_eq!(decoder.next(), Err(EventError::TooLarge { limit }));
    }
}

#[test]
fn a_large_event_is_skipped_and_leaves_its_ends() {
    let long = "x".repeat(3_000);
    for stream in [
        format!("data: {{\"id\":1,{long}}}\n\ndata: a\n\n"),
        format!("event: message\r\ndata: {{\"id\":1,\r\ndata: {long}}}\r\n\r\ndata: a\r\n\r\n"),
        format!("data: {{\"id\":1,\rdata:{long}\rdata:}}\r\rdata: a\r\r"),
    ] {
        for size in [1, 7, 100, 10_000] {
            let mut decoder = Decoder::skipping(100);
            let (mut events, mut ends) = (Vec::new(), Vec::new());
            for chunk in stream.as_bytes().chunks(size) {
                decoder.push(Bytes::copy_from_slice(chunk));
                loop {
                    match decoder.next() {
                        Ok(Some(event)) => events.push(event),
                        Ok(None) => break,
                        Err(_) => ends.push(decoder.take_ends().expect("it goes on")),
                    }
                }
            }
            assert_eq!(events, [event("a")], "{size} {stream:?}");
            let [Ends { first, last }] = &ends[..] else { panic!("{ends:?}") };
            assert!(first.starts_with(b"{\"id\":1,") && last.ends_with(b"}"), "{size} {ends:?}");
            assert!(first.len() <= 512 && last.len() <= 512);
        }
    }
}

#[test]
fn the_limit_is_for_one_event_not_for_the_stream() {
    let mut decoder = Decoder::new(20);
    for _ in 0..100 {
        decoder.push(Bytes::from_static(b": keep-alive\n\ndata: 0123456789\n\n"));
        assert_eq!(drain(&mut decoder), Ok(vec![event("0123456789")]));
    }
}

#[test]
fn what_is_encoded() {
    assert_eq!(encode_data(b"{}"), &b"data: {}\n\n"[..]);
    assert_eq!(encode_data(b"a\nb\r\nc"), &b"data: a\ndata: b\ndata: c\n\n"[..]);
    assert_eq!(encode_data(b""), &b"data: \n\n"[..]);
    let full =
        Event { event: Some("message".into()), data: "{}".into(), id: Some("7".into()), retry: Some(3000) };
    assert_eq!(encode(&full), &b"event: message\nid: 7\nretry: 3000\ndata: {}\n\n"[..]);
    let smuggled = Event { id: Some("7\ndata: x".into()), ..event("{}") };
    assert_eq!(encode(&smuggled), &b"data: {}\n\n"[..]);
    assert_eq!(decode(KEEP_ALIVE), vec![]);
}

fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => "data: ?[a-z ]{0,9}",
        1 => "(id|event|retry|data|x): ?[a-z0-9]{0,5}",
        1 => ": ?[a-z]{0,9}",
        3 => Just(String::new()),
        1 => Just("\u{feff}data: b".to_owned()),
    ];
    let end = prop::sample::select(vec!["\n", "\r", "\r\n"]);
    prop::collection::vec((line, end), 0..24)
        .prop_map(|lines| lines.into_iter().flat_map(|(line, end)| (line + end).into_bytes()).collect())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_events(
        stream in any_stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12), at_once in any::<bool>(),
    ) {
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let mut decoder = Decoder::new(1 << 20);
        let mut events = Vec::new();
        for pair in cuts.windows(2) {
            decoder.push(Bytes::copy_from_slice(&stream[pair[0]..pair[1]]));
            if !at_once {
                events.extend(drain(&mut decoder).unwrap());
            }
        }
        events.extend(drain(&mut decoder).unwrap());
        prop_assert_eq!(events, decode(&stream));
    }

    /// Whatever is too large, however it is cut, the rest is what it is without it.
    #[test]
    fn what_is_skipped_takes_nothing_along(
        events in prop::collection::vec("[a-z]{1,20}|[a-z]{40,90}", 0..9), size in 1_usize..200,
    ) {
        let mut decoder = Decoder::skipping(30);
        let (mut read, mut skipped) = (Vec::new(), 0);
        let stream: Vec<u8> = events.iter().flat_map(|data| encode_data(data.as_bytes())).collect();
        for chunk in stream.chunks(size) {
            decoder.push(Bytes::copy_from_slice(chunk));
            loop {
                match decoder.next() {
                    Ok(Some(event)) => read.push(event.data),
                    Ok(None) => break,
                    Err(_) => {
                        skipped += 1;
                        let ends = decoder.take_ends();
                        prop_assert!(ends.is_some_and(|ends| ends.first == ends.last));
                    }
                }
            }
        }
        let (small, large): (Vec<&String>, Vec<&String>) = events.iter().partition(|data| data.len() <= 30);
        prop_assert_eq!((read.len(), skipped), (small.len(), large.len()));
        prop_assert!(read.iter().zip(small).all(|(read, data)| **read == *data.as_bytes()));
    }

    #[test]
    fn what_is_encoded_is_decoded(
        data in "[a-z{}\n]{0,30}", id in prop::option::of("[a-z0-9]{0,9}"), kind in prop::option::of("[a-z]{1,9}"),
        retry in any::<Option<u64>>(),
    ) {
        let event = Event { event: kind.map(Bytes::from), data: data.into(), id: id.map(Bytes::from), retry };
        prop_assert_eq!(decode(&encode(&event)), vec![event]);
    }

    #[test]
    fn any_bytes_are_survived(stream in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = Decoder::new(64);
        decoder.push(stream.into());
        let _verdict = drain(&mut decoder);
    }
}
