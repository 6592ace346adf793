//! The translation of one call's messages, as the stream of the call sees it. Each path has a translator of its own, with
//! the fields that this path needs.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mcp::border::{Spelling, ids};
use mcp::mentions;
use mcp::message::Envelope;
use mcp::method::Method;
use mcp::quirk::{Quirk, Quirks};
use mcp::revision::Era;
use mcp::splice::Splice;
use tokio::time::Instant;

use super::malformed;
use super::rewrite::{masks, notifications, uris};
use super::session::UpstreamSession;
use super::upstream_stream::UpstreamStream;
use crate::error::{Failure, Fault};
use crate::identity::Principal;
use crate::os::clock;
use crate::policy::SharedPermit;
use crate::session::seal::SealError;
use crate::session::{HandleOwner, HeldState};
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
    /// What was odd in the message that was translated last.
    pub odd: Cell<Quirks>,
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

    /// Translates a message of which nothing has to be taken away any more.
    fn translate_shown(&mut self, message: &Bytes) -> Result<Translated, Fault>;

    /// Translates a message, without what rules mask of the result.
    fn translate(&mut self, message: &Bytes) -> Result<Translated, Fault> {
        if self.call().active.masks().is_none() {
            return self.translate_shown(message);
        }
        match self.call().shown(message)? {
            Some(shown) => self.translate_shown(&shown),
            None => Ok(Translated::Ignore),
        }
    }

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
            odd: Cell::default(),
        }
    }

    /// Returns whether a raw id is that of the call, which its upstream knows as `own`.
    pub(super) fn is_own(&self, own: OwnId<'_>, id: &str) -> bool {
        match own.spelling(id) {
            Some(Spelling::Exact) => true,
            Some(Spelling::Other) => {
                self.note_odd(Quirk::IdsRespelt);
                true
            }
            None => false,
        }
    }

    /// A message of the call without what rules mask of its result; `None` for one that is for nobody then.
    #[cold]
    pub(super) fn shown(&self, message: &Bytes) -> Result<Option<Bytes>, Fault> {
        match self.active.masks() {
            Some(masks) => masks::take_away(message, masks),
            None => Ok(Some(message.clone())),
        }
    }

    /// The failure that the client is told of.
    pub(super) fn failure(&self, fault: Fault) -> Failure {
        let fault = if self.active.masks().is_some() { fault.unquoted() } else { fault };
        Failure::upstream(&self.upstream.id, fault)
    }

    #[cold]
    fn note_odd(&self, quirk: Quirk) {
        let mut odd = self.odd.get();
        odd.note(quirk);
        self.odd.set(odd);
    }

    /// Translates a notification that is not about one request or task; `None` for what the client is not to be told.
    pub(super) fn notification(
        &self,
        message: &Bytes,
        envelope: &Envelope<'_>,
    ) -> Result<Option<Bytes>, Fault> {
        notifications::general(message, envelope, |uri| self.active.readable().find(uri)).map_err(malformed)
    }

    /// Translates a notification of a modern upstream in this call, of which `token` is the client's raw progress token, and
    /// `number` the one at the upstream where that is not the same; `None` for what the client is not to be told.
    pub(super) fn modern_notification(
        &self,
        message: &Bytes,
        envelope: &Envelope<'_>,
        token: Option<&Bytes>,
        number: Option<u64>,
    ) -> Result<Option<Bytes>, Fault> {
        match envelope.method.as_deref().and_then(Method::parse) {
            Some(Method::Progress) => match number {
                None => notifications::own_progress(message, envelope, token),
                Some(number) => notifications::progress(message, envelope, number, token),
            }
            .map_err(malformed),
            // Upstreams of the modern era have no requests that they could cancel, and tasks are followed by subscriptions.
            Some(Method::Cancelled | Method::TasksStatus | Method::ElicitationComplete) => Ok(None),
            _ => self.notification(message, envelope),
        }
    }

    /// Translates the URIs in a result into those that the client knows.
    pub(super) fn expose_uris<'a>(
        &self,
        edits: Splice<'a>,
        message: &Bytes,
        result: &str,
    ) -> Result<Splice<'a>, Fault> {
        let edits = uris::expose(edits, message, result, self.method, &self.uri_prefix).map_err(malformed)?;
        if !self.server.renames_uris {
            return Ok(edits);
        }
        let mut readable = self.active.readable();
        let exposed = |uri: &str| readable.find(uri);
        mentions::in_result(edits, message, result, self.method, exposed).map_err(malformed)
    }

    /// Translates the URIs in a request that samples; `None` for one that mentions none.
    pub(super) fn expose_sampling(
        &self,
        message: &Bytes,
        envelope: &Envelope<'_>,
    ) -> Result<Option<Bytes>, Fault> {
        if !self.server.renames_uris
            || envelope.method.as_deref() != Some(Method::SamplingCreateMessage.as_str())
        {
            return Ok(None);
        }
        let mut readable = self.active.readable();
        let exposed = |uri: &str| readable.find(uri);
        let params = envelope.params.unwrap_or("{}");
        let edits = mentions::in_sampling(Splice::new(), message, params, exposed).map_err(malformed)?;
        Ok((!edits.is_empty()).then(|| edits.apply(message)))
    }

    /// The `requestState` by which a modern client goes on with the call, of which `state` is what is sealed already; empty: nothing is.
    /// One that was approved is not to be approved again.
    pub(super) fn request_state(&self, exposed: &str, state: String) -> Result<String, SealError> {
        match self.active.begun().map(HeldState::Begun) {
            None => Ok(state),
            Some(begun) => begun.seal(&self.trust, self.owner(), exposed, &state, clock::now()),
        }
    }

    /// The owner of handles that are sealed in messages.
    pub(super) fn owner(&self) -> HandleOwner<'_> {
        HandleOwner { server: &self.server.uid, principal: &self.principal.uid }
    }
}

impl OwnId<'_> {
    /// How a raw id spells this one; `None` if it is that of another request.
    #[inline]
    fn spelling(self, id: &str) -> Option<Spelling> {
        match self {
            Self::Number(number) => ids::denotes(id, number),
            Self::Raw(own) if id.as_bytes() == own => Some(Spelling::Exact),
            Self::Raw(own) => ids::same(id, std::str::from_utf8(own).ok()?),
        }
    }

    /// The raw id.
    pub(super) fn raw(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Raw(raw) => String::from_utf8_lossy(raw).into_owned(),
        }
    }
}
