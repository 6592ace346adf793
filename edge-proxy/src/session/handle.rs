//! A legacy conversation, and the sealed id that carries it from edge to edge.
//!
//! It must not know HTTP or what a conversation is used for.

use mcp::revision::Revision;

use super::capabilities::Capabilities;
use super::seal::{self, Binding, Purpose, SealError};
use crate::snapshot::Trust;

/// Longest part of `clientInfo` that is kept, in bytes.
const MAX_CLIENT: usize = 64;
const FORMAT: u8 = 1;
const FIXED: usize = 1 + 1 + 1 + 16 + 8 + 8;

/// Identity of a conversation, for terminating it.
pub type Jti = [u8; 16];

/// What a legacy client and the gateway agreed on at `initialize`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Names it among all.
    pub jti: Jti,
    /// The revision negotiated.
    pub revision: Revision,
    /// What the client can be asked for.
    pub capabilities: Capabilities,
    /// `name/version` of the client, shortened. For people.
    pub client: Box<str>,
    /// When it began, in seconds since the Unix epoch.
    pub issued: u64,
    /// When it ends.
    pub expires: u64,
}

impl Conversation {
    /// A new conversation.
    pub fn begin(
        revision: Revision,
        capabilities: Capabilities,
        client: &str,
        now: u64,
        lifetime: u64,
    ) -> Self {
        Self {
            jti: *uuid::Uuid::new_v4().as_bytes(),
            revision,
            capabilities,
            client: shorten(client).into(),
            issued: now,
            expires: now.saturating_add(lifetime),
        }
    }

    /// The `Mcp-Session-Id` that any edge can open, for this server and this token only.
    pub fn seal(&self, trust: &Trust, server_uid: &str, token_uid: &str) -> Result<String, SealError> {
        seal::seal(trust, binding(server_uid, token_uid), &self.encode())
    }

    /// The conversation that a session id names, unless it is not ours, not theirs, or over.
    pub fn open(trust: &Trust, server_uid: &str, token_uid: &str, text: &str, now: u64) -> Option<Self> {
        let content = seal::open(trust, binding(server_uid, token_uid), text)?;
        let conversation = Self::decode(&content)?;
        (now < conversation.expires).then_some(conversation)
    }

    /// What was agreed on, as edges tell each other. Clients see it sealed only.
    pub fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(FIXED + self.client.len());
        content.extend([FORMAT, number(self.revision), self.capabilities.0]);
        content.extend(self.jti);
        content.extend(self.issued.to_be_bytes());
        content.extend(self.expires.to_be_bytes());
        content.extend(self.client.as_bytes());
        content
    }

    /// Reads what `encode` wrote.
    pub fn decode(content: &[u8]) -> Option<Self> {
        let ([format, revision, capabilities], rest) = content.split_first_chunk::<3>()?;
        let (jti, rest) = rest.split_first_chunk::<16>()?;
        let (issued, rest) = rest.split_first_chunk::<8>()?;
        let (expires, client) = rest.split_first_chunk::<8>()?;
        (*format == FORMAT).then_some(())?;
        Some(Self {
            jti: *jti,
            revision: *Revision::ALL.get(usize::from(*revision))?,
            capabilities: Capabilities(*capabilities),
            client: std::str::from_utf8(client).ok()?.into(),
            issued: u64::from_be_bytes(*issued),
            expires: u64::from_be_bytes(*expires),
        })
    }
}

fn binding<'a>(server: &'a str, token: &'a str) -> Binding<'a> {
    Binding { purpose: Purpose::Session, server, token, about: &[] }
}

fn number(revision: Revision) -> u8 {
    Revision::ALL.iter().position(|other| *other == revision).unwrap_or_default() as u8
}

fn shorten(client: &str) -> &str {
    &client[..client.floor_char_boundary(MAX_CLIENT)]
}

#[cfg(test)]
mod tests {
    use super::super::seal::tests::trust;
    use super::*;

    #[test]
    fn a_session_id_opens_for_its_server_and_token_until_it_expires() {
        let trust = trust(&[1]);
        let begun = Conversation::begin(Revision::V2025_06_18, Capabilities(5), &"é".repeat(40), 100, 50);
        let id = begun.seal(&trust, "s", "t").unwrap();
        assert_eq!(Conversation::open(&trust, "s", "t", &id, 149), Some(begun));
        assert_eq!(Conversation::open(&trust, "s", "t", &id, 150), None);
        assert_eq!(Conversation::open(&trust, "s", "u", &id, 100), None);
        assert_eq!(Conversation::open(&trust, "r", "t", &id, 100), None);
    }
}
