//! Whether a server refuses a revision of the protocol, and which one is left to be offered.
//!
//! Servers refuse what they should have negotiated: in `initialize`, where they should offer another, and by the header of
//! every later request, after they agreed to whatever was offered. It must not know how revisions are offered.

use crate::error::UNSUPPORTED_VERSION;
use crate::json;
use crate::message::Envelope;
use crate::revision::{Era, Revision};

/// What a server says in a refusal.
#[derive(Debug, Clone, Copy)]
pub struct VersionRefusal<'a> {
    /// The code of the JSON-RPC error, if it is one.
    pub code: Option<i64>,
    /// Its message, or a text that is none.
    pub text: &'a str,
    /// Its data, raw JSON; empty where there is none.
    pub data: &'a str,
}

impl VersionRefusal<'_> {
    /// Whether the revision itself is refused. Who says so has not looked at what the request asks for.
    #[cold]
    #[must_use]
    pub fn is_about_revision(&self) -> bool {
        let text = self.text.to_lowercase().replace(['-', '_'], " ");
        self.code == Some(UNSUPPORTED_VERSION)
            || text.contains("protocol version")
            || text.contains("protocolversion")
    }

    /// The revision to offer after those that were `tried`: the newest legacy one that is named; where versions are spoken of
    /// and none is listed, the next older one. `None`: this is about something else, or names none of ours.
    #[cold]
    #[must_use]
    pub fn instead(&self, tried: &[Revision]) -> Option<Revision> {
        let legacy = Revision::ALL.into_iter().filter(|revision| revision.era() == Era::Legacy).rev();
        let mut left = legacy.filter(|revision| !tried.contains(revision));
        let said = [self.text, self.data];
        let named = left.clone().find(|revision| said.iter().any(|said| said.contains(revision.as_str())));
        named.or_else(|| {
            let lists_none = !self.data.contains("\"supported\"");
            let speaks_of_versions = self.text.to_ascii_lowercase().contains("version");
            (lists_none && speaks_of_versions).then(|| left.next()).flatten()
        })
    }
}

/// Whether the body of an answer, a JSON-RPC message or a text, refuses the revision of its request.
#[cold]
#[must_use]
pub fn refuses_revision(body: &[u8]) -> bool {
    if let Ok(envelope) = Envelope::look(body) {
        let Some(error) = envelope.error else { return false };
        let [code, message, data] = json::members(error, ["code", "message", "data"]).unwrap_or_default();
        let text = message.and_then(|message| json::string(message).ok()).unwrap_or_default();
        let code = code.and_then(|code| code.parse().ok());
        return VersionRefusal { code, text: &text, data: data.unwrap_or_default() }.is_about_revision();
    }
    VersionRefusal { code: None, text: &String::from_utf8_lossy(body), data: "" }.is_about_revision()
}
