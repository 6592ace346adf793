//! The messages of the legacy handshake with an upstream. It must not know how they are sent.

use bytes::Bytes;
use mcp::json;
use mcp::message::Envelope;
use mcp::revision::Revision;

use super::session_key::SessionKey;
use crate::error::Fault;
use crate::snapshot::{Upstream, UpstreamKind};

/// Returns the revisions that `initialize` offers for clients of this one: at first none that is newer than what the upstream
/// settled on with the control plane, and if that is refused, the same.
pub(in crate::upstream) fn offers(clients: Revision, upstream: &Upstream) -> (Revision, Option<Revision>) {
    let UpstreamKind::Mcp(mcp) = &upstream.kind;
    match mcp.legacy {
        Some(settled) if settled <= clients => (settled, None),
        settled => (clients, settled),
    }
}

/// Whether a handshake may have failed for the revision that it offers: some servers refuse those that they do not know, where they
/// should offer one that they do.
pub(in crate::upstream) fn may_be_about_revision(fault: &Fault) -> bool {
    matches!(fault, Fault::Session(_) | Fault::Status(400..=499))
}

/// Builds the `initialize` that opens a session, and offers this revision.
pub(in crate::upstream) fn initialize(key: SessionKey, revision: Revision) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"{revision}","capabilities":{},"clientInfo":{{"name":"trunkline","version":"{}"}}}}}}"#,
        key.capabilities.to_upstream(revision),
        env!("CARGO_PKG_VERSION"),
    )
}

/// Builds the `logging/setLevel` of a raw level.
pub(in crate::upstream) fn set_level(level: &[u8]) -> Bytes {
    let before = br#"{"jsonrpc":"2.0","id":"level","method":"logging/setLevel","params":{"level":"#;
    [before.as_slice(), level, b"}}"].concat().into()
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
    version
        .as_deref()
        .and_then(Revision::agreed)
        .ok_or_else(|| session("initialize returned no known revision".to_owned()))
}
