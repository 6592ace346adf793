//! No body under the label of events makes its reader fail, however it is cut: the same comes of it, nothing is larger than the limit,
//! and of JSON texts no byte is lost.

use bytes::Bytes;
use mcp::border::EventReader;

const LIMIT: usize = 64;

/// The data that comes of a body in these pieces, whether it turned out to be JSON, and whether it was too large.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, bool, bool) {
    let mut reader = EventReader::new(LIMIT);
    let (mut found, mut is_json) = (Vec::new(), false);
    for piece in pieces {
        let Ok(told) = reader.push(Bytes::copy_from_slice(piece)) else { return (found, is_json, true) };
        is_json |= told;
        loop {
            match reader.next() {
                Ok(Some(event)) => found.push(event.data),
                Ok(None) => break,
                Err(_) => return (found, is_json, true),
            }
        }
    }
    found.extend(reader.end().map(|event| event.data));
    (found, is_json, false)
}

pub(crate) fn check((size, body): (u8, Vec<u8>)) {
    let (cut, is_json, cut_over) = read(body.chunks(usize::from(size) + 1));
    assert!(cut.iter().all(|data| data.len() <= LIMIT));
    let (whole, whole_is_json, whole_over) = read(std::iter::once(&body[..]));
    if !cut_over && !whole_over {
        assert_eq!((&cut, is_json), (&whole, whole_is_json));
    }
    if is_json && !cut_over {
        let came: Vec<u8> = cut.concat();
        assert!(body.starts_with(&came) && body[came.len()..].trim_ascii().is_empty());
    }
}
