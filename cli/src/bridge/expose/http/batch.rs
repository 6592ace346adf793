//! Batches over Streamable HTTP, which only revision 2025-03-26 has: split, answered one by one, and joined again, as an
//! edge does.

use axum::response::{IntoResponse as _, Response};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use mcp::border::{Peer, ids, mend};
use mcp::error::INVALID_REQUEST;
use mcp::message::{Envelope, EnvelopeError, Kind, split_batch};
use mcp::revision::Revision;

use super::{Refusal, legacy_child, refuse, session};
use crate::bridge::errors::BridgeError;
use crate::bridge::expose::instances::Instance;
use crate::bridge::expose::multiplexer::ClientId;
use crate::bridge::expose::response::{self, PendingCall, pong};
use crate::bridge::expose::sessions::OpenSession;
use crate::bridge::expose::supervised_child::SupervisedChild;

/// The messages that one batch may hold.
const MAX: usize = 64;

/// Answers all requests of a batch with one array, or with 202 where it has none.
pub(super) async fn answer(
    instance: &Instance,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Refusal> {
    let OpenSession { client, revision } = session(instance, headers, None)?;
    let bad = |why: &str| refuse(StatusCode::BAD_REQUEST, None, INVALID_REQUEST, why);
    if revision > Revision::V2025_03_26 {
        return Err(bad("batches are not part of this revision"));
    }
    let spans = split_batch(body)
        .map_err(|error| refuse(StatusCode::BAD_REQUEST, None, error.code(), &error.to_string()))?;
    if spans.len() > MAX {
        return Err(bad(&format!("the batch is too large; the maximum is {MAX} messages")));
    }
    let child = legacy_child(instance, None).await?.0;
    let mut answers = BytesMut::new();
    for span in spans {
        if let Some(answer) = one(&child, client, &body.slice(span)).await {
            answers.put_u8(if answers.is_empty() { b'[' } else { b',' });
            answers.put(answer);
        }
    }
    if answers.is_empty() {
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    answers.put_u8(b']');
    Ok(response::json(StatusCode::OK, answers.freeze()))
}

/// Answers one message, if it is a request or cannot be read.
async fn one(child: &SupervisedChild, client: ClientId, body: &Bytes) -> Option<Bytes> {
    let unreadable = |error: &EnvelopeError| {
        Some(mcp::error::render(ids::id_of_unreadable(body), error.code(), &error.to_string(), None))
    };
    let meant = match Envelope::parse(body) {
        Ok(message) => return response_to(child, client, body, &message).await,
        Err(error) => mend(body, error, Peer::Client),
    };
    match meant {
        Ok(mended) => match Envelope::parse(&mended.message) {
            Ok(message) => response_to(child, client, &mended.message, &message).await,
            Err(error) => unreadable(&error),
        },
        Err(refused) => unreadable(&refused.error),
    }
}

async fn response_to(
    child: &SupervisedChild,
    client: ClientId,
    body: &Bytes,
    message: &Envelope<'_>,
) -> Option<Bytes> {
    let refuse = |code, why: &str| Some(mcp::error::render(message.id, code, why, None));
    match (message.kind(), message.method.as_deref()) {
        (Kind::Notification, _) => child.notify(client, body, message),
        // One that belongs to no request has nobody to tell.
        (Kind::Response, _) => {
            child.respond(client, body, message);
        }
        (Kind::Request, Some("ping")) => return message.id.map(pong),
        (Kind::Request, Some("initialize")) => {
            return refuse(INVALID_REQUEST, "initialize must not be part of a batch");
        }
        (Kind::Request, _) => {
            return match child.call(client, body, message) {
                Some(items) => PendingCall { items, client: None }.last().await,
                None => Some(BridgeError::TooManyCalls.render(message.id, "too many calls are in flight")),
            };
        }
    }
    None
}
