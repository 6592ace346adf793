//! Requests from a legacy upstream to a client: the id that the client sees says where its answer belongs.
//!
//! So the answer may arrive at any edge, and nobody needs to remember the question.

use http::HeaderValue;
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};
use mcp::json;

use crate::held::Place;
use crate::policy::Permit;
use crate::route::Target;
use crate::session::Owner;
use crate::session::seal::{self, Binding, Purpose, SealError};
use crate::snapshot::Trust;
use crate::transport::Message;

/// Where a client's answer belongs.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerRequestId {
    /// The id of the upstream.
    pub(super) upstream: String,
    /// What the call that asks leads to: who may not call it any more may not answer it either.
    target: Target,
    /// Who waits for the answer.
    pub(super) reply_to: ReplyTo,
    /// The raw id of the upstream's request.
    pub(super) id: String,
}

/// Who waits for an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReplyTo {
    /// A session at the upstream, which any edge can post to.
    Session {
        /// Its id, if it has one.
        id: Option<HeaderValue>,
        /// Its revision.
        version: HeaderValue,
    },
    /// What one edge holds.
    Held(Place),
}

impl ReplyTo {
    /// The session whose messages carry these headers.
    pub(super) fn session(headers: &http::HeaderMap) -> Self {
        let version = headers.get(PROTOCOL_VERSION).cloned();
        Self::Session {
            id: headers.get(SESSION_ID).cloned(),
            version: version.unwrap_or(HeaderValue::from_static("")),
        }
    }
}

/// The id that the client sees of a request that has the raw id `id`.
pub(super) fn seal(
    trust: &Trust,
    owner: Owner<'_>,
    permit: &Permit,
    reply_to: &ReplyTo,
    id: &str,
) -> Result<String, SealError> {
    let number;
    let (kind, first, second): (&[u8], &[u8], &[u8]) = match reply_to {
        ReplyTo::Session { id, version } => {
            (b"s", id.as_ref().map_or(b"", HeaderValue::as_bytes), version.as_bytes())
        }
        ReplyTo::Held(place) => {
            number = place.number.to_be_bytes();
            (b"h", place.edge.as_bytes(), &number)
        }
    };
    let content = seal::join([
        permit.entry().upstream.id.as_bytes(),
        &[permit.noun().code()],
        permit.exposed().as_bytes(),
        kind,
        first,
        second,
        id.as_bytes(),
    ]);
    seal::seal(trust, binding(owner), &content)
}

impl ServerRequestId {
    /// The question that the response of a client answers.
    pub fn answered_by(trust: &Trust, owner: Owner<'_>, message: &Message<'_>) -> Option<Self> {
        open(trust, owner, &json::string(message.envelope.id?).ok()?)
    }

    /// What the call that asks leads to.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

fn open(trust: &Trust, owner: Owner<'_>, text: &str) -> Option<ServerRequestId> {
    let content = seal::open(trust, binding(owner), text)?;
    let [upstream, noun, exposed, kind, first, second, id] = seal::split(&content)?;
    let reply_to = match kind {
        b"s" => ReplyTo::Session {
            id: (!first.is_empty()).then(|| HeaderValue::from_bytes(first)).transpose().ok()?,
            version: HeaderValue::from_bytes(second).ok()?,
        },
        b"h" => ReplyTo::Held(Place {
            edge: std::str::from_utf8(first).ok()?.into(),
            number: u64::from_be_bytes(second.try_into().ok()?),
        }),
        _ => return None,
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let target = Target::read(noun, exposed)?;
    Some(ServerRequestId { upstream: text(upstream)?, target, reply_to, id: text(id)? })
}

fn binding(owner: Owner<'_>) -> Binding<'_> {
    Binding { purpose: Purpose::ServerRequest, server: owner.server, token: owner.token, about: &[] }
}
