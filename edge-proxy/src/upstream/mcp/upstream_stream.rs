//! The stream of a call on its way from the upstream to the client, event by event.
//!
//! A legacy upstream may close the stream and let it be resumed (2025-11-25, polling), which the client does not
//! notice. It must not know how events are written to the client.

mod ending;
mod resumption;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use mcp::border::events::{Take, take};
use mcp::quirk::Quirk;
use mcp::session_loss::Refusal;
use mcp::sse::{self, Event};
use tokio::time::Instant;

use super::in_flight::InFlightGuard;
use super::incoming::{self, Awaited, ResponsePlace, SkippedMessages};
use super::message_source::MessageSource;
use super::reconnect::{self, Reconnect};
use super::response::{is_error_response, is_refusal};
use super::session::{FinalMessage, ServerMessages};
use super::session_messages;
use super::translator::{CallInSession, Translated, Translator};
use crate::error::Fault;
use crate::upstream::Context;
use crate::usage::{Account, Outcome};

/// A call's stream.
pub(in crate::upstream) struct UpstreamStream<T: Translator> {
    pub(super) context: Rc<Context>,
    source: Option<MessageSource>,
    pub(super) translator: T,
    pub(super) account: Option<Account>,
    guard: Option<InFlightGuard>,
    server_messages: Option<ServerMessages>,
    queued: VecDeque<Event>,
    /// The edge's own response to a request of the upstream, and until when there must be room for it.
    reply: Option<(Bytes, Instant)>,
    reconnect: Reconnect,
    outcome: Option<Outcome>,
    skipped: SkippedMessages,
    /// Where the response comes.
    place: ResponsePlace,
    /// How the upstream refused the call, if it did so before the client was sent anything.
    refusal: Option<Refusal>,
    /// False while the first event is awaited: whoever waits for it decides whether the call goes on without a client.
    opened: bool,
    done: bool,
}

/// The next event on the stream, or its end.
pub(super) enum Received {
    /// An event for the client.
    Event(Event),
    /// Server requests that the client must answer.
    ServerRequests,
    /// The end: the client resumes the stream itself.
    HandedOver,
}

impl<T: Translator> UpstreamStream<T> {
    /// Wraps the messages of a call; [`Self::begin`] waits for the first.
    pub(super) fn new(
        context: &Rc<Context>,
        source: Option<MessageSource>,
        translator: T,
        mut guard: Option<InFlightGuard>,
    ) -> Self {
        Self {
            server_messages: guard.as_mut().and_then(|guard| guard.server_messages.take()),
            place: source.as_ref().map_or(ResponsePlace::Shared, MessageSource::place),
            context: Rc::clone(context),
            source,
            translator,
            account: None,
            guard,
            queued: VecDeque::new(),
            reply: None,
            reconnect: Reconnect::default(),
            outcome: None,
            skipped: SkippedMessages::default(),
            refusal: None,
            opened: false,
            done: false,
        }
    }

    /// Waits for the first event of a new stream. Returns how the call was refused, if it was.
    pub(super) async fn begin(
        &mut self,
        account: &mut Option<Account>,
    ) -> (Result<(), Fault>, Option<Refusal>) {
        match self.client_event().await {
            Ok(first) => self.queued.extend(first),
            Err(fault) => {
                self.done = true;
                return (Err(fault), self.refusal.take());
            }
        }
        self.opened = true;
        self.attach_account(account.take());
        (Ok(()), self.refusal.take())
    }

    /// Takes the response, where no message came before it.
    pub(super) fn take_sole_response(&mut self) -> Option<Bytes> {
        let event = self.queued.pop_front_if(|_| self.done)?;
        if let Some(account) = &mut self.account {
            account.response_bytes += event.data.len() as u64;
        }
        Some(event.data)
    }

    /// Returns the next event as it is written to the client, or `None` at the end. Cancel safe.
    pub(in crate::upstream) async fn next(&mut self) -> Option<Bytes> {
        if let Some(queued) = self.queued.pop_front() {
            return Some(self.counted(queued));
        }
        if self.done {
            return None;
        }
        let event = match self.client_event().await {
            Ok(event) => event?,
            Err(fault) => self.failed(fault),
        };
        Some(self.counted(event))
    }

    /// Returns the next message, or `None` at the end, for a client that is sent messages and no events.
    pub(in crate::upstream) async fn message(&mut self) -> Option<Bytes> {
        let message = match self.next_message().await {
            Ok(message) => message?,
            Err(fault) => self.failed(fault).data,
        };
        if let Some(account) = &mut self.account {
            account.response_bytes += message.len() as u64;
        }
        Some(message)
    }

    /// Returns the next message, or the fault of a stream that broke off.
    pub(super) async fn next_message(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let event = match self.queued.pop_front() {
                Some(event) => Some(event),
                None if self.done => None,
                None => self.client_event().await?,
            };
            match event {
                Some(event) if event.data.is_empty() => {}
                event => return Ok(event.map(|event| event.data)),
            }
        }
    }

    /// Returns the response alone, for a client that cannot be sent events.
    pub(in crate::upstream) async fn final_message(&mut self) -> Option<Bytes> {
        let mut latest = None;
        loop {
            let event = match self.queued.pop_front() {
                Some(event) => Some(event),
                None if self.done => return latest,
                None => match self.client_event().await {
                    Ok(event) => event,
                    Err(fault) => Some(self.failed(fault)),
                },
            };
            latest = event.map(|event| event.data).filter(|data| !data.is_empty()).or(latest);
        }
    }

    fn counted(&mut self, event: Event) -> Bytes {
        let event = sse::encode(&event);
        if let Some(account) = &mut self.account {
            account.response_bytes += event.len() as u64;
        }
        event
    }

    /// Returns the next event for the client; parks the call where it must be asked something.
    async fn client_event(&mut self) -> Result<Option<Event>, Fault> {
        if self.server_messages.as_ref().is_some_and(ServerMessages::has_answer) {
            return self.late_messages().await;
        }
        match self.receive().await? {
            Received::Event(event) => {
                match self.server_messages.as_mut().filter(|late| self.done && late.may_come_late()) {
                    Some(server_messages) => {
                        server_messages.hold_answer(event);
                        self.late_messages().await
                    }
                    None => Ok(Some(event)),
                }
            }
            Received::HandedOver => Ok(None),
            Received::ServerRequests => {
                let Some(data) = T::park(self)? else { return Ok(None) };
                self.set_outcome(Outcome::Ok);
                self.done = true;
                Ok(Some(Event { data, ..Event::default() }))
            }
        }
    }

    /// Waits for the next event. Cancel safe.
    pub(super) async fn receive(&mut self) -> Result<Received, Fault> {
        loop {
            self.send_reply().await?;
            let ask_at = self.translator.park_at();
            let Some(source) = &mut self.source else {
                if ask_at.is_some() {
                    return Ok(Received::ServerRequests);
                }
                Box::pin(self.reconnect_now()).await?;
                continue;
            };
            let next = source.next_beside(self.server_messages.as_mut());
            let received = match ask_at {
                None => next.await,
                Some(ask_at) => match tokio::time::timeout_at(ask_at, next).await {
                    Ok(received) => received,
                    Err(_) => return Ok(Received::ServerRequests),
                },
            };
            match received {
                Ok(Some(event)) => {
                    let Some(event) = self.translate_event(event)? else { continue };
                    return Ok(Received::Event(event));
                }
                Ok(None) if self.skipped.has_unnamed() => {
                    let data = self.skipped.take_unnamed().unwrap_or_default();
                    let event = Event { data, ..Event::default() };
                    if let Some(event) = self.translate_event(event)? {
                        return Ok(Received::Event(event));
                    }
                }
                Ok(None) if self.is_resumable() => {
                    self.hand_over();
                    return Ok(Received::HandedOver);
                }
                Ok(None) | Err(Fault::Interrupted) if self.may_reconnect() => self.source = None,
                Ok(None) => return Err(self.ended()),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Translates an event; `None` where it does not concern the client.
    fn translate_event(&mut self, event: Event) -> Result<Option<Event>, Fault> {
        self.reconnect.note(&event);
        let id = event.id.as_deref().filter(|id| id.len() <= reconnect::MAX_EVENT_ID);
        let id = id.and_then(|id| self.translator.resumption_token(id));
        let retry = event.retry.filter(|_| id.is_some());
        let data = match take(&event) {
            Take::Message(_) => self.translate_message(event.data)?,
            // It carries an id to resume from, before the first message.
            Take::Nothing => id.is_some().then(Bytes::new),
            Take::Odd(quirk) => {
                self.note(quirk, event.event.as_deref().unwrap_or_default())?;
                id.is_some().then(Bytes::new)
            }
        };
        Ok(data.map(|data| Event { event: None, data, id, retry }))
    }

    /// Returns messages on the server stream that come after the response, and then the response.
    async fn late_messages(&mut self) -> Result<Option<Event>, Fault> {
        self.done = false;
        while let Some(server_messages) = &mut self.server_messages {
            match server_messages.final_message().await {
                FinalMessage::Answer(answer) => {
                    self.done = true;
                    return Ok(answer);
                }
                FinalMessage::Late(message) => {
                    let data = self.translate_message(message)?;
                    self.send_reply().await?;
                    if let Some(data) = data {
                        return Ok(Some(Event { data, ..Event::default() }));
                    }
                }
            }
        }
        Ok(None)
    }

    fn translate_message(&mut self, mut data: Bytes) -> Result<Option<Bytes>, Fault> {
        self.reconnect.succeeded();
        let translated = match self.translator.translate(&data) {
            Ok(translated) => Ok(translated),
            Err(fault) => self.reconsider(&mut data, fault),
        };
        if !self.opened && is_refusal(&translated) {
            self.refusal = refusal_in(&data);
        }
        let translated = translated?;
        incoming::note_odd(&self.context, self.translator.call(), &data)?;
        match translated {
            Translated::Forward(message) => Ok(Some(message)),
            Translated::Response(message, outcome) => {
                self.set_outcome(outcome);
                self.done = true;
                self.guard = None;
                self.drain_rest();
                Ok(Some(message))
            }
            Translated::Reply(body) => {
                self.reply = Some((body, Instant::now() + self.translator.call().upstream.request_timeout));
                Ok(None)
            }
            Translated::Ignore => Ok(None),
        }
    }

    /// Looks again at a message that could not be translated.
    #[cold]
    fn reconsider(&mut self, data: &mut Bytes, fault: Fault) -> Result<Translated, Fault> {
        let pool = self.context.http_pool(&self.translator.call().upstream)?;
        let own = self.translator.own_id().raw();
        let awaited = Awaited { own: &own, place: self.place, quirks: &pool.quirks };
        let translate = |data: &Bytes| self.translator.translate(data);
        let translated = self.skipped.reconsider(data, fault, &awaited, translate)?;
        Ok(translated.unwrap_or(Translated::Ignore))
    }

    /// Notes a quirk of the upstream, and what it was seen in.
    #[cold]
    fn note(&self, quirk: Quirk, says: &[u8]) -> Result<(), Fault> {
        self.context.http_pool(&self.translator.call().upstream)?.quirks.note(quirk, says);
        Ok(())
    }

    /// Sends the response to a request of the upstream, which is read on when there is room for it. Cancel safe.
    async fn send_reply(&mut self) -> Result<(), Fault> {
        let Some((body, until)) = &self.reply else { return Ok(()) };
        if let Some(CallInSession { session, .. }) = self.translator.in_session() {
            let upstream = &self.translator.call().upstream;
            session_messages::reply(&self.context, upstream, session, body.clone(), *until).await?;
        }
        self.reply = None;
        Ok(())
    }

    /// Sets the outcome. However a call ends that its client has given up, that is its outcome.
    fn set_outcome(&mut self, outcome: Outcome) {
        let outcome = if self.translator.call().active.is_given_up() { Outcome::Cancelled } else { outcome };
        self.outcome = Some(outcome);
        if let Some(account) = &mut self.account {
            account.outcome = outcome;
        }
    }

    /// Counts the stream in this account.
    pub(super) fn attach_account(&mut self, account: Option<Account>) {
        self.account = account;
        if let (Some(outcome), Some(account)) = (self.outcome, &mut self.account) {
            account.outcome = outcome;
        }
    }

    /// Whether its response was read by the client.
    pub(in crate::upstream) fn is_finished(&self) -> bool {
        self.done && self.queued.is_empty()
    }

    /// Whether its response has come.
    pub(in crate::upstream) fn has_response(&self) -> bool {
        self.done
    }

    /// The id of the last event, where the upstream gives its events ids and has a session to resume them in.
    pub(super) fn last_event_id(&self) -> Option<HeaderValue> {
        self.reconnect.last_event_id().cloned()
    }

    /// Sets the longest silence between two chunks, from now on.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        if let Some(source) = &mut self.source {
            source.set_timeout(timeout);
        }
    }

    /// Closes the stream, which will be resumed.
    pub(super) fn close(&mut self) {
        self.source = None;
    }

    /// Takes the rest of the stream, for another reader.
    pub(super) fn take_rest(&mut self) -> Self
    where
        T: Clone,
    {
        let mut rest = Self::new(&self.context, self.source.take(), self.translator.clone(), None);
        std::mem::swap(&mut rest.reconnect, &mut self.reconnect);
        rest
    }

    /// Whether the client can resume the stream itself.
    fn is_resumable(&self) -> bool {
        self.translator.is_resumable() && self.reconnect.last_event_id().is_some()
    }

    fn may_reconnect(&self) -> bool {
        self.translator.in_session().is_some() && self.reconnect.is_allowed()
    }
}

/// Reads a message by which the upstream refuses the call.
#[cold]
fn refusal_in(message: &Bytes) -> Option<Refusal> {
    is_error_response(message).then(|| Refusal::read(StatusCode::OK.as_u16(), message))
}
