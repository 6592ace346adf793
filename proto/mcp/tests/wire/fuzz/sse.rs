//! No bytes make the decoder of events fail, however they are cut; what it holds stays within its limit.

use bytes::Bytes;
use mcp::sse::{Decoder, Event, EventError};

const LIMIT: usize = 64;

fn decode(chunks: impl Iterator<Item = Bytes>) -> (Vec<Event>, Option<EventError>) {
    let mut decoder = Decoder::new(LIMIT);
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

/// What is read of a stream where events that are too large are skipped, and how many are.
fn skip(chunks: impl Iterator<Item = Bytes>) -> (Vec<Event>, usize) {
    let mut decoder = Decoder::skipping(LIMIT);
    let (mut events, mut skipped) = (Vec::new(), 0);
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(_) => skipped += 1,
            }
        }
    }
    (events, skipped)
}

pub(crate) fn check((size, stream): (u8, Vec<u8>)) {
    let pieces = stream.chunks(usize::from(size) + 1).map(Bytes::copy_from_slice);
    assert_eq!(skip(pieces.clone()), skip(std::iter::once(Bytes::from(stream.clone()))));
    let (events, error) = decode(pieces);
    let (whole, whole_error) = decode(std::iter::once(Bytes::from(stream.clone())));
    assert!(events.iter().chain(&whole).all(|event| event.data.len() <= LIMIT));
    assert_eq!((events, error), (whole, whole_error));
}
