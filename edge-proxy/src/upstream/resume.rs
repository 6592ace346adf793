//! Streams of calls that a client was reading, here or at another edge, and goes on with.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};

use super::events::Stream;
use super::legacy::UpstreamSession;
use super::place::Place;
use super::tasked::Tasks;
use super::told::Events;
use super::translate::{Side, Translation};
use crate::policy::Permit;
use crate::route::Target;
use crate::session::Owner;
use crate::snapshot::{Server, Token, Trust};
use crate::worker::Worker;

/// A call's stream that broke off, as the id of the last event that its client had names it.
pub struct Resumption(Vec<u8>);

impl Resumption {
    /// Reads a `Last-Event-ID`; `None` where no edge gave it to this owner.
    pub fn open(trust: &Trust, owner: Owner<'_>, last_event_id: &str) -> Option<Self> {
        Place::open(trust, owner, last_event_id).map(Self)
    }

    /// What was called.
    pub fn target(&self) -> Option<Target> {
        let Place { noun, exposed, .. } = Place::read(&self.0)?;
        Some(Target { noun, exposed: exposed.into() })
    }

    /// The raw id of the request.
    pub fn id(&self) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(Place::read(&self.0)?.id))
    }
}

/// The rest of a stream that broke off. `None` where the target leads elsewhere now.
pub fn resume(
    worker: &Rc<Worker>,
    trust: &Arc<Trust>,
    server: &Arc<Server>,
    token: &Arc<Token>,
    resumption: &Resumption,
    permit: Permit,
) -> Option<Events> {
    let place = Place::read(&resumption.0)?;
    let upstream = Arc::clone(&permit.entry().upstream);
    if *upstream.id != *place.upstream {
        return None;
    }
    let mut headers = worker.upstreams.http_pool(&upstream).ok()?.headers.clone();
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
        permit,
        upstream,
        method: place.method,
        id: Bytes::copy_from_slice(place.id),
        uri_prefix: place.uri_prefix.into(),
        // Only clients that know them all are given ids of events.
        older: None,
        // Nor are any given where a task is begun or waited for.
        tasks: Tasks::None,
        side: Side::Legacy {
            session: Rc::new(UpstreamSession::joined(headers)),
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
