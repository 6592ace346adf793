//! No bytes make the mender fail; what it makes is a message to us and JSON to others, and what it does not is quoted safely.

use bytes::Bytes;
use mcp::border::ids::{claimed, id_in_prefix};
use mcp::border::{Peer, mend};
use mcp::message::Envelope;
use mcp::secrets::Secrets;
use serde_json::value::RawValue;

pub(crate) fn check(source: &[u8]) {
    if let Some(id) = id_in_prefix(source) {
        assert!(serde_json::from_str::<&RawValue>(id).is_ok());
    }
    let _claimed = claimed(source);
    let source = Bytes::copy_from_slice(source);
    let Err(error) = Envelope::parse(&source) else { return };
    for from in [Peer::Server { open: None }, Peer::Server { open: Some("7") }, Peer::Client] {
        match mend(&source, error.clone(), from) {
            Ok(mended) => {
                Envelope::parse(&mended.message).expect("a message");
                assert!(serde_json::from_slice::<&RawValue>(&mended.message).is_ok());
            }
            Err(unreadable) => {
                assert_eq!(unreadable.error, error);
                assert!(!printable::has_hidden(&unreadable.quoted(&source, &Secrets::default())));
                assert!(unreadable.at <= source.len());
            }
        }
    }
}
