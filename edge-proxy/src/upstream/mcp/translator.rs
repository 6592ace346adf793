//! The translation of one call's messages, as the stream of the call sees it. Each path has a translator of its own, with
//! the fields that this path needs.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mcp::message::Envelope;
use mcp::method::Method;
use mcp::revision::Era;
use tokio::time::Instant;

use super::malformed;
use super::rewrite::notifications;
use super::session::UpstreamSession;
use super::upstream_stream::UpstreamStream;
use crate::error::Fault;
use crate::identity::Principal;
use crate::policy::SharedPermit;
use crate::session::HandleOwner;
use crate::snapshot::{Server, Trust, Upstream};
use crate::upstream::{Call, Context};
use crate::usage::Outcome;

/// The parts of a call that every translator needs.
#[derive(Clone)]
pub(in crate::upstream) struct CallContext {
    /// The keys that handles are sealed with.
    pub trust: Arc<Trust>,
    pub server: Arc<Server>,
    pub principal: Arc<Principal>,
    pub upstream: Arc<Upstream>,
    pub method: Method,
    /// The raw id of the client's request.
    pub id: Bytes,
    /// The prefix of URIs that the client sees.
    pub uri_prefix: Box<str>,
    /// The permit of the call, for what goes on after the request.
    pub active: SharedPermit,
}

/// A call as the session with its legacy upstream has it.
#[derive(Clone)]
pub(in crate::upstream) struct CallInSession {
    pub session: Rc<UpstreamSession>,
    /// The id and progress token of the call in that session.
    pub number: u64,
    /// The raw progress token of the client's request.
    pub progress_token: Option<Bytes>,
}

/// The id of a request at its upstream.
#[derive(Debug, Clone, Copy)]
pub(in crate::upstream) enum OwnId<'a> {
    /// A number of the edge.
    Number(u64),
    /// The client's own, raw.
    Raw(&'a Bytes),
}

/// A message of an upstream, translated.
#[derive(Debug)]
pub(in crate::upstream) enum Translated {
    /// The response to the call.
    Response(Bytes, Outcome),
    /// A message for the client.
    Forward(Bytes),
    /// A request that the edge answers in place of the client, with this message.
    Reply(Bytes),
    /// A message that does not concern the client now.
    Ignore,
}

/// The way in which a call ends whose client hangs up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum HangUp {
    /// It is cancelled by a message.
    Cancels,
    /// It is cancelled by closing its connection.
    Closes,
    /// It goes on, as the legacy era has it.
    Continues,
}

/// The translator of one call's messages, from an upstream to its client.
pub(in crate::upstream) trait Translator: Sized {
    /// The era of the client.
    const CLIENT_ERA: Era;
    /// The end of a call whose client hangs up.
    const HANG_UP: HangUp;

    fn call(&self) -> &CallContext;

    /// The id of the call at the upstream.
    fn own_id(&self) -> OwnId<'_>;

    /// Translates a message.
    fn translate(&mut self, message: &Bytes) -> Result<Translated, Fault>;

    /// The call in its session, in which its stream can be resumed and the edge answers for the client.
    fn in_session(&self) -> Option<&CallInSession> {
        None
    }

    /// Cancels the call with a message, where dropping its connection does not.
    fn cancel(&self, _context: &Rc<Context>, _why: &str) {}

    /// The longest silence of the upstream.
    fn response_timeout(&self) -> Duration {
        self.call().upstream.request_timeout
    }

    /// Seals the event id with which the client may resume the stream, at any edge.
    fn resumption_token(&self, _event: &[u8]) -> Option<Bytes> {
        None
    }

    /// Returns whether the client may resume the stream.
    fn is_resumable(&self) -> bool {
        false
    }

    /// The time at which the call is to be parked, so that its client is asked for input.
    fn park_at(&self) -> Option<Instant> {
        None
    }

    /// Parks the call; returns the response that asks the client for input. `None` where calls are not parked.
    fn park(_stream: &mut UpstreamStream<Self>) -> Result<Option<Bytes>, Fault> {
        Ok(None)
    }
}

impl CallContext {
    pub(super) fn of(call: &Call<'_>) -> Self {
        let entry = call.permit.entry();
        Self {
            trust: Arc::clone(call.trust),
            server: Arc::clone(call.server),
            principal: Arc::clone(call.principal),
            upstream: Arc::clone(&entry.upstream),
            method: call.method,
            id: call.id(),
            uri_prefix: entry.uri_prefix.clone(),
            active: call.active.clone(),
        }
    }

    /// Translates a notification that is not about one request or task; `None` for what the client is not to be told.
    pub(super) fn notification(
        &self,
        message: &Bytes,
        envelope: &Envelope<'_>,
    ) -> Result<Option<Bytes>, Fault> {
        notifications::general(message, envelope, |uri| self.active.readable(uri)).map_err(malformed)
    }

    /// Translates a notification of a modern upstream in this call, of which `token` is the client's raw progress token;
    /// `None` for what the client is not to be told.
    pub(super) fn modern_notification(
        &self,
        message: &Bytes,
        envelope: &Envelope<'_>,
        token: Option<&Bytes>,
    ) -> Result<Option<Bytes>, Fault> {
        match envelope.method.as_deref().and_then(Method::parse) {
            Some(Method::Progress) => {
                notifications::own_progress(message, envelope, token).map_err(malformed)
            }
            // Upstreams of the modern era have no requests that they could cancel, and tasks are followed by subscriptions.
            Some(Method::Cancelled | Method::TasksStatus | Method::ElicitationComplete) => Ok(None),
            _ => self.notification(message, envelope),
        }
    }

    /// The owner of handles that are sealed in messages.
    pub(super) fn owner(&self) -> HandleOwner<'_> {
        HandleOwner { server: &self.server.uid, principal: &self.principal.uid }
    }
}

impl OwnId<'_> {
    /// The raw id.
    pub(super) fn raw(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Raw(raw) => String::from_utf8_lossy(raw).into_owned(),
        }
    }
}

impl CallInSession {
    /// Returns whether a raw id is that of the call.
    pub(super) fn is_own_id(&self, id: &str) -> bool {
        id.parse() == Ok(self.number)
    }
}
