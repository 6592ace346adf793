//! Sealed ids of server requests: they say where the client's response goes.
//!
//! So the response may arrive at any edge, and no edge remembers the request.

use mcp::json;

use crate::policy::Permit;
use crate::route::Target;
use crate::session::seal::{self, HandleBinding, Purpose, SealError};
use crate::session::{HandleOwner, SessionId, WaiterAddress, session_text};
use crate::snapshot::Trust;
use crate::transport::Message;

/// The id of a server request, as the client was given it.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerRequestId {
    /// The id of the upstream.
    pub(in crate::upstream) upstream: String,
    /// The target of the call: a client that may no longer call it may not answer it either.
    target: Target,
    /// The name or URI that the upstream knows that target by.
    pub(in crate::upstream) original: String,
    /// What rules judged the arguments of the call by.
    judged_by: Option<u128>,
    /// The address of the response.
    pub(in crate::upstream) reply_to: ReplyTo,
    /// The raw id of the upstream's request.
    pub(in crate::upstream) id: String,
}

/// The address of the response to a server request.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::upstream) enum ReplyTo {
    /// A session with the upstream, which any edge can post to.
    Session {
        /// Its address.
        address: Box<[u8]>,
        /// Its revision.
        version: Box<[u8]>,
    },
    /// A call that waits at one edge.
    Held(WaiterAddress),
}

/// Seals the id for the client of a request with the raw id `id`, made in a call of this session.
pub(in crate::upstream) fn seal(
    trust: &Trust,
    owner: HandleOwner<'_>,
    session_id: &SessionId,
    permit: &Permit,
    reply_to: &ReplyTo,
    id: &str,
) -> Result<String, SealError> {
    let number;
    let (kind, first, second): (&[u8], &[u8], &[u8]) = match reply_to {
        ReplyTo::Session { address, version } => (b"s", address, version),
        ReplyTo::Held(place) => {
            number = place.number.to_be_bytes();
            (b"h", place.edge.as_bytes(), &number)
        }
    };
    let content = seal::join_judged(
        permit.judged_by(),
        [
            permit.entry().upstream.id.as_bytes(),
            &[permit.kind().code()],
            permit.exposed().as_bytes(),
            kind,
            first,
            second,
            id.as_bytes(),
            permit.original().as_bytes(),
        ],
    );
    let mut text = [0; 32];
    seal::seal(trust, binding(owner, &[session_text(session_id, &mut text)]), &content)
}

impl ServerRequestId {
    /// Opens the id of the request that a client's response answers. It opens only in the session that was asked: what
    /// another client of the same principal answers is no answer of this one.
    pub fn answered_by(
        trust: &Trust,
        owner: HandleOwner<'_>,
        session_id: &SessionId,
        message: &Message<'_>,
    ) -> Option<Self> {
        open(trust, owner, session_id, &json::string(message.envelope.id?).ok()?)
    }

    /// The target of the call that the request was made in.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What rules judged the arguments of that call by.
    pub fn judged_by(&self) -> Option<u128> {
        self.judged_by
    }
}

fn open(
    trust: &Trust,
    owner: HandleOwner<'_>,
    session_id: &SessionId,
    text: &str,
) -> Option<ServerRequestId> {
    let mut buffer = [0; 32];
    let content = seal::open(trust, binding(owner, &[session_text(session_id, &mut buffer)]), text)?;
    let (judged_by, parts) = seal::split_judged(&content)?;
    let [upstream, target_kind, exposed, kind, first, second, id, original] = parts;
    let reply_to = match kind {
        b"s" => ReplyTo::Session { address: first.into(), version: second.into() },
        b"h" => ReplyTo::Held(WaiterAddress {
            edge: std::str::from_utf8(first).ok()?.into(),
            number: u64::from_be_bytes(second.try_into().ok()?),
        }),
        _ => return None,
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let target = Target::read(target_kind, exposed)?;
    let [upstream, original, id] = [text(upstream)?, text(original)?, text(id)?];
    Some(ServerRequestId { upstream, target, original, judged_by, reply_to, id })
}

fn binding<'a>(owner: HandleOwner<'a>, about: &'a [&'a str]) -> HandleBinding<'a> {
    HandleBinding { purpose: Purpose::ServerRequest, server: owner.server, principal: owner.principal, about }
}
