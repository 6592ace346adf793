//! The session with an upstream that clients share: initialized when needed, ended when idle, and its log level.
//!
//! It must not know calls. How a session that the upstream has forgotten is re-established is in `reestablish`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::COOKIE;
use http::{HeaderValue, Method as Verb};
use mcp::border::cookies::{beside, cookies};
use mcp::header::{PROTOCOL_VERSION, SESSION_ID, session_id};
use mcp::json;
use mcp::quirk::Quirk;
use mcp::revision::Revision;
use mcp::session_loss::{Ending, Ping};
use mcp::version_refusal::refuses_revision;

use super::exclusive_sessions::{ExclusiveSession, SessionHolder};
use super::handshake;
use super::heal::Healing;
use super::server_stream::{MessageSubscribers, ServerMessages, ServerStream, SessionUse};
use super::session_key::SessionKey;
use super::session_losses::UpstreamLosses;
use super::upstream_session::{SessionTransport, UpstreamSession};
use crate::error::Fault;
use crate::observe::Gauge;
use crate::session::LogLevel;
use crate::snapshot::{McpUpstream, Upstream};
use crate::upstream::connect::HttpResponse;
use crate::upstream::connect::{HttpPool, Retry};
use crate::upstream::mcp::channel::ChannelPool;
use crate::upstream::mcp::message_source::RawResponse;
use crate::upstream::mcp::response::{is_error_response, read_rpc_body, read_rpc_response};

/// Largest response to a message that is not a call.
const MAX_SMALL_RESPONSE: usize = 256 << 10;
/// Longest wait for the end of a session.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for what a server says to `notifications/initialized`.
const INITIALIZED_TIMEOUT: Duration = Duration::from_secs(1);

/// The session that clients of one key share, opened when needed.
pub(in crate::upstream) struct SessionPool {
    pub http_pool: Rc<HttpPool>,
    pub(super) upstream: Arc<Upstream>,
    /// True if the upstream takes log levels.
    logs: bool,
    key: SessionKey,
    /// The sessions, where connections are sessions; `session` is then empty.
    channels: Option<ChannelPool>,
    session: RefCell<Option<Rc<UpstreamSession>>>,
    opening: tokio::sync::Mutex<()>,
    pub(super) healing: Healing,
    pub(super) losses: Arc<UpstreamLosses>,
    /// The raw level that clients asked for with `logging/setLevel`.
    level: RefCell<Option<Bytes>>,
    subscribers: MessageSubscribers,
    server_stream: RefCell<Option<ServerStream>>,
    used: Cell<Instant>,
    gauge: Gauge,
    /// The count of the session, where it is one conversation's own.
    exclusive: RefCell<Option<ExclusiveSession>>,
}

/// What became of a session that may be lost.
pub(super) enum Renewed {
    /// Another was opened in its place before.
    Before(Rc<UpstreamSession>),
    /// Another has been opened.
    Now(Rc<UpstreamSession>),
    /// A new one is no better, so it stays.
    Not,
}

impl SessionPool {
    pub(in crate::upstream) fn new(
        http_pool: Rc<HttpPool>,
        upstream: Arc<Upstream>,
        mcp: &McpUpstream,
        key: SessionKey,
        level: Option<Bytes>,
        gauge: Gauge,
        exclusive: Option<ExclusiveSession>,
    ) -> Self {
        let channels = mcp.transport.is_channel().then(|| {
            let (http_pool, upstream) = (Rc::clone(&http_pool), Arc::clone(&upstream));
            ChannelPool::new(http_pool, upstream, mcp.transport, key, gauge.clone())
        });
        if let (Some(channels), Some(level)) = (&channels, &level) {
            channels.set_level(level);
        }
        Self {
            losses: http_pool.session_losses().of(key.connection),
            http_pool,
            logs: mcp.logs(),
            upstream,
            key,
            channels,
            session: RefCell::default(),
            opening: tokio::sync::Mutex::default(),
            healing: Healing::default(),
            level: RefCell::new(level),
            subscribers: MessageSubscribers::default(),
            server_stream: RefCell::default(),
            used: Cell::new(Instant::now()),
            gauge,
            exclusive: RefCell::new(exclusive),
        }
    }

    /// Makes the call of this number in the session.
    pub(in crate::upstream) async fn call(
        &self,
        number: u64,
        body: &Bytes,
        retry: Retry,
    ) -> Result<(RawResponse, Rc<UpstreamSession>), Fault> {
        let Some(channels) = &self.channels else {
            if self.lacks_server_stream() {
                Box::pin(self.open_server_stream()).await?;
            }
            let (response, session) = self.send(body, retry).await?;
            return Ok((RawResponse::Http(response), session));
        };
        self.used.set(Instant::now());
        let level = self.level.borrow().clone();
        let messages = channels.call(number, body, retry, level.as_ref()).await?;
        let session = Rc::new(UpstreamSession::channel(messages.claim()));
        Ok((RawResponse::Channel(messages), session))
    }

    /// Sends a message in a session.
    pub(in crate::upstream) async fn post(
        &self,
        session: &UpstreamSession,
        body: Bytes,
        retry: Retry,
    ) -> Result<HttpResponse, Fault> {
        self.used.set(Instant::now());
        let headers = session.headers().cloned().unwrap_or_default();
        self.http_pool.send(&Verb::POST, headers, body, retry, self.upstream.request_timeout).await
    }

    /// Cancels the call of this number with this notification.
    pub(in crate::upstream) async fn cancel(&self, number: u64, notification: Bytes) {
        if let Some(channels) = &self.channels {
            channels.cancel(number, notification);
        } else if let Some(session) = self.current()
            && let Ok(response) = self.post(&session, notification, Retry::IfUnsent).await
            && response.collect(MAX_SMALL_RESPONSE).await.is_err()
        {
            tracing::debug!("cannot deliver a notification to an upstream");
        }
    }

    /// Returns the session, if it is open.
    pub(in crate::upstream) fn current(&self) -> Option<Rc<UpstreamSession>> {
        self.session.borrow().clone()
    }

    /// Returns the session; opens it where it is not. Calls that come meanwhile wait for it.
    pub(in crate::upstream) async fn session(&self) -> Result<Rc<UpstreamSession>, Fault> {
        if let Some(session) = self.current() {
            return Ok(session);
        }
        let _opening = self.opening.lock().await;
        match self.current() {
            Some(session) => Ok(session),
            None => Box::pin(self.open()).await,
        }
    }

    /// Opens another session in the place of one in which a call and a ping failed, unless that was done already. Where none can be
    /// opened, or a ping in it fails alike, the old one stays.
    pub(super) async fn renew(
        &self,
        lost: &Rc<UpstreamSession>,
        ending: &Ending,
        ping: &Ping,
    ) -> Result<Renewed, Fault> {
        let _opening = self.opening.lock().await;
        if let Some(session) = self.current().filter(|current| !Rc::ptr_eq(current, lost)) {
            return Ok(Renewed::Before(session));
        }
        let session = Box::pin(self.open_beside()).await?;
        if self.is_no_better(&session, lost, ending, ping).await {
            self.end(&session).await;
            return Ok(Renewed::Not);
        }
        self.put(&session).await;
        Ok(Renewed::Now(session))
    }

    /// Opens a session, from now on the one that calls are made in.
    async fn open(&self) -> Result<Rc<UpstreamSession>, Fault> {
        let session = self.open_beside().await?;
        self.put(&session).await;
        Ok(session)
    }

    async fn open_beside(&self) -> Result<Rc<UpstreamSession>, Fault> {
        let losses = self.losses.count();
        let session = Rc::new(self.initialize().await?);
        session.note_losses(losses);
        let level = self.level.borrow().clone();
        if let Some(level) = level {
            self.post_level(&session, &level).await;
        }
        Ok(session)
    }

    /// Makes this session the one that calls are made in.
    async fn put(&self, session: &Rc<UpstreamSession>) {
        let has_stream = self.session_use() == SessionUse::Own || self.server_stream.borrow().is_some();
        if has_stream && matches!(session.transport, SessionTransport::Http(_)) {
            self.read_server_stream(session).await;
        }
        *self.session.borrow_mut() = Some(Rc::clone(session));
    }

    /// Whether a call wants the messages of a stream that was not opened with the session.
    #[inline]
    fn lacks_server_stream(&self) -> bool {
        self.server_stream.borrow().is_none() && self.subscribers.are_waiting()
    }

    #[cold]
    async fn open_server_stream(&self) -> Result<(), Fault> {
        let session = self.session().await?;
        let _opening = self.opening.lock().await;
        let is_current = self.current().is_some_and(|current| Rc::ptr_eq(&current, &session));
        if is_current && self.server_stream.borrow().is_none() {
            self.read_server_stream(&session).await;
        }
        Ok(())
    }

    async fn read_server_stream(&self, session: &Rc<UpstreamSession>) {
        let (session, timeout) = ((session, self.session_use()), self.upstream.request_timeout);
        let server_stream = ServerStream::open(&self.http_pool, session, &self.subscribers, timeout).await;
        *self.server_stream.borrow_mut() = Some(server_stream);
    }

    fn session_use(&self) -> SessionUse {
        if self.key.conversation.is_some() { SessionUse::Own } else { SessionUse::Shared }
    }

    /// Opens a session with the first revision that the upstream takes.
    async fn initialize(&self) -> Result<UpstreamSession, Fault> {
        let (offer, fallback) = handshake::offers(self.key.revision, &self.upstream);
        let begin = async |offer, is_last| {
            let session = self.initialize_as(offer).await?;
            if self.say_initialized(&session).await? || is_last {
                return Ok(session);
            }
            if session.has_id() {
                self.end(&session).await;
            }
            Err(Fault::Session(format!("refuses {offer}")))
        };
        let fallback = match (begin(offer, fallback.is_none()).await, fallback) {
            (Err(fault), Some(fallback)) if handshake::may_be_about_revision(&fault) => fallback,
            (opened, _) => return opened,
        };
        let opened = begin(fallback, true).await?;
        self.http_pool.quirks.note(Quirk::RefusesNewerVersions, offer.as_str());
        Ok(opened)
    }

    async fn initialize_as(&self, offer: Revision) -> Result<UpstreamSession, Fault> {
        let body = handshake::initialize(self.key, offer);
        let headers = self.http_pool.headers.clone();
        let timeout = self.upstream.request_timeout;
        let response =
            self.http_pool.send(&Verb::POST, headers.clone(), body.into(), Retry::Safe, timeout).await?;
        let id = session_id(&response.headers).map_err(|error| Fault::Session(error.to_string()))?;
        let cookies = cookies(&response.headers, None);
        let status = response.status;
        let answer = read_rpc_body(response, self.http_pool.max_answer()).await?;
        if !status.is_success() && !is_error_response(&answer) {
            return Err(Fault::Status(status.as_u16()));
        }
        let revision = handshake::negotiated(&self.upstream, &answer)?;
        let mut headers = headers;
        if let Some(set) = &cookies
            && let Some(cookie) = beside(headers.get(COOKIE), set)
        {
            self.http_pool.quirks.note(Quirk::AffinityCookies, "");
            headers.insert(COOKIE, cookie);
        }
        headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(revision.as_str()));
        if let Some(id) = id {
            headers.insert(SESSION_ID, id);
        }
        Ok(UpstreamSession::initialized(headers, cookies, self.gauge.enter()))
    }

    /// Sends `notifications/initialized`. Returns whether the upstream still takes the revision that it agreed to.
    async fn say_initialized(&self, session: &UpstreamSession) -> Result<bool, Fault> {
        let initialized = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let answer = match self.post(session, initialized, Retry::Safe).await {
            Ok(answer) => answer,
            Err(unreachable @ (Fault::Connect(_) | Fault::NotAllowed(_))) => return Err(unreachable),
            // Nothing hangs on it.
            Err(fault) => {
                self.http_pool.quirks.note(Quirk::RefusesInitialized, fault.to_string());
                return Ok(true);
            }
        };
        let status = answer.status;
        // It was sent, whatever a server says to a notification, and however long.
        let said = tokio::time::timeout(INITIALIZED_TIMEOUT, answer.collect(MAX_SMALL_RESPONSE)).await;
        if status.is_success() {
            return Ok(true);
        }
        let status = status.as_u16();
        self.http_pool.quirks.note(Quirk::RefusesInitialized, format!("HTTP {status}"));
        Ok(!said.is_ok_and(|said| said.is_ok_and(|said| refuses_revision(&said))))
    }

    /// Asks for log messages from a raw level on, now and whenever the session is re-established.
    pub(in crate::upstream) async fn set_level(&self, level: Bytes) {
        *self.level.borrow_mut() = Some(level.clone());
        if let Some(channels) = &self.channels {
            channels.set_level(&level);
        } else if let Some(session) = self.current() {
            self.post_level(&session, &level).await;
        }
    }

    /// Asks for log messages from a level on, unless more were asked for already.
    pub(in crate::upstream) async fn ensure_level(&self, level: LogLevel) {
        let current =
            self.level.borrow().as_deref().and_then(|raw| LogLevel::parse(std::str::from_utf8(raw).ok()?));
        if current.is_none_or(|current| level < current) && self.logs {
            self.set_level(json::quote(level.as_str()).into()).await;
        }
    }

    async fn post_level(&self, session: &UpstreamSession, level: &Bytes) {
        match self.post(session, handshake::set_level(level), Retry::Safe).await {
            Ok(response) => drop(read_rpc_response(response).await),
            Err(fault) => {
                tracing::debug!(upstream = %self.upstream.id, %fault, "cannot set the log level")
            }
        }
    }

    /// Subscribes the call of this number to the server stream, if the session belongs to one conversation, or the call wants
    /// progress.
    pub(in crate::upstream) fn server_messages(
        &self,
        number: u64,
        wants_progress: bool,
    ) -> Option<ServerMessages> {
        let session = self.session_use();
        let subscribes = self.channels.is_none() && (wants_progress || session == SessionUse::Own);
        subscribes.then(|| self.subscribers.subscribe(number, session))
    }

    /// Forgets a session that is lost, unless another has taken its place.
    pub(super) fn forget(&self, lost: &Rc<UpstreamSession>) {
        let mut session = self.session.borrow_mut();
        if session.as_ref().is_some_and(|session| Rc::ptr_eq(session, lost)) {
            *session = None;
        }
    }

    /// The time of its last use, if it is one that `holder` has for a conversation and nothing needs it now.
    pub(in crate::upstream) fn idle_since(self: &Rc<Self>, holder: &SessionHolder) -> Option<Instant> {
        let is_held = self.exclusive.borrow().as_ref().is_some_and(|held| held.holder() == holder);
        (is_held && self.is_unused(Duration::ZERO)).then(|| self.used.get())
    }

    /// Frees its count for another session.
    pub(in crate::upstream) fn make_room(&self) {
        self.exclusive.borrow_mut().take();
    }

    /// Whether it was not used for so long.
    pub(in crate::upstream) fn is_unused(self: &Rc<Self>, idle: Duration) -> bool {
        let busy = self.channels.as_ref().is_some_and(|channels| !channels.is_idle());
        let kept = self.session.borrow().as_ref().is_some_and(|session| session.is_kept());
        Rc::strong_count(self) == 1 && self.used.get().elapsed() >= idle && !busy && !kept
    }

    /// Closes channels that were not used for so long.
    pub(in crate::upstream) fn sweep(&self, idle: Duration) {
        if let Some(channels) = &self.channels {
            channels.sweep(idle);
        }
    }

    /// Ends the session, if it is open.
    pub(in crate::upstream) async fn close(&self) {
        if let Some(channels) = &self.channels {
            channels.close();
        }
        *self.server_stream.borrow_mut() = None;
        let session = self.session.borrow_mut().take();
        // Another edge may resume a call that is parked in it.
        if let Some(session) = session.filter(|session| session.has_id() && !session.is_kept()) {
            self.end(&session).await;
        }
    }

    async fn end(&self, session: &UpstreamSession) {
        let headers = session.headers().cloned().unwrap_or_default();
        let closing = self.http_pool.send(&Verb::DELETE, headers, Bytes::new(), Retry::Safe, CLOSE_TIMEOUT);
        // An upstream may refuse to end sessions, or be gone.
        if let Err(fault) = closing.await {
            tracing::debug!(upstream = %self.upstream.id, %fault, "cannot end a session");
        }
    }
}
