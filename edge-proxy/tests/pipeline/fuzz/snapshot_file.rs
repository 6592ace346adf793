//! No bytes make the reader of the copy on disk fail. What is fuzzed is the text inside the encryption: a file that
//! anybody changed does not get as far.

use bytes::Bytes;
use trunkline_edge_proxy::snapshot::disk::parse;

pub(crate) fn check(source: &[u8]) {
    let _image = parse(Bytes::copy_from_slice(source));
}
