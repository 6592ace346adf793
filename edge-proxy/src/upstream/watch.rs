//! Watches resources at an upstream for one stream of a client: a session of its own in the legacy era, a
//! `subscriptions/listen` in the modern one. It must not know how the client is told.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as Verb, StatusCode};
use mcp::header::{METHOD, PROTOCOL_VERSION};
use mcp::json;
use mcp::message::Envelope;
use mcp::meta;
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use mcp::sse::Decoder;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::endpoint::Repeat;
use super::legacy::{Open, Pool, SessionKey, response};
use super::reply::{Media, Reply};
use crate::error::Fault;
use crate::session::capabilities::Capabilities;
use crate::snapshot::Upstream;
use crate::worker::Worker;

/// Largest event of such a stream.
const MAX_EVENT: usize = 256 << 10;
/// Upstreams need not say anything for as long as nothing changes.
const SILENCE: Duration = Duration::from_secs(24 * 3_600);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Resources to watch: the URI that the upstream knows, and the one that the client knows.
pub type Wanted = BTreeMap<Box<str>, Box<str>>;

/// What is heard of an upstream.
#[derive(Debug)]
pub enum Notice {
    /// From now on its changes are heard.
    Live,
    /// A resource changed; the URI that the client knows.
    Updated(Box<str>),
}

/// Resources that are watched at one upstream, until it is dropped.
#[derive(Debug)]
pub struct Watching {
    upstream: Arc<Upstream>,
    era: Era,
    wanted: watch::Sender<Wanted>,
    task: AbortHandle,
}

impl Watching {
    /// Begins to watch, in an era that the upstream speaks, whichever the client's.
    pub fn begin(
        worker: &Rc<Worker>,
        upstream: &Arc<Upstream>,
        era: Era,
        wanted: Wanted,
        notices: mpsc::Sender<Notice>,
    ) -> Self {
        let (wanted, receiver) = watch::channel(wanted);
        let watcher =
            Watcher { worker: Rc::clone(worker), upstream: Arc::clone(upstream), wanted: receiver, notices };
        let task = tokio::task::spawn_local(watcher.run(era)).abort_handle();
        Self { upstream: Arc::clone(upstream), era, wanted, task }
    }

    /// Watches these instead, unless the upstream is reached in another way now.
    pub fn instead(&self, upstream: &Upstream, era: Era, wanted: &Wanted) -> bool {
        let same = self.upstream.connection_key == upstream.connection_key && self.era == era;
        if same {
            self.wanted.send_if_modified(|old| {
                let changed = old != wanted;
                if changed {
                    old.clone_from(wanted);
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
    wanted: watch::Receiver<Wanted>,
    notices: mpsc::Sender<Notice>,
}

/// Ends a session when the watcher is gone, however it went.
struct Farewell(Option<Pool>);

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
                Era::Legacy => self.legacy().await,
                Era::Modern => self.modern().await,
            };
            match ended {
                Ok(()) => return,
                Err(fault) => {
                    tracing::debug!(upstream = %self.upstream.id, %fault, "resources are not watched")
                }
            }
            pause =
                if begun.elapsed() > LONGEST_PAUSE { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            tokio::time::sleep(pause).await;
        }
    }

    /// A session of its own, so that what is subscribed in it concerns nobody else.
    async fn legacy(&mut self) -> Result<(), Fault> {
        let endpoint = self.worker.upstreams.endpoint(&self.upstream)?;
        let key = SessionKey {
            connection: self.upstream.connection_key,
            capabilities: Capabilities::default(),
            revision: Revision::LATEST_LEGACY,
            client: Era::Legacy,
        };
        let gauge = self.worker.shared.metrics.upstream_sessions.clone();
        let farewell = Farewell(Some(Pool::new(endpoint, Arc::clone(&self.upstream), key, gauge)));
        let Some(pool) = &farewell.0 else { return Ok(()) };
        let open = pool.session().await?;
        let mut reply = self.stream(&Verb::GET, open.headers.clone(), Bytes::new()).await?;
        let mut decoder = Decoder::new(MAX_EVENT);
        let mut subscribed = BTreeSet::new();
        loop {
            let wanted: BTreeSet<Box<str>> = self.wanted.borrow_and_update().keys().cloned().collect();
            for uri in subscribed.difference(&wanted) {
                ask(pool, &open, Method::ResourcesUnsubscribe, uri).await;
            }
            for uri in wanted.difference(&subscribed) {
                ask(pool, &open, Method::ResourcesSubscribe, uri).await;
            }
            subscribed = wanted;
            self.say(Notice::Live).await;
            if !self.hear(&mut reply, &mut decoder).await? {
                return Ok(());
            }
        }
    }

    /// One `subscriptions/listen`, begun anew when other resources are wanted.
    async fn modern(&mut self) -> Result<(), Fault> {
        loop {
            let revision = self.upstream.modern.first().copied().unwrap_or(Revision::LATEST);
            let endpoint = self.worker.upstreams.endpoint(&self.upstream)?;
            let mut headers = endpoint.headers.clone();
            headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(revision.as_str()));
            headers.insert(METHOD, HeaderValue::from_static(Method::SubscriptionsListen.as_str()));
            let body = listen(revision, &self.wanted.borrow_and_update());
            let mut reply = self.stream(&Verb::POST, headers, body).await?;
            if !self.hear(&mut reply, &mut Decoder::new(MAX_EVENT)).await? {
                return Ok(());
            }
        }
    }

    async fn stream(&self, verb: &Verb, headers: HeaderMap, body: Bytes) -> Result<Reply, Fault> {
        let endpoint = self.worker.upstreams.endpoint(&self.upstream)?;
        let answered = endpoint.send(verb, headers, body, Repeat::Safe, SILENCE);
        let answered = tokio::time::timeout(self.upstream.request_timeout, answered).await;
        let reply = answered.map_err(|_| Fault::Timeout)??;
        if reply.status != StatusCode::OK || reply.media() != Media::Events {
            return Err(Fault::Status(reply.status.as_u16()));
        }
        Ok(reply)
    }

    /// Passes on what is heard, until something else is wanted (true) or nothing any more (false).
    async fn hear(&mut self, reply: &mut Reply, decoder: &mut Decoder) -> Result<bool, Fault> {
        loop {
            while let Some(event) = decoder.next().map_err(|_| Fault::TooLarge)? {
                if let Some(notice) = self.notice(&event.data) {
                    self.say(notice).await;
                }
            }
            tokio::select! {
                chunk = reply.chunk() => decoder.push(chunk?.ok_or(Fault::Interrupted)?),
                changed = self.wanted.changed() => return Ok(changed.is_ok()),
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
                self.wanted.borrow().get(&*uri).cloned().map(Notice::Updated)
            }
            _ => None,
        }
    }

    async fn say(&self, notice: Notice) {
        // Nobody hears it when the client has just gone; then this task is about to end as well.
        let _: Result<(), _> = self.notices.send(notice).await;
    }
}

/// Subscribes or unsubscribes. A refusal concerns this one resource only.
async fn ask(pool: &Pool, open: &Open, method: Method, uri: &str) {
    let uri = json::quote(uri);
    let body = format!(r#"{{"jsonrpc":"2.0","id":{uri},"method":"{method}","params":{{"uri":{uri}}}}}"#);
    let asked = async { response(pool.post(open, body.into(), Repeat::Safe).await?).await };
    match asked.await {
        Ok(answer) if Envelope::parse(&answer).is_ok_and(|answer| answer.error.is_none()) => {}
        Ok(_) => tracing::debug!(%method, "an upstream refused"),
        Err(fault) => tracing::debug!(%method, %fault, "an upstream did not answer"),
    }
}

fn listen(revision: Revision, wanted: &Wanted) -> Bytes {
    let uris: Vec<String> = wanted.keys().map(|uri| json::quote(uri)).collect();
    let method = Method::SubscriptionsListen;
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"notifications":{{"resourceSubscriptions":[{}]}},"_meta":{{"{}":"{revision}","{}":{{}},"{}":{{"name":"trunkline","version":"{}"}}}}}}}}"#,
        uris.join(","),
        meta::PROTOCOL_VERSION,
        meta::CLIENT_CAPABILITIES,
        meta::CLIENT_INFO,
        env!("CARGO_PKG_VERSION"),
    )
    .into()
}
