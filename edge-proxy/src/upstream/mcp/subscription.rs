//! Subscribes to resources and tasks at an upstream for one stream of a client: in a session of its own in the legacy
//! era, with `subscriptions/listen` in the modern one. It must not know how the client is notified.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as Verb, StatusCode};
use mcp::border::Media;
use mcp::extension::TASKS;
use mcp::header::{METHOD, PROTOCOL_VERSION};
use mcp::json;
use mcp::message::Envelope;
use mcp::meta;
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use mcp::uri::ancestors;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::channel::Channel;
use super::event_stream::EventStream;
use super::response::read_rpc_response;
use super::session::{SessionKey, SessionPool};
use super::task::Task;
use crate::collections::byte_queue::{Receiver, Sender, Weigh};
use crate::error::Fault;
use crate::policy::Permit;
use crate::session::capabilities::Capabilities;
use crate::snapshot::{McpUpstream, Upstream};
use crate::upstream::Context;
use crate::upstream::connect::{HttpResponse, Retry};

/// Largest notification.
const MAX_EVENT: usize = 256 << 10;
/// Longest silence of a stream on which nothing changes.
const MAX_SILENCE: Duration = Duration::from_secs(24 * 3_600);
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The resources and tasks to subscribe to at one upstream, by its own names and those of the client. Only permits add
/// to them.
#[derive(Debug, Clone)]
pub struct SubscriptionTargets {
    upstream: Arc<Upstream>,
    names: Names,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    /// URIs of resources, the upstream's and the client's.
    resources: BTreeMap<Box<str>, Box<str>>,
    /// Ids of tasks, the upstream's and the client's; those of the legacy era are polled.
    tasks: BTreeMap<Box<str>, Box<str>>,
}

impl SubscriptionTargets {
    /// The upstream that they are at.
    pub(in crate::upstream) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Starts with none, at the upstream of a permit.
    pub fn at(permit: &Permit) -> Self {
        Self { upstream: Arc::clone(&permit.entry().upstream), names: Names::default() }
    }

    /// Adds a resource that may be read.
    pub fn add_resource(&mut self, permit: &Permit) {
        self.names.resources.insert(permit.original().into(), permit.exposed().into());
    }

    /// Adds a task of a tool that may be called; `id` is the client's.
    pub fn add_task(&mut self, _permit: &Permit, task: &Task, id: &str) {
        self.names.tasks.insert(task.id.as_str().into(), id.into());
    }
}

/// A notification of an upstream.
#[derive(Debug)]
pub enum SubscriptionNotice {
    /// Changes are notified from now on.
    Live,
    /// A resource changed, which the client knows by this URI.
    Updated(Box<str>),
    /// A part of a resource changed.
    PartUpdated {
        /// The URI by which the client knows the resource.
        watched: Box<str>,
        /// The URI by which the upstream knows the part.
        part: Box<str>,
    },
    /// The status of a task changed.
    Task {
        /// The id that the client knows.
        id: Box<str>,
        /// The raw params of the notification, with that id.
        params: Box<str>,
    },
}

impl Weigh for SubscriptionNotice {
    fn bytes(&self) -> usize {
        match self {
            Self::Live => 0,
            Self::Updated(uri) => uri.len(),
            Self::PartUpdated { watched, part } => watched.len() + part.len(),
            Self::Task { id, params } => id.len() + params.len(),
        }
    }
}

/// The subscription at one upstream, until it is dropped.
#[derive(Debug)]
pub struct UpstreamSubscription {
    upstream: Arc<Upstream>,
    targets: watch::Sender<Names>,
    task: AbortHandle,
}

/// Subscribes at an MCP upstream, in an era that it speaks.
pub(in crate::upstream) fn subscribe(
    context: &Rc<Context>,
    mcp: &McpUpstream,
    era: Era,
    targets: &SubscriptionTargets,
    notices: Sender<SubscriptionNotice>,
) -> UpstreamSubscription {
    let upstream = Arc::clone(&targets.upstream);
    let (targets, receiver) = watch::channel(targets.names.clone());
    let subscription = SubscriptionTask {
        context: Rc::clone(context),
        upstream: Arc::clone(&upstream),
        mcp: mcp.clone(),
        targets: receiver,
        notices,
    };
    let task = tokio::task::spawn_local(subscription.run(era)).abort_handle();
    UpstreamSubscription { upstream, targets, task }
}

impl UpstreamSubscription {
    /// Replaces the targets, unless the upstream is now reached in another way.
    pub fn replace(&self, targets: &SubscriptionTargets) -> bool {
        let same = self.upstream.connection_key == targets.upstream.connection_key;
        if same {
            self.targets.send_if_modified(|old| {
                let changed = *old != targets.names;
                if changed {
                    old.clone_from(&targets.names);
                }
                changed
            });
        }
        same
    }
}

impl Drop for UpstreamSubscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct SubscriptionTask {
    context: Rc<Context>,
    upstream: Arc<Upstream>,
    mcp: McpUpstream,
    targets: watch::Receiver<Names>,
    notices: Sender<SubscriptionNotice>,
}

/// The source of an upstream's notifications.
enum NotificationSource {
    /// A stream of events.
    Stream(Box<EventStream>),
    /// A connection that is the session.
    Channel(Receiver<Bytes>),
}

/// Ends the session of a subscription on every way out.
struct CloseOnDrop(Option<SessionPool>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            tokio::task::spawn_local(async move { pool.close().await });
        }
    }
}

impl SubscriptionTask {
    async fn run(mut self, era: Era) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let started = tokio::time::Instant::now();
            let ended = match era {
                Era::Legacy if self.mcp.transport.is_channel() => self.run_on_channel().await,
                Era::Legacy => self.run_in_session().await,
                Era::Modern if self.mcp.transport.is_channel() => self.run_listening_on_channel().await,
                Era::Modern => self.run_listening().await,
            };
            match ended {
                Ok(()) => return,
                Err(fault) => {
                    tracing::debug!(upstream = %self.upstream.id, %fault, "cannot subscribe to an upstream")
                }
            }
            backoff =
                if started.elapsed() > MAX_BACKOFF { FIRST_BACKOFF } else { (backoff * 2).min(MAX_BACKOFF) };
            tokio::time::sleep(backoff).await;
        }
    }

    /// Subscribes in a session of its own, so that its subscriptions are no other's.
    async fn run_in_session(&mut self) -> Result<(), Fault> {
        let http_pool = self.context.http_pool(&self.upstream)?;
        let key = self.key();
        let gauge = self.context.environment.metrics.upstream_sessions.clone();
        let closing = CloseOnDrop(Some(SessionPool::new(
            http_pool,
            Arc::clone(&self.upstream),
            &self.mcp,
            key,
            None,
            gauge,
            None,
        )));
        let Some(pool) = &closing.0 else { return Ok(()) };
        let session = pool.session().await?;
        let headers = session.headers().cloned().unwrap_or_default();
        let response = self.open_stream(&Verb::GET, headers, Bytes::new()).await?;
        let mut source = NotificationSource::stream(response, MAX_EVENT);
        let request = async |_, body| read_rpc_response(pool.post(&session, body, Retry::Safe).await?).await;
        self.run_subscribed(&mut source, request).await
    }

    /// Subscribes on a connection of its own, for the same reason.
    async fn run_on_channel(&mut self) -> Result<(), Fault> {
        let http_pool = self.context.http_pool(&self.upstream)?;
        let gauge = &self.context.environment.metrics.upstream_sessions;
        let channel =
            Channel::open(&http_pool, &self.upstream, self.mcp.transport, self.key(), false, gauge).await?;
        let mut source = NotificationSource::Channel(channel.listen());
        let limit = self.upstream.request_timeout;
        let request = async |number, body| {
            let answered = tokio::time::timeout(limit, channel.request(number, body)).await;
            answered.map_err(|_| Fault::Timeout)?
        };
        let ended = self.run_subscribed(&mut source, request).await;
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

    /// Keeps the subscriptions equal to the targets, and relays notifications.
    async fn run_subscribed(
        &mut self,
        source: &mut NotificationSource,
        request: impl AsyncFn(u64, Bytes) -> Result<Bytes, Fault>,
    ) -> Result<(), Fault> {
        let mut subscribed = BTreeSet::new();
        loop {
            let targets: BTreeSet<Box<str>> =
                self.targets.borrow_and_update().resources.keys().cloned().collect();
            let removed = subscribed.difference(&targets).map(|uri| (Method::ResourcesUnsubscribe, uri));
            let added = targets.difference(&subscribed).map(|uri| (Method::ResourcesSubscribe, uri));
            for (method, uri) in removed.chain(added) {
                let number = self.context.mcp.next_request_id();
                log_failure(method, request(number, subscribe_request(number, method, uri)).await);
            }
            subscribed = targets;
            self.notify(SubscriptionNotice::Live).await;
            if !self.relay(source).await? {
                return Ok(());
            }
        }
    }

    /// Sends `subscriptions/listen`, again whenever the targets change.
    async fn run_listening(&mut self) -> Result<(), Fault> {
        loop {
            let revision = self.mcp.modern.first().copied().unwrap_or(Revision::LATEST);
            let http_pool = self.context.http_pool(&self.upstream)?;
            let mut headers = http_pool.headers.clone();
            headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(revision.as_str()));
            headers.insert(METHOD, HeaderValue::from_static(Method::SubscriptionsListen.as_str()));
            let body = listen_request(1, revision, &self.targets.borrow_and_update());
            let response = self.open_stream(&Verb::POST, headers, body).await?;
            // The notification of a finished task carries its result.
            let max_event = self.context.environment.limits.max_event_bytes;
            let mut source = NotificationSource::stream(response, max_event);
            if !self.relay(&mut source).await? {
                return Ok(());
            }
        }
    }

    /// Sends `subscriptions/listen` on a connection of its own, another one whenever the targets change.
    async fn run_listening_on_channel(&mut self) -> Result<(), Fault> {
        loop {
            let revision = self.mcp.modern.first().copied().unwrap_or(Revision::LATEST);
            let http_pool = self.context.http_pool(&self.upstream)?;
            let gauge = &self.context.environment.metrics.upstream_sessions;
            let (transport, key) = (self.mcp.transport, SessionKey::of_modern_connection(&self.upstream));
            let channel = Channel::open(&http_pool, &self.upstream, transport, key, false, gauge).await?;
            let mut source = NotificationSource::Channel(channel.listen());
            let number = self.context.mcp.next_request_id();
            let body = listen_request(number, revision, &self.targets.borrow_and_update());
            let goes_on = tokio::select! {
                // The upstream has ended it, or refuses it.
                answered = channel.request(number, body) => answered.and(Err(Fault::Interrupted)),
                relayed = self.relay(&mut source) => relayed,
            };
            channel.close();
            if !goes_on? {
                return Ok(());
            }
        }
    }

    async fn open_stream(&self, verb: &Verb, headers: HeaderMap, body: Bytes) -> Result<HttpResponse, Fault> {
        let http_pool = self.context.http_pool(&self.upstream)?;
        let opened = async {
            let mut response = http_pool.send(verb, headers, body, Retry::Safe, MAX_SILENCE).await?;
            let is_open = response.status == StatusCode::OK && response.media().await? == Some(Media::Events);
            if is_open { Ok(response) } else { Err(Fault::Status(response.status.as_u16())) }
        };
        let opened = tokio::time::timeout(self.upstream.request_timeout, opened).await;
        opened.unwrap_or(Err(Fault::Timeout))
    }

    /// Relays notifications until the targets change (true) or the subscription is dropped (false).
    async fn relay(&mut self, source: &mut NotificationSource) -> Result<bool, Fault> {
        let mut retired = pin!(source.retired());
        loop {
            let message = tokio::select! {
                message = source.next() => message?,
                () = &mut retired => return Err(Fault::Interrupted),
                changed = self.targets.changed() => return Ok(changed.is_ok()),
            };
            if let Some(notice) = self.notice_of(&message) {
                self.notify(notice).await;
            }
        }
    }

    fn notice_of(&self, message: &[u8]) -> Option<SubscriptionNotice> {
        let envelope = Envelope::parse(message).ok()?;
        match Method::parse(envelope.method.as_deref()?)? {
            Method::SubscriptionsAcknowledged => Some(SubscriptionNotice::Live),
            Method::ResourcesUpdated => {
                let [uri] = json::members(envelope.params?, ["uri"]).ok()?;
                let uri = json::string(uri?).ok()?;
                let targets = self.targets.borrow();
                let (above, watched) =
                    ancestors(&uri).find_map(|above| targets.resources.get_key_value(above))?;
                Some(if **above == *uri {
                    SubscriptionNotice::Updated(watched.clone())
                } else {
                    SubscriptionNotice::PartUpdated { watched: watched.clone(), part: (*uri).into() }
                })
            }
            Method::TasksChanged => self.task_notice(envelope.params?),
            _ => None,
        }
    }

    fn task_notice(&self, params: &str) -> Option<SubscriptionNotice> {
        let [theirs] = json::members(params, ["taskId"]).ok()?;
        let theirs = json::string(theirs?).ok()?;
        let id = self.targets.borrow().tasks.get(&*theirs).cloned()?;
        let params = json::set_members(params, &[("taskId", Some(&json::quote(&id)))]).ok()?;
        Some(SubscriptionNotice::Task { id, params: params.into() })
    }

    async fn notify(&self, notice: SubscriptionNotice) {
        // When the client has just gone, this task is about to end as well.
        let _: Result<(), _> = self.notices.send(notice).await;
    }
}

impl NotificationSource {
    fn stream(response: HttpResponse, max_event: usize) -> Self {
        Self::Stream(Box::new(EventStream::new(response, max_event)))
    }

    /// Resolves when the stream is to be opened on another way to the upstream.
    fn retired(&self) -> impl Future<Output = ()> + use<> {
        let stream = match self {
            Self::Stream(stream) => Some(stream.retired()),
            Self::Channel(_) => None,
        };
        async move {
            match stream {
                Some(retired) => retired.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Returns the next message. Cancel safe.
    async fn next(&mut self) -> Result<Bytes, Fault> {
        match self {
            Self::Channel(messages) => messages.recv().await.ok_or(Fault::Interrupted),
            Self::Stream(stream) => stream.next_message().await?.ok_or(Fault::Interrupted),
        }
    }
}

fn subscribe_request(number: u64, method: Method, uri: &str) -> Bytes {
    let uri = json::quote(uri);
    format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"{method}","params":{{"uri":{uri}}}}}"#).into()
}

/// Logs a refusal, which concerns this one resource only.
fn log_failure(method: Method, answered: Result<Bytes, Fault>) {
    match answered {
        Ok(answer) if Envelope::parse(&answer).is_ok_and(|answer| answer.error.is_none()) => {}
        Ok(_) => tracing::debug!(%method, "an upstream refused a subscription"),
        Err(fault) => tracing::debug!(%method, %fault, "an upstream did not respond to a subscription"),
    }
}

fn listen_request(number: u64, revision: Revision, targets: &Names) -> Bytes {
    let members = [("resourceSubscriptions", &targets.resources), ("taskIds", &targets.tasks)];
    let members = members.into_iter().filter(|(_, targets)| !targets.is_empty()).map(|(member, targets)| {
        let names: Vec<String> = targets.keys().map(|name| json::quote(name)).collect();
        format!(r#""{member}":[{}]"#, names.join(","))
    });
    let members: Vec<String> = members.collect();
    let capabilities = if targets.tasks.is_empty() {
        "{}".to_owned()
    } else {
        format!(r#"{{"extensions":{{"{TASKS}":{{}}}}}}"#)
    };
    let method = Method::SubscriptionsListen;
    format!(
        r#"{{"jsonrpc":"2.0","id":{number},"method":"{method}","params":{{"notifications":{{{}}},"_meta":{{"{}":"{revision}","{}":{capabilities},"{}":{{"name":"trunkline","version":"{}"}}}}}}}}"#,
        members.join(","),
        meta::PROTOCOL_VERSION,
        meta::CLIENT_CAPABILITIES,
        meta::CLIENT_INFO,
        env!("CARGO_PKG_VERSION"),
    )
    .into()
}
