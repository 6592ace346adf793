//! No bytes make the reader of messages fail, and what it lets through is JSON to others as well.

use mcp::json::{members, set_members, string};
use mcp::message::{Envelope, span, split_batch};
use mcp::splice::Splice;
use serde_json::value::RawValue;

pub(crate) fn check(source: &[u8]) {
    if let Ok(parts) = split_batch(source) {
        assert!(serde_json::from_slice::<&RawValue>(source).is_ok());
        assert!(parts.iter().all(|part| serde_json::from_slice::<&RawValue>(&source[part.clone()]).is_ok()));
    }
    let Ok(envelope) = Envelope::parse(source) else { return };
    assert!(serde_json::from_slice::<&RawValue>(source).is_ok());
    if let Some(id) = envelope.id {
        let out = Splice::new().replace(span(source, id), "7").apply(source);
        assert_eq!(Envelope::parse(&out).expect("still a message").id, Some("7"));
    }
    let Some(params) = envelope.params else { return };
    if let Ok([name]) = members(params, ["name"]) {
        let _text = name.map(string);
        let renamed = set_members(params, &[("name", Some("\"x\""))]).expect("an object");
        assert_eq!(members(&renamed, ["name"]), Ok([Some("\"x\"")]));
        let removed = set_members(params, &[("name", None)]).expect("an object");
        assert_eq!(members(&removed, ["name"]), Ok([None]));
    }
}
