//! No body decompresses to more than its limit, and none makes the inflater fail, however it is cut and labelled.

use bytes::Bytes;
use mcp::border::body::{coding, label, sniff};
use mcp::border::{Coding, Inflater};

const LIMIT: usize = 4 << 10;

pub(crate) fn check((chunk, body): (u8, &[u8])) {
    let _labels = (label(Some(body)), sniff(body), coding(Some(body)));
    for coding in [Coding::Gzip, Coding::Deflate] {
        let mut inflater = Inflater::new(&coding, LIMIT).expect("it is decoded");
        let mut size = 0;
        let mut chunks = body.chunks(usize::from(chunk) + 1);
        loop {
            match inflater.step() {
                Ok(Some(part)) => size += part.len(),
                Ok(None) => match chunks.next() {
                    Some(chunk) => inflater.feed(Bytes::copy_from_slice(chunk)),
                    None => break,
                },
                Err(_) => break,
            }
            assert!(size <= 2 * LIMIT);
        }
        inflater.end();
        if let Ok(Some(rest)) = inflater.step() {
            assert!(size + rest.len() <= 2 * LIMIT);
        }
    }
}
