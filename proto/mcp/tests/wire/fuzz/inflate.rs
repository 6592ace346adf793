//! No body decompresses to more than its limit, and none makes the inflater fail, however it is cut and labelled.

use mcp::border::body::{coding, label, sniff};
use mcp::border::{Coding, Inflater};

const LIMIT: usize = 4 << 10;

pub(crate) fn check((chunk, body): (u8, &[u8])) {
    let _labels = (label(Some(body)), sniff(body), coding(Some(body)));
    for coding in [Coding::Gzip, Coding::Deflate] {
        let mut inflater = Inflater::new(&coding).expect("it is decoded");
        let mut size = 0;
        for part in body.chunks(usize::from(chunk) + 1) {
            let Ok(out) = inflater.feed(part, LIMIT - size) else { break };
            size += out.len();
            assert!(size <= LIMIT);
        }
        if let Ok(rest) = inflater.finish(LIMIT - size) {
            assert!(rest.len() <= LIMIT - size);
        }
    }
}
