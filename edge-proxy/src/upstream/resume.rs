//! Streams of calls that a client was reading, here or at another edge, and goes on with.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};

use super::events::Stream;
use super::legacy::Open;
use super::place::Place;
use super::tasked::Tasks;
use super::told::Events;
use super::translate::{Side, Translation};
use crate::session::Owner;
use crate::snapshot::{Server, Token, Trust};
use crate::worker::Worker;

/// The rest of the stream in which the client had the event with this id, if that was a call's stream.
pub fn resume(
    worker: &Rc<Worker>,
    trust: &Arc<Trust>,
    server: &Arc<Server>,
    token: &Arc<Token>,
    last_event_id: &str,
) -> Option<Events> {
    let owner = Owner { server: &server.uid, token: &token.uid };
    let content = Place::open(trust, owner, last_event_id)?;
    let place = Place::read(&content)?;
    let upstream = server.upstreams.iter().find(|upstream| *upstream.id == *place.upstream)?;
    let mut headers = worker.upstreams.endpoint(upstream).ok()?.headers.clone();
    headers.insert(PROTOCOL_VERSION, HeaderValue::from_bytes(place.version).ok()?);
    if !place.session.is_empty() {
        headers.insert(SESSION_ID, HeaderValue::from_bytes(place.session).ok()?);
    }
    let progress_token =
        (!place.progress_token.is_empty()).then(|| Bytes::copy_from_slice(place.progress_token));
    let translation = Translation {
        trust: Arc::clone(trust),
        server: Arc::clone(server),
        token: Arc::clone(token),
        upstream: Arc::clone(upstream),
        method: place.method,
        id: Bytes::copy_from_slice(place.id),
        uri_prefix: place.uri_prefix.into(),
        // Only clients that know them all are given ids of events.
        older: None,
        // Nor are any given where a task is begun or waited for.
        tasks: Tasks::None,
        side: Side::Legacy {
            session: Rc::new(Open::joined(headers)),
            number: place.number,
            progress_token,
            resumable: true,
            requests: Vec::new(),
            guest: None,
        },
    };
    let stream = Stream::resumed(worker, translation, HeaderValue::from_bytes(place.event).ok()?);
    Some(Events::Upstream(stream))
}
