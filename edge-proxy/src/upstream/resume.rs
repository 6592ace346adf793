//! Streams of calls that a client was reading, here or at another edge, and goes on with.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};

use super::upstream_stream::UpstreamStream;
use super::legacy::UpstreamSession;
use super::resumption_token::ResumptionToken;
use super::call_tasks::CallTasks;
use super::answer_stream::AnswerStream;
use super::translation::{UpstreamEra, Translation};
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
        ResumptionToken::open(trust, owner, last_event_id).map(Self)
    }

    /// What was called.
    pub fn target(&self) -> Option<Target> {
        let ResumptionToken { noun, exposed, .. } = ResumptionToken::read(&self.0)?;
        Some(Target { noun, exposed: exposed.into() })
    }

    /// The raw id of the request.
    pub fn id(&self) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(ResumptionToken::read(&self.0)?.id))
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
) -> Option<AnswerStream> {
    let from = ResumptionToken::read(&resumption.0)?;
    let upstream = Arc::clone(&permit.entry().upstream);
    if *upstream.id != *from.upstream {
        return None;
    }
    let mut headers = worker.upstreams.http_pool(&upstream).ok()?.headers.clone();
    headers.insert(PROTOCOL_VERSION, HeaderValue::from_bytes(from.version).ok()?);
    if !from.session.is_empty() {
        headers.insert(SESSION_ID, HeaderValue::from_bytes(from.session).ok()?);
    }
    let progress_token =
        (!from.progress_token.is_empty()).then(|| Bytes::copy_from_slice(from.progress_token));
    let translation = Translation {
        trust: Arc::clone(trust),
        server: Arc::clone(server),
        token: Arc::clone(token),
        permit,
        upstream,
        method: from.method,
        id: Bytes::copy_from_slice(from.id),
        uri_prefix: from.uri_prefix.into(),
        // Only clients that know them all are given ids of events.
        outdated: None,
        // Nor are any given where a task is begun or waited for.
        tasks: CallTasks::None,
        upstream_era: UpstreamEra::Legacy {
            session: Rc::new(UpstreamSession::joined(headers)),
            number: from.number,
            progress_token,
            resumable: true,
            requests: Vec::new(),
            modern_client: None,
        },
    };
    let stream = UpstreamStream::resumed(worker, translation, HeaderValue::from_bytes(from.event).ok()?);
    Some(AnswerStream::Upstream(stream))
}
