//! The messages of the legacy handshake with an upstream. It must not know how they are sent.

use bytes::Bytes;
use http::HeaderValue;
use mcp::json;
use mcp::message::Envelope;
use mcp::revision::{Era, Revision};

use super::session_key::SessionKey;
use crate::error::Fault;
use crate::snapshot::{Upstream, UpstreamKind};

/// The longest id of a session, in bytes: some servers put a signed token into it.
const MAX_SESSION_ID: usize = 4_096;

/// Returns the revisions that `initialize` offers for clients of this one: at first none that is newer than what the upstream
/// settled on with the control plane, and if that is refused, the same.
pub(in crate::upstream) fn offers(clients: Revision, upstream: &Upstream) -> (Revision, Option<Revision>) {
    let UpstreamKind::Mcp(mcp) = &upstream.kind;
    match mcp.legacy {
        Some(settled) if settled <= clients => (settled, None),
        settled => (clients, settled),
    }
}

/// Whether `initialize` may have failed for the revision that it offers: some servers refuse those that they do not know, where they
/// should offer one that they do.
pub(in crate::upstream) fn may_be_about_revision(fault: &Fault) -> bool {
    matches!(fault, Fault::Session(_) | Fault::Status(400..=499))
}

/// Builds the `initialize` that opens a session, and offers this revision.
pub(in crate::upstream) fn initialize(key: SessionKey, revision: Revision) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{revision}","capabilities":{},"clientInfo":{{"name":"trunkline","version":"{}"}}}}}}"#,
        key.capabilities.to_upstream(revision),
        env!("CARGO_PKG_VERSION"),
    )
}

/// Builds the `logging/setLevel` of a raw level.
pub(in crate::upstream) fn set_level(level: &[u8]) -> Bytes {
    let before = br#"{"jsonrpc":"2.0","id":"level","method":"logging/setLevel","params":{"level":"#;
    [before.as_slice(), level, b"}}"].concat().into()
}

/// Checks the id of a session: visible ASCII, as the revisions have it, and short, because it is sealed into the ids that
/// clients are given.
pub(in crate::upstream) fn session_id(value: &HeaderValue) -> Result<HeaderValue, Fault> {
    let bytes = value.as_bytes();
    if bytes.len() > MAX_SESSION_ID || !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(Fault::Session(format!(
            "its Mcp-Session-Id is not at most {MAX_SESSION_ID} visible ASCII characters"
        )));
    }
    Ok(value.clone())
}

/// Reads the revision in the response to `initialize`.
pub(in crate::upstream) fn negotiated(upstream: &Upstream, message: &[u8]) -> Result<Revision, Fault> {
    let session = |what: String| Fault::Session(what);
    let envelope = Envelope::parse(message).map_err(|error| session(error.to_string()))?;
    if let Some(error) = envelope.error {
        let [text] = json::members(error, ["message"]).unwrap_or_default();
        let text = text.and_then(|text| json::string(text).ok()).unwrap_or_default();
        return Err(session(format!("initialize failed: {}", upstream.excerpt(&text))));
    }
    let [version] = json::members(envelope.result.unwrap_or("{}"), ["protocolVersion"]).unwrap_or_default();
    let version = version.and_then(|version| json::string(version).ok());
    let revision =
        version.as_deref().and_then(Revision::parse).filter(|revision| revision.era() == Era::Legacy);
    revision.ok_or_else(|| session("initialize returned no known revision".to_owned()))
}
