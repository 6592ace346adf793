//! Event ids that clients are given: the position in a call's stream, sealed, so that any edge can resume it.
//!
//! It must not know how streams are read.

use mcp::method::Method;

use crate::route::TargetKind;
use crate::session::seal::{self, HandleBinding, Purpose, SealError};
use crate::session::{HandleOwner, SessionId, session_text};
use crate::snapshot::Trust;

/// Longest address of a session that ids of events carry, in bytes: 4 KiB once sealed. One with more cookies would make
/// ids that proxies refuse in `Last-Event-ID`, so its streams are not offered to be resumed.
pub(super) const MAX_ADDRESS: usize = 3 << 10;

/// The position in a stream, and the call that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ResumptionToken<'a> {
    /// The id of the upstream.
    pub upstream: &'a str,
    /// The address of the session there; empty where it has none.
    pub session: &'a [u8],
    /// The revision of that session.
    pub version: &'a [u8],
    /// The id and progress token of the call in that session.
    pub number: u64,
    /// The raw id of the client's request.
    pub id: &'a [u8],
    /// The raw progress token of the client's request; empty where it has none.
    pub progress_token: &'a [u8],
    /// The target of the call.
    pub method: Method,
    /// The prefix of URIs that the client sees.
    pub uri_prefix: &'a str,
    /// The kind of the target, which is checked again before the stream is resumed.
    pub kind: TargetKind,
    /// The name or URI that the client called.
    pub exposed: &'a str,
    /// The name or URI that the upstream knows that target by.
    pub original: &'a str,
    /// What rules judged the arguments of the call by.
    pub judged_by: Option<u128>,
    /// The upstream's own id of the event.
    pub event: &'a [u8],
}

impl<'a> ResumptionToken<'a> {
    /// Seals it into the id that the client is given.
    pub(super) fn seal(
        &self,
        trust: &Trust,
        owner: HandleOwner<'_>,
        session_id: &SessionId,
    ) -> Result<String, SealError> {
        let content = seal::join_judged(
            self.judged_by,
            [
                self.upstream.as_bytes(),
                self.session,
                self.version,
                &self.number.to_be_bytes(),
                self.id,
                self.progress_token,
                self.method.as_str().as_bytes(),
                self.uri_prefix.as_bytes(),
                &[self.kind.code()],
                self.exposed.as_bytes(),
                self.event,
                self.original.as_bytes(),
            ],
        );
        let mut text = [0; 32];
        seal::seal(trust, binding(owner, &[session_text(session_id, &mut text)]), &content)
    }

    /// Opens an id that a client sent back in the session of the call; returns its content.
    pub(super) fn open(
        trust: &Trust,
        owner: HandleOwner<'_>,
        session_id: &SessionId,
        text: &str,
    ) -> Option<Vec<u8>> {
        let mut buffer = [0; 32];
        seal::open(trust, binding(owner, &[session_text(session_id, &mut buffer)]), text)
    }

    /// Reads the content that `open` returned.
    pub(super) fn read(content: &'a [u8]) -> Option<Self> {
        let (judged_by, parts) = seal::split_judged(content)?;
        let [
            upstream,
            session,
            version,
            number,
            id,
            progress_token,
            method,
            uri_prefix,
            kind,
            exposed,
            event,
            original,
        ] = parts;
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).ok();
        Some(Self {
            upstream: text(upstream)?,
            session,
            version,
            number: u64::from_be_bytes(number.try_into().ok()?),
            id,
            progress_token,
            method: Method::parse(text(method)?)?,
            uri_prefix: text(uri_prefix)?,
            kind: TargetKind::read(kind)?,
            exposed: text(exposed)?,
            original: text(original)?,
            judged_by,
            event,
        })
    }
}

fn binding<'a>(owner: HandleOwner<'a>, about: &'a [&'a str]) -> HandleBinding<'a> {
    HandleBinding { purpose: Purpose::Event, server: owner.server, principal: owner.principal, about }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::seal::tests::trust;

    #[test]
    fn a_token_opens_for_its_owner_in_its_session_alone() {
        let (trust, owner) = (trust(&[1]), HandleOwner { server: "s", principal: "t" });
        let (session, other) = ([1; 16], HandleOwner { principal: "u", ..owner });
        let token = ResumptionToken {
            upstream: "u",
            session: b"up-1",
            version: b"2025-11-25",
            number: 7,
            id: b"\"a\"",
            progress_token: b"",
            method: Method::ToolsCall,
            uri_prefix: "u+",
            kind: TargetKind::Tool,
            exposed: "u_slow",
            original: "slow",
            judged_by: None,
            event: b"1/2",
        };
        let judged = ResumptionToken { judged_by: Some(7), ..token };
        let content = judged.seal(&trust, owner, &session).unwrap();
        let content = ResumptionToken::open(&trust, owner, &session, &content).unwrap();
        assert_eq!(ResumptionToken::read(&content), Some(judged));
        let text = token.seal(&trust, owner, &session).unwrap();
        let content = ResumptionToken::open(&trust, owner, &session, &text).unwrap();
        assert_eq!(ResumptionToken::read(&content), Some(token));
        assert_eq!(ResumptionToken::open(&trust, other, &session, &text), None);
        assert_eq!(ResumptionToken::open(&trust, owner, &[2; 16], &text), None);
        assert_eq!(ResumptionToken::read(b"junk"), None);
    }
}
