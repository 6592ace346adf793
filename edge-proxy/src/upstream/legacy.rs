//! The legacy side of upstreams: sessions opened on first use, shared by the clients of one worker that declared the
//! same capabilities, opened anew when the upstream has forgotten them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as Verb, StatusCode};
use mcp::header::{PROTOCOL_VERSION, SESSION_ID};
use mcp::json;
use mcp::message::span;
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use mcp::splice::Splice;

use super::Upstreams;
use super::aside::{Aside, Hearing, Listeners};
use super::asked::Asker;
use super::call::{Call, Missed, settle};
use super::channel::{ChannelClaim, ChannelPool};
use super::content;
use super::detach::Detached;
use super::follow::{self, Guard};
use super::handshake;
use super::http_pool::{HttpPool, Retry};
use super::http_response::HttpResponse;
use super::message_source::RawResponse;
use super::response::{CallResponse, read_response, read_rpc_response};
use super::task::LONGEST;
use super::tasked::Tasks;
use super::translate::{Side, Translation};
use super::turned_away::is_turned_away;
use crate::error::Fault;
use crate::observe::{Entered, Gauge};
use crate::session::capabilities::Capabilities;
use crate::session::{Conversation, Jti, Level};
use crate::snapshot::{Transport, Upstream};

/// Largest body of an answer to what is not a call.
const MAX_SMALL_RESPONSE: usize = 256 << 10;
/// How long ending a session may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Which clients may share a session with an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SessionKey {
    /// URL and credential.
    pub connection: u64,
    /// What the clients declared.
    pub capabilities: Capabilities,
    /// What the clients negotiated.
    pub revision: Revision,
    /// The era of the clients.
    pub client: Era,
    /// The only one that may, where it must be told what the upstream says aside.
    pub conversation: Option<Jti>,
}

/// The place of one session, which is opened when needed.
pub(super) struct Pool {
    /// The upstream's connections.
    pub http_pool: Rc<HttpPool>,
    upstream: Arc<Upstream>,
    key: SessionKey,
    /// Where connections are the sessions, they are here, and `open` stays empty.
    channels: Option<ChannelPool>,
    open: RefCell<Option<Rc<Open>>>,
    opening: tokio::sync::Mutex<()>,
    /// The raw level that clients asked for with `logging/setLevel`.
    level: RefCell<Option<Bytes>>,
    listeners: Listeners,
    hearing: RefCell<Option<Hearing>>,
    used: Cell<Instant>,
    gauge: Gauge,
}

/// A session that is open.
pub(super) struct Open {
    /// How messages are sent in it.
    pub way: Way,
    /// Whether a request was answered in it: only then can the upstream have forgotten it.
    proven: Cell<bool>,
    /// Until when calls are parked in it.
    kept: Cell<Option<Instant>>,
    _counted: Option<Entered>,
}

/// How messages are sent in a session.
pub(super) enum Way {
    /// Each is a request that carries these headers.
    Http(HeaderMap),
    /// Over a connection, of which a call has this share.
    Channel(Rc<ChannelClaim>),
}

impl Open {
    /// A session that was opened elsewhere.
    pub(super) fn joined(headers: HeaderMap) -> Self {
        Self { way: Way::Http(headers), proven: Cell::new(true), kept: Cell::default(), _counted: None }
    }

    /// A call's share of a connection.
    fn channel(claim: Rc<ChannelClaim>) -> Self {
        Self { way: Way::Channel(claim), proven: Cell::new(true), kept: Cell::default(), _counted: None }
    }

    /// What every request in it carries, where messages are requests.
    pub(super) fn headers(&self) -> Option<&HeaderMap> {
        match &self.way {
            Way::Http(headers) => Some(headers),
            Way::Channel(_) => None,
        }
    }

    /// Who waits for answers to what the upstream asks in it; `None` when this edge holds too much.
    pub(super) fn asker(&self) -> Option<Asker> {
        match &self.way {
            Way::Http(headers) => Some(Asker::session(headers)),
            Way::Channel(claim) => claim.reply_address().map(Asker::Held),
        }
    }

    /// Keeps it open for so long, though nobody may seem to use it: a call is parked in it, or a task was begun.
    pub(super) fn keep(&self, time: Duration) {
        self.kept.set(self.kept.get().max(Some(Instant::now() + time)));
    }

    fn is_kept(&self) -> bool {
        self.kept.get().is_some_and(|until| Instant::now() < until)
    }

    fn has_id(&self) -> bool {
        self.headers().is_some_and(|headers| headers.contains_key(SESSION_ID))
    }
}

/// Makes a call in a shared session.
pub(super) async fn call(call: Call<'_>, conversation: &Rc<Conversation>) -> Result<CallResponse, Missed> {
    let worker = Rc::clone(call.worker);
    let upstream = Arc::clone(&call.permit.entry().upstream);
    let pool = worker.upstreams.pool(&upstream, key(&worker.upstreams, &upstream, conversation))?;
    let number = worker.upstreams.number();
    let body = outgoing(&call, number);
    let guard = Guard::new(&worker, number, conversation.jti, call.id(), Rc::clone(&pool));
    let progress_token = call.message.params.progress_token.map(|raw| call.message.slice(raw));
    let retry = call.retry();
    let (trust, server, token) = (Arc::clone(call.trust), Arc::clone(call.server), Arc::clone(call.token));
    let (id, method) = (call.id(), call.method);
    // Older clients choke on an event without data, and do not ask for the rest; on a connection there is no rest, and that
    // of a task is asked for by its id.
    let tasks = Tasks::of_legacy(&call);
    let resumable = call.headers.is_some()
        && conversation.revision >= Revision::V2025_11_25
        && matches!(tasks, Tasks::None);
    let task = call.task.map(|(task, _)| task);
    let (uri_prefix, older) = (call.permit.entry().uri_prefix.clone(), content::older(conversation.revision));
    let (permit, mut account) = (call.permit, call.account);
    let made = Detached::new(async move {
        let answered = async {
            let patience = if method == Method::TasksResult { LONGEST } else { upstream.request_timeout };
            let (answered, session) = match &task {
                None => pool.call(number, &body, retry).await?,
                Some(task) => task.ask(&pool, number, &body, retry, patience).await?,
            };
            let requests = Vec::new();
            let side = Side::Legacy { session, number, progress_token, resumable, requests, guest: None };
            let translation = Translation {
                trust,
                server,
                token,
                permit,
                upstream,
                method,
                id,
                uri_prefix,
                older,
                tasks,
                side,
            };
            read_response(&worker, answered, translation, &mut account, Some(guard)).await
        };
        let answered = answered.await;
        if matches!(answered, Err(Fault::Timeout)) {
            follow::cancel_number(&pool, number, follow::LATE);
        }
        settle(answered, &mut account)
    });
    Ok(made.await?)
}

/// The session that a conversation's calls share. What an upstream logs and asks aside cannot be told apart by calls, so a
/// conversation that wants to see the one, or can be asked the other, shares with nobody.
pub(super) fn key(upstreams: &Upstreams, upstream: &Upstream, conversation: &Conversation) -> SessionKey {
    let can_be_asked = conversation.capabilities != Capabilities::default();
    let sees_logs = || upstreams.level(&conversation.jti).is_some() && upstream.logs();
    // A connection that is a session has one call at a time where that can be asked something.
    let on_streams = upstream.transport == Transport::StreamableHttp;
    let alone = upstream.legacy_sessionful && (can_be_asked && on_streams || sees_logs());
    SessionKey {
        connection: upstream.connection_key,
        capabilities: conversation.capabilities,
        revision: conversation.revision,
        client: Era::Legacy,
        conversation: alone.then_some(conversation.jti),
    }
}

/// The client's message with the id, token and name that the upstream is to see.
fn outgoing(call: &Call<'_>, number: u64) -> Bytes {
    let message = call.message;
    let mut edits = Splice::new();
    let number = Bytes::from(number.to_string());
    if let Some(id) = message.envelope.id {
        edits = edits.replace(span(message.body, id), number.clone());
    }
    if let Some(token) = message.params.progress_token {
        edits = edits.replace(span(message.body, token), number);
    }
    if let Some((task, raw)) = &call.task {
        edits = edits.replace(span(message.body, raw), json::quote(&task.id));
    } else if call.named.exposed != call.permit.original() {
        edits = edits.replace(span(message.body, call.named.raw), json::quote(call.permit.original()));
    }
    edits.apply(message.body)
}

impl Pool {
    pub(super) fn new(
        http_pool: Rc<HttpPool>,
        upstream: Arc<Upstream>,
        key: SessionKey,
        level: Option<Bytes>,
        gauge: Gauge,
    ) -> Self {
        let channels = (upstream.transport != Transport::StreamableHttp)
            .then(|| ChannelPool::new(Rc::clone(&http_pool), Arc::clone(&upstream), key, gauge.clone()));
        if let (Some(channels), Some(level)) = (&channels, &level) {
            channels.set_level(level);
        }
        Self {
            http_pool,
            upstream,
            key,
            channels,
            open: RefCell::default(),
            opening: tokio::sync::Mutex::default(),
            level: RefCell::new(level),
            listeners: Listeners::default(),
            hearing: RefCell::default(),
            used: Cell::new(Instant::now()),
            gauge,
        }
    }

    /// Makes the call of this number.
    pub(super) async fn call(
        &self,
        number: u64,
        body: &Bytes,
        retry: Retry,
    ) -> Result<(RawResponse, Rc<Open>), Fault> {
        let Some(channels) = &self.channels else {
            let (response, open) = self.send(body, retry).await?;
            return Ok((RawResponse::Http(response), open));
        };
        self.used.set(Instant::now());
        let level = self.level.borrow().clone();
        let messages = channels.call(number, body, retry, level.as_ref()).await?;
        let open = Rc::new(Open::channel(messages.claim()));
        Ok((RawResponse::Channel(messages), open))
    }

    /// Sends a request in the session. A session that the upstream has forgotten is opened anew, once; the request was
    /// refused at the door then, so sending it again is no repetition.
    async fn send(&self, body: &Bytes, retry: Retry) -> Result<(HttpResponse, Rc<Open>), Fault> {
        let open = self.session().await?;
        let response = self.post(&open, body.clone(), retry).await?;
        if let Some(response) = unless_gone(&open, response).await? {
            open.proven.set(true);
            return Ok((response, open));
        }
        self.forget(&open);
        let open = self.session().await?;
        let response = self.post(&open, body.clone(), retry).await?;
        match unless_gone(&open, response).await? {
            Some(response) => {
                open.proven.set(true);
                Ok((response, open))
            }
            None => Err(Fault::Session("it forgets its sessions at once".to_owned())),
        }
    }

    /// Sends anything in a session.
    pub(super) async fn post(&self, open: &Open, body: Bytes, retry: Retry) -> Result<HttpResponse, Fault> {
        self.used.set(Instant::now());
        let headers = open.headers().cloned().unwrap_or_default();
        self.http_pool.send(&Verb::POST, headers, body, retry, self.upstream.request_timeout).await
    }

    /// Tells the upstream that nobody waits for a call any more.
    pub(super) async fn cancel(&self, number: u64, notification: Bytes) {
        if let Some(channels) = &self.channels {
            channels.cancel(number, notification);
        } else if let Some(open) = self.current()
            && let Ok(response) = self.post(&open, notification, Retry::IfUnsent).await
            && response.collect(MAX_SMALL_RESPONSE).await.is_err()
        {
            tracing::debug!("an upstream did not take a notification");
        }
    }

    /// The session, if it is open.
    pub(super) fn current(&self) -> Option<Rc<Open>> {
        self.open.borrow().clone()
    }

    /// The session, opened where it is not; those who come meanwhile wait for it.
    pub(super) async fn session(&self) -> Result<Rc<Open>, Fault> {
        if let Some(open) = self.current() {
            return Ok(open);
        }
        let _turn = self.opening.lock().await;
        if let Some(open) = self.current() {
            return Ok(open);
        }
        let open = Rc::new(self.initialize().await?);
        self.greet(&open).await?;
        if let (Some(_), Way::Http(headers)) = (self.key.conversation, &open.way) {
            let hearing = Hearing::begin(&self.http_pool, headers, &self.listeners).await;
            *self.hearing.borrow_mut() = Some(hearing);
        }
        *self.open.borrow_mut() = Some(Rc::clone(&open));
        Ok(open)
    }

    async fn initialize(&self) -> Result<Open, Fault> {
        let body = handshake::initialize(self.key);
        let headers = self.http_pool.headers.clone();
        let timeout = self.upstream.request_timeout;
        let response =
            self.http_pool.send(&Verb::POST, headers.clone(), body.into(), Retry::Safe, timeout).await?;
        let id = response.headers.get(SESSION_ID).cloned();
        let revision = handshake::negotiated(&read_rpc_response(response).await?)?;
        let mut headers = headers;
        headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(revision.as_str()));
        if let Some(id) = id {
            headers.insert(SESSION_ID, id);
        }
        Ok(Open {
            way: Way::Http(headers),
            proven: Cell::new(false),
            kept: Cell::default(),
            _counted: Some(self.gauge.enter()),
        })
    }

    /// What follows on `initialize`: that we are ready, and the log level that clients asked for.
    async fn greet(&self, open: &Open) -> Result<(), Fault> {
        let ready = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        self.post(open, ready, Retry::Safe).await?.collect(MAX_SMALL_RESPONSE).await?;
        let level = self.level.borrow().clone();
        if let Some(level) = level {
            self.post_level(open, &level).await;
        }
        Ok(())
    }

    /// Asks for log messages from a level on, now and whenever the session is opened anew.
    pub(super) async fn set_level(&self, level: Bytes) {
        *self.level.borrow_mut() = Some(level.clone());
        if let Some(channels) = &self.channels {
            channels.set_level(&level);
        } else if let Some(open) = self.current() {
            self.post_level(&open, &level).await;
        }
    }

    /// Asks for log messages from a level on, unless more is asked for already.
    pub(super) async fn want_level(&self, level: Level) {
        let asked =
            self.level.borrow().as_deref().and_then(|raw| Level::parse(std::str::from_utf8(raw).ok()?));
        if asked.is_none_or(|asked| level < asked) && self.upstream.logs() {
            self.set_level(json::quote(level.as_str()).into()).await;
        }
    }

    async fn post_level(&self, open: &Open, level: &Bytes) {
        match self.post(open, handshake::set_level(level), Retry::Safe).await {
            Ok(response) => drop(read_rpc_response(response).await),
            Err(fault) => {
                tracing::debug!(upstream = %self.upstream.id, %fault, "the log level could not be set")
            }
        }
    }

    /// What is said aside from now on, if that is for one conversation alone.
    pub(super) fn aside(&self) -> Option<Aside> {
        (self.key.conversation.is_some() && self.channels.is_none()).then(|| self.listeners.listen())
    }

    fn forget(&self, gone: &Rc<Open>) {
        let mut open = self.open.borrow_mut();
        if open.as_ref().is_some_and(|open| Rc::ptr_eq(open, gone)) {
            *open = None;
        }
    }

    /// Whether nobody came for so long.
    pub(super) fn is_unused(self: &Rc<Self>, idle: Duration) -> bool {
        let busy = self.channels.as_ref().is_some_and(|channels| !channels.is_idle());
        let kept = self.open.borrow().as_ref().is_some_and(|open| open.is_kept());
        Rc::strong_count(self) == 1 && self.used.get().elapsed() > idle && !busy && !kept
    }

    /// Closes connections that nobody used for so long.
    pub(super) fn sweep(&self, idle: Duration) {
        if let Some(channels) = &self.channels {
            channels.sweep(idle);
        }
    }

    /// Ends the session, if it is open.
    pub(super) async fn close(&self) {
        if let Some(channels) = &self.channels {
            channels.close();
        }
        *self.hearing.borrow_mut() = None;
        let open = self.open.borrow_mut().take();
        // Another edge may go on with what is parked in it.
        let Some(open) = open.filter(|open| open.has_id() && !open.is_kept()) else { return };
        let headers = open.headers().cloned().unwrap_or_default();
        let goodbye = self.http_pool.send(&Verb::DELETE, headers, Bytes::new(), Retry::Safe, FAREWELL);
        // An upstream may refuse to end sessions, or be gone.
        if let Err(fault) = goodbye.await {
            tracing::debug!(upstream = %self.upstream.id, %fault, "a session could not be ended");
        }
    }
}

/// The answer, unless it says that the session is gone: with the protocol's 404, which comes before anything is done,
/// or in the words that some servers have for it.
pub(super) async fn unless_gone(
    open: &Open,
    mut response: HttpResponse,
) -> Result<Option<HttpResponse>, Fault> {
    let gone = match response.status {
        StatusCode::NOT_FOUND => open.has_id(),
        StatusCode::BAD_REQUEST if open.has_id() && open.proven.get() => {
            is_turned_away(&response.buffer(MAX_SMALL_RESPONSE).await?)
        }
        _ => false,
    };
    Ok((!gone).then_some(response))
}
