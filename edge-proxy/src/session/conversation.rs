//! A legacy conversation, and the sealed session id that carries it from edge to edge.
//!
//! It must not know HTTP, or the use of a conversation.

use mcp::revision::Revision;

use super::capabilities::Capabilities;
use super::seal::{self, HandleBinding, Purpose, SealError};
use crate::snapshot::Trust;

/// The bytes of `clientInfo` that are kept.
const MAX_CLIENT: usize = 64;
const FORMAT: u8 = 1;
const FIXED: usize = 1 + 1 + 1 + 16 + 8 + 8;

/// The id of a session, unique among all.
pub type SessionId = [u8; 16];

/// Returns the text of a session id, for handles that open in this session alone.
pub fn session_text<'a>(session_id: &SessionId, buffer: &'a mut [u8; 32]) -> &'a str {
    uuid::Uuid::from_bytes(*session_id).simple().encode_lower(buffer)
}

/// The terms that a legacy client and the gateway agreed on at `initialize`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The id of the session.
    pub session_id: SessionId,
    /// The negotiated revision.
    pub revision: Revision,
    /// The requests that the client takes.
    pub capabilities: Capabilities,
    /// `name/version` of the client, shortened. For people.
    pub client: Box<str>,
    /// The time of its beginning, in seconds since the Unix epoch.
    pub issued: u64,
    /// The time of its end.
    pub expires: u64,
}

impl Conversation {
    /// Begins a conversation.
    pub fn begin(
        revision: Revision,
        capabilities: Capabilities,
        client: &str,
        now: u64,
        lifetime: u64,
    ) -> Self {
        Self {
            session_id: *uuid::Uuid::new_v4().as_bytes(),
            revision,
            capabilities,
            client: shorten(client).into(),
            issued: now,
            expires: now.saturating_add(lifetime),
        }
    }

    /// Seals the `Mcp-Session-Id`, which any edge can open for this server and this principal only.
    pub fn seal(&self, trust: &Trust, server_uid: &str, principal_uid: &str) -> Result<String, SealError> {
        seal::seal(trust, binding(server_uid, principal_uid), &self.encode())
    }

    /// Opens a session id, unless it is not ours, another server's or principal's, or expired.
    pub fn open(trust: &Trust, server_uid: &str, principal_uid: &str, text: &str, now: u64) -> Option<Self> {
        let content = seal::open(trust, binding(server_uid, principal_uid), text)?;
        let conversation = Self::decode(&content)?;
        (now < conversation.expires).then_some(conversation)
    }

    /// Encodes the conversation for other edges. Clients see it sealed only.
    pub fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(FIXED + self.client.len());
        content.extend([FORMAT, number(self.revision), self.capabilities.0]);
        content.extend(self.session_id);
        content.extend(self.issued.to_be_bytes());
        content.extend(self.expires.to_be_bytes());
        content.extend(self.client.as_bytes());
        content
    }

    /// Decodes what `encode` wrote.
    pub fn decode(content: &[u8]) -> Option<Self> {
        let ([format, revision, capabilities], rest) = content.split_first_chunk::<3>()?;
        let (session_id, rest) = rest.split_first_chunk::<16>()?;
        let (issued, rest) = rest.split_first_chunk::<8>()?;
        let (expires, client) = rest.split_first_chunk::<8>()?;
        (*format == FORMAT).then_some(())?;
        Some(Self {
            session_id: *session_id,
            revision: *Revision::ALL.get(usize::from(*revision))?,
            capabilities: Capabilities(*capabilities),
            client: std::str::from_utf8(client).ok()?.into(),
            issued: u64::from_be_bytes(*issued),
            expires: u64::from_be_bytes(*expires),
        })
    }
}

fn binding<'a>(server: &'a str, principal: &'a str) -> HandleBinding<'a> {
    HandleBinding { purpose: Purpose::Session, server, principal, about: &[] }
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
    fn a_session_id_opens_for_its_server_and_principal_until_it_expires() {
        let trust = trust(&[1]);
        let begun = Conversation::begin(Revision::V2025_06_18, Capabilities(5), &"é".repeat(40), 100, 50);
        let id = begun.seal(&trust, "s", "t").unwrap();
        assert_eq!(Conversation::open(&trust, "s", "t", &id, 149), Some(begun));
        assert_eq!(Conversation::open(&trust, "s", "t", &id, 150), None);
        assert_eq!(Conversation::open(&trust, "s", "u", &id, 100), None);
        assert_eq!(Conversation::open(&trust, "r", "t", &id, 100), None);
    }
}
