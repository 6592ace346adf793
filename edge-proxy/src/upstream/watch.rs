//! Watches resources and tasks at an upstream for one stream of a client: a session of its own in the legacy era, a
//! `subscriptions/listen` in the modern one. It must not know how the client is told.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as Verb, StatusCode};
use mcp::extension::TASKS;
use mcp::header::{METHOD, PROTOCOL_VERSION};
use mcp::json;
use mcp::message::Envelope;
use mcp::meta;
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use mcp::sse::Decoder;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::channel::Channel;
use super::http_pool::Retry;
use super::http_response::{HttpResponse, MediaType};
use super::legacy::{SessionPool, SessionKey};
use super::response::read_rpc_response;
use super::task::Task;
use crate::error::Fault;
use crate::policy::Permit;
use crate::session::capabilities::Capabilities;
use crate::snapshot::{Transport, Upstream};
use crate::worker::Worker;

/// Largest event of such a stream.
const MAX_EVENT: usize = 256 << 10;
/// Upstreams need not say anything for as long as nothing changes.
const SILENCE: Duration = Duration::from_secs(24 * 3_600);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What to watch at one upstream: the words that the upstream has for it, and those that the client has. Only permits add
/// to it.
#[derive(Debug, Clone)]
pub struct Wanted {
    upstream: Arc<Upstream>,
    names: Names,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    /// URIs of resources.
    resources: BTreeMap<Box<str>, Box<str>>,
    /// Ids of tasks, which the modern era alone tells of.
    tasks: BTreeMap<Box<str>, Box<str>>,
}

impl Wanted {
    /// Nothing yet, at the upstream that a permit leads to.
    pub fn at(permit: &Permit) -> Self {
        Self { upstream: Arc::clone(&permit.entry().upstream), names: Names::default() }
    }

    /// Adds a resource that may be read.
    pub fn add_resource(&mut self, permit: &Permit) {
        self.names.resources.insert(permit.original().into(), permit.exposed().into());
    }

    /// Adds a task of a tool that may be called; `id` is the one that the client knows.
    pub fn add_task(&mut self, _permit: &Permit, task: &Task, id: &str) {
        self.names.tasks.insert(task.id.as_str().into(), id.into());
    }
}

/// What is heard of an upstream.
#[derive(Debug)]
pub enum Notice {
    /// From now on its changes are heard.
    Live,
    /// A resource changed; the URI that the client knows.
    Updated(Box<str>),
    /// A task stands otherwise than before.
    Task {
        /// The id that the client knows.
        id: Box<str>,
        /// The raw params that say how, with that id.
        params: Box<str>,
    },
}

/// What is watched at one upstream, until it is dropped.
#[derive(Debug)]
pub struct Watching {
    upstream: Arc<Upstream>,
    wanted: watch::Sender<Names>,
    task: AbortHandle,
}

impl Watching {
    /// Begins to watch, in an era that the upstream speaks, whichever the client's.
    pub fn begin(worker: &Rc<Worker>, era: Era, wanted: Wanted, notices: mpsc::Sender<Notice>) -> Self {
        let Wanted { upstream, names } = wanted;
        let (wanted, receiver) = watch::channel(names);
        let watcher =
            Watcher { worker: Rc::clone(worker), upstream: Arc::clone(&upstream), wanted: receiver, notices };
        let task = tokio::task::spawn_local(watcher.run(era)).abort_handle();
        Self { upstream, wanted, task }
    }

    /// Watches these instead, unless the upstream is reached in another way now.
    pub fn instead(&self, wanted: &Wanted) -> bool {
        let same = self.upstream.connection_key == wanted.upstream.connection_key;
        if same {
            self.wanted.send_if_modified(|old| {
                let changed = *old != wanted.names;
                if changed {
                    old.clone_from(&wanted.names);
                }
                changed
            });
        }
        same
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Watcher {
    worker: Rc<Worker>,
    upstream: Arc<Upstream>,
    wanted: watch::Receiver<Names>,
    notices: mpsc::Sender<Notice>,
}

/// Where changes are heard.
enum Heard {
    /// A stream of events.
    Stream(Box<(HttpResponse, Decoder)>),
    /// A connection that is the session.
    Channel(mpsc::Receiver<Bytes>),
}

/// Ends a session when the watcher is gone, however it went.
struct Farewell(Option<SessionPool>);

impl Drop for Farewell {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            tokio::task::spawn_local(async move { pool.close().await });
        }
    }
}

impl Watcher {
    async fn run(mut self, era: Era) {
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = tokio::time::Instant::now();
            let ended = match era {
                Era::Legacy if self.upstream.transport != Transport::StreamableHttp => self.channel().await,
                Era::Legacy => self.legacy().await,
                Era::Modern => self.modern().await,
            };
            match ended {
                Ok(()) => return,
                Err(fault) => {
                    tracing::debug!(upstream = %self.upstream.id, %fault, "nothing is watched")
                }
            }
            pause =
                if begun.elapsed() > LONGEST_PAUSE { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            tokio::time::sleep(pause).await;
        }
    }

    /// A session of its own, so that what is subscribed in it concerns nobody else.
    async fn legacy(&mut self) -> Result<(), Fault> {
        let http_pool = self.worker.upstreams.http_pool(&self.upstream)?;
        let key = self.key();
        let gauge = self.worker.shared.metrics.upstream_sessions.clone();
        let farewell = Farewell(Some(SessionPool::new(http_pool, Arc::clone(&self.upstream), key, None, gauge)));
        let Some(pool) = &farewell.0 else { return Ok(()) };
        let open = pool.session().await?;
        let headers = open.headers().cloned().unwrap_or_default();
        let response = self.stream(&Verb::GET, headers, Bytes::new()).await?;
        let mut heard = Heard::stream(response, MAX_EVENT);
        let ask = async |_, body| read_rpc_response(pool.post(&open, body, Retry::Safe).await?).await;
        self.subscribed(&mut heard, ask).await
    }

    /// A connection of its own, for the same reason.
    async fn channel(&mut self) -> Result<(), Fault> {
        let http_pool = self.worker.upstreams.http_pool(&self.upstream)?;
        let gauge = &self.worker.shared.metrics.upstream_sessions;
        let channel = Channel::open(&http_pool, &self.upstream, self.key(), false, gauge).await?;
        let mut heard = Heard::Channel(channel.listen());
        let limit = self.upstream.request_timeout;
        let ask = async |number, body| {
            let answered = tokio::time::timeout(limit, channel.request(number, body)).await;
            answered.map_err(|_| Fault::Timeout)?
        };
        let ended = self.subscribed(&mut heard, ask).await;
        channel.close();
        ended
    }

    fn key(&self) -> SessionKey {
        SessionKey {
            connection: self.upstream.connection_key,
            capabilities: Capabilities::default(),
            revision: Revision::LATEST_LEGACY,
            client: Era::Legacy,
            conversation: None,
        }
    }

    /// Keeps what is subscribed to what is wanted, and passes on what is heard.
    async fn subscribed(
        &mut self,
        heard: &mut Heard,
        ask: impl AsyncFn(u64, Bytes) -> Result<Bytes, Fault>,
    ) -> Result<(), Fault> {
        let mut subscribed = BTreeSet::new();
        loop {
            let wanted: BTreeSet<Box<str>> =
                self.wanted.borrow_and_update().resources.keys().cloned().collect();
            let gone = subscribed.difference(&wanted).map(|uri| (Method::ResourcesUnsubscribe, uri));
            let new = wanted.difference(&subscribed).map(|uri| (Method::ResourcesSubscribe, uri));
            for (method, uri) in gone.chain(new) {
                let number = self.worker.upstreams.number();
                told(method, ask(number, subscription(number, method, uri)).await);
            }
            subscribed = wanted;
            self.say(Notice::Live).await;
            if !self.hear(heard).await? {
                return Ok(());
            }
        }
    }

    /// One `subscriptions/listen`, begun anew when other resources are wanted.
    async fn modern(&mut self) -> Result<(), Fault> {
        loop {
            let revision = self.upstream.modern.first().copied().unwrap_or(Revision::LATEST);
            let http_pool = self.worker.upstreams.http_pool(&self.upstream)?;
            let mut headers = http_pool.headers.clone();
            headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(revision.as_str()));
            headers.insert(METHOD, HeaderValue::from_static(Method::SubscriptionsListen.as_str()));
            let body = listen(revision, &self.wanted.borrow_and_update());
            let response = self.stream(&Verb::POST, headers, body).await?;
            // Of a task that is over the whole result is told.
            let max_event = self.worker.shared.limits.max_event_bytes;
            if !self.hear(&mut Heard::stream(response, max_event)).await? {
                return Ok(());
            }
        }
    }

    async fn stream(&self, verb: &Verb, headers: HeaderMap, body: Bytes) -> Result<HttpResponse, Fault> {
        let http_pool = self.worker.upstreams.http_pool(&self.upstream)?;
        let answered = http_pool.send(verb, headers, body, Retry::Safe, SILENCE);
        let answered = tokio::time::timeout(self.upstream.request_timeout, answered).await;
        let response = answered.map_err(|_| Fault::Timeout)??;
        if response.status != StatusCode::OK || response.media_type() != MediaType::Events {
            return Err(Fault::Status(response.status.as_u16()));
        }
        Ok(response)
    }

    /// Passes on what is heard, until something else is wanted (true) or nothing any more (false).
    async fn hear(&mut self, heard: &mut Heard) -> Result<bool, Fault> {
        loop {
            let message = tokio::select! {
                message = heard.next() => message?,
                changed = self.wanted.changed() => return Ok(changed.is_ok()),
            };
            if let Some(notice) = self.notice(&message) {
                self.say(notice).await;
            }
        }
    }

    fn notice(&self, message: &[u8]) -> Option<Notice> {
        let envelope = Envelope::parse(message).ok()?;
        match Method::parse(envelope.method.as_deref()?)? {
            Method::SubscriptionsAcknowledged => Some(Notice::Live),
            Method::ResourcesUpdated => {
                let [uri] = json::members(envelope.params?, ["uri"]).ok()?;
                let uri = json::string(uri?).ok()?;
                self.wanted.borrow().resources.get(&*uri).cloned().map(Notice::Updated)
            }
            Method::TasksChanged => self.task(envelope.params?),
            _ => None,
        }
    }

    fn task(&self, params: &str) -> Option<Notice> {
        let [theirs] = json::members(params, ["taskId"]).ok()?;
        let theirs = json::string(theirs?).ok()?;
        let id = self.wanted.borrow().tasks.get(&*theirs).cloned()?;
        let params = json::set_members(params, &[("taskId", Some(&json::quote(&id)))]).ok()?;
        Some(Notice::Task { id, params: params.into() })
    }

    async fn say(&self, notice: Notice) {
        // Nobody hears it when the client has just gone; then this task is about to end as well.
        let _: Result<(), _> = self.notices.send(notice).await;
    }
}

impl Heard {
    fn stream(response: HttpResponse, max_event: usize) -> Self {
        Self::Stream(Box::new((response, Decoder::new(max_event))))
    }

    /// The next message. The future may be dropped and made anew.
    async fn next(&mut self) -> Result<Bytes, Fault> {
        match self {
            Self::Channel(messages) => messages.recv().await.ok_or(Fault::Interrupted),
            Self::Stream(stream) => loop {
                let (response, decoder) = &mut **stream;
                if let Some(event) = decoder.next().map_err(|_| Fault::TooLarge)? {
                    return Ok(event.data);
                }
                decoder.push(response.chunk().await?.ok_or(Fault::Interrupted)?);
            },
        }
    }
}

fn subscription(number: u64, method: Method, uri: &str) -> Bytes {
    let uri = json::quote(uri);
    format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"{method}","params":{{"uri":{uri}}}}}"#).into()
}

/// A refusal concerns this one resource only.
fn told(method: Method, answered: Result<Bytes, Fault>) {
    match answered {
        Ok(answer) if Envelope::parse(&answer).is_ok_and(|answer| answer.error.is_none()) => {}
        Ok(_) => tracing::debug!(%method, "an upstream refused"),
        Err(fault) => tracing::debug!(%method, %fault, "an upstream did not answer"),
    }
}

fn listen(revision: Revision, wanted: &Names) -> Bytes {
    let members = [("resourceSubscriptions", &wanted.resources), ("taskIds", &wanted.tasks)];
    let members = members.into_iter().filter(|(_, wanted)| !wanted.is_empty()).map(|(member, wanted)| {
        let names: Vec<String> = wanted.keys().map(|name| json::quote(name)).collect();
        format!(r#""{member}":[{}]"#, names.join(","))
    });
    let members: Vec<String> = members.collect();
    let capabilities = if wanted.tasks.is_empty() {
        "{}".to_owned()
    } else {
        format!(r#"{{"extensions":{{"{TASKS}":{{}}}}}}"#)
    };
    let method = Method::SubscriptionsListen;
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"notifications":{{{}}},"_meta":{{"{}":"{revision}","{}":{capabilities},"{}":{{"name":"trunkline","version":"{}"}}}}}}}}"#,
        members.join(","),
        meta::PROTOCOL_VERSION,
        meta::CLIENT_CAPABILITIES,
        meta::CLIENT_INFO,
        env!("CARGO_PKG_VERSION"),
    )
    .into()
}
