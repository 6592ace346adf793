//! One session with a legacy upstream, and its transport. It must not know how it is opened.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as Verb};
use mcp::header::SESSION_ID;

use crate::error::Fault;
use crate::observe::GaugeGuard;
use crate::upstream::connect::{HttpPool, Retry};
use crate::upstream::mcp::channel::ChannelClaim;
use crate::upstream::mcp::reply_queue::ReplyQueue;
use crate::upstream::mcp::server_requests::ReplyTo;

/// Largest body of the upstream's answer to a response.
const MAX_REPLY_RESPONSE: usize = 64 << 10;

/// A session that is open.
pub(in crate::upstream) struct UpstreamSession {
    pub transport: SessionTransport,
    /// The cookies that its opening set, which are in its headers as well.
    cookies: Option<HeaderValue>,
    /// Whether a request was answered in it: only then can the upstream have forgotten it.
    confirmed: Cell<bool>,
    /// The losses of sessions of its upstream that it has outlived.
    outlived: Cell<u64>,
    /// The edge's own responses to the upstream's requests, where messages are requests.
    pub replies: ReplyQueue,
    /// The time until which a parked call or a task needs it.
    kept_until: Cell<Option<Instant>>,
    _counted: Option<GaugeGuard>,
}

/// The transport of a session's messages.
pub(in crate::upstream) enum SessionTransport {
    /// Requests that carry these headers.
    Http(HeaderMap),
    /// A connection, on which a call has this claim.
    Channel(Rc<ChannelClaim>),
}

/// Returns what posts the edge's own responses in a session whose requests carry these headers.
pub(in crate::upstream::mcp) fn post_sender(
    http_pool: Rc<HttpPool>,
    headers: HeaderMap,
    timeout: Duration,
) -> impl AsyncFn(Bytes) -> Result<(), Fault> + 'static {
    async move |reply| {
        let sent = http_pool.send(&Verb::POST, headers.clone(), reply, Retry::IfUnsent, timeout).await?;
        let status = sent.status;
        sent.collect(MAX_REPLY_RESPONSE).await?;
        if status.is_success() { Ok(()) } else { Err(Fault::Status(status.as_u16())) }
    }
}

impl UpstreamSession {
    /// Wraps a session that `initialize` has opened.
    pub(super) fn initialized(headers: HeaderMap, cookies: Option<HeaderValue>, counted: GaugeGuard) -> Self {
        Self {
            transport: SessionTransport::Http(headers),
            cookies,
            confirmed: Cell::new(false),
            outlived: Cell::default(),
            replies: ReplyQueue::default(),
            kept_until: Cell::default(),
            _counted: Some(counted),
        }
    }

    /// Joins a session that was opened elsewhere.
    pub(super) fn joined(headers: HeaderMap, cookies: Option<HeaderValue>) -> Self {
        Self { cookies, ..Self::existing(SessionTransport::Http(headers)) }
    }

    /// Wraps a call's claim on a connection.
    pub(super) fn channel(claim: Rc<ChannelClaim>) -> Self {
        Self::existing(SessionTransport::Channel(claim))
    }

    fn existing(transport: SessionTransport) -> Self {
        Self {
            transport,
            cookies: None,
            confirmed: Cell::new(true),
            outlived: Cell::default(),
            replies: ReplyQueue::default(),
            kept_until: Cell::default(),
            _counted: None,
        }
    }

    /// The headers of every request in it, where messages are requests.
    pub(in crate::upstream) fn headers(&self) -> Option<&HeaderMap> {
        match &self.transport {
            SessionTransport::Http(headers) => Some(headers),
            SessionTransport::Channel(_) => None,
        }
    }

    /// The address of responses to the upstream's requests in it; `None` when this edge holds too many.
    pub(in crate::upstream) fn reply_to(&self) -> Option<ReplyTo> {
        match &self.transport {
            SessionTransport::Http(_) => {
                Some(ReplyTo::Session { address: self.address().into(), version: self.version().into() })
            }
            SessionTransport::Channel(claim) => claim.reply_address().map(ReplyTo::Held),
        }
    }

    /// The cookies that its opening set.
    pub(super) fn cookies(&self) -> Option<&HeaderValue> {
        self.cookies.as_ref()
    }

    /// Keeps it open for so long, though it may seem unused: a call is parked in it, or a task was created.
    pub(in crate::upstream) fn keep_for(&self, time: Duration) {
        self.kept_until.set(self.kept_until.get().max(Some(Instant::now() + time)));
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept_until.get().is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn has_id(&self) -> bool {
        self.headers().is_some_and(|headers| headers.contains_key(SESSION_ID))
    }

    /// Notes that a request was answered in it.
    pub(in crate::upstream::mcp) fn confirm(&self) {
        self.confirmed.set(true);
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed.get()
    }

    /// Notes that it was found alive after so many losses.
    pub(super) fn note_losses(&self, losses: u64) {
        self.outlived.set(losses);
    }

    /// Whether it is known to have outlived so many losses.
    #[inline]
    pub(super) fn has_outlived(&self, losses: u64) -> bool {
        self.outlived.get() == losses
    }
}
