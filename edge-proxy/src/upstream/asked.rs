//! Requests from a legacy upstream to a client: the id that the client sees says where its answer belongs.
//!
//! So the answer may arrive at any edge, and nobody needs to remember the question.

use http::HeaderValue;
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};

use super::legacy::Open;
use crate::session::Owner;
use crate::session::seal::{self, Binding, Purpose, SealError};
use crate::snapshot::{Trust, Upstream};

/// Where a client's answer belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The id of the upstream.
    pub upstream: String,
    /// The session there, if it has one.
    pub session: Option<HeaderValue>,
    /// The revision of that session.
    pub version: HeaderValue,
    /// The raw id of the upstream's request.
    pub id: String,
}

/// The id that the client sees of a request that has the raw id `id` in `session`.
pub(super) fn seal(
    trust: &Trust,
    owner: Owner<'_>,
    upstream: &Upstream,
    session: &Open,
    id: &str,
) -> Result<String, SealError> {
    let header = |name: &str| session.headers.get(name).map_or(b"".as_slice(), HeaderValue::as_bytes);
    let content =
        seal::join([upstream.id.as_bytes(), header(SESSION_ID), header(PROTOCOL_VERSION), id.as_bytes()]);
    seal::seal(trust, binding(owner), &content)
}

/// What an id that a client answers was made of.
pub(super) fn open(trust: &Trust, owner: Owner<'_>, text: &str) -> Option<Question> {
    let content = seal::open(trust, binding(owner), text)?;
    let [upstream, session, version, id] = seal::split(&content)?;
    let session = (!session.is_empty()).then(|| HeaderValue::from_bytes(session)).transpose().ok()?;
    Some(Question {
        upstream: String::from_utf8(upstream.to_vec()).ok()?,
        session,
        version: HeaderValue::from_bytes(version).ok()?,
        id: String::from_utf8(id.to_vec()).ok()?,
    })
}

fn binding(owner: Owner<'_>) -> Binding<'_> {
    Binding { purpose: Purpose::ServerRequest, server: owner.server, token: owner.token, about: &[] }
}
