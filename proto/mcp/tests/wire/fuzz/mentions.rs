//! No message makes the translation of what it mentions fail, it stays a message, nothing but URIs changes, and what is translated there
//! and back is what it was.

use bytes::Bytes;
use mcp::json::JsonError;
use mcp::mentions::{in_result, in_sampling};
use mcp::message::Envelope;
use mcp::method::Method;
use mcp::splice::Splice;

const METHODS: [Method; 5] = [
    Method::ToolsCall,
    Method::TasksResult,
    Method::PromptsGet,
    Method::ResourcesRead,
    Method::CompletionComplete,
];

type Exposed = fn(&str) -> Option<Box<str>>;

/// The message with what it mentions translated; `None` where nothing is.
fn translated(message: &Bytes, method: Method, exposed: Exposed) -> Result<Option<Bytes>, JsonError> {
    let Ok(envelope) = Envelope::parse(message) else { return Ok(None) };
    let edits = match (envelope.result, envelope.params) {
        (Some(result), _) => in_result(Splice::new(), message, result, method, exposed)?,
        (None, Some(params)) => in_sampling(Splice::new(), message, params, exposed)?,
        (None, None) => Splice::new(),
    };
    Ok((!edits.is_empty()).then(|| edits.apply(message)))
}

pub(crate) fn check((method, source): (u8, Vec<u8>)) {
    let message = Bytes::from(source);
    let method = METHODS[usize::from(method) % METHODS.len()];
    let there: Exposed = |uri| Some(format!("u+{uri}").into());
    let back: Exposed = |uri| uri.strip_prefix("u+").map(Into::into);
    let same: Exposed = |uri| Some(uri.into());
    let Ok(named) = translated(&message, method, there) else { return };
    assert_eq!(translated(&message, method, |_| None), Ok(None));
    assert_eq!(translated(&message, method, same), Ok(None));
    let Some(named) = named else { return };
    assert!(Envelope::parse(&named).is_ok(), "{}", String::from_utf8_lossy(&named));
    let restored = translated(&named, method, back).unwrap().unwrap_or(named);
    let value = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).ok();
    assert_eq!(value(&restored), value(&message));
}
