//! Streams that the edge itself speaks on: the legacy GET stream and `subscriptions/listen`.
//!
//! They say when a list has changed for this caller, which the snapshot tells. It must not call upstreams.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use mcp::json;
use mcp::meta;
use mcp::method::Method;
use mcp::revision::Revision;
use mcp::sse::{self, KEEP_ALIVE};
use tokio::sync::watch;

use crate::authn::is_in_force;
use crate::error::Failure;
use crate::observe::Entered;
use crate::reply::Reply;
use crate::scene::Scene;
use crate::session::{Conversation, Jti};
use crate::snapshot::{Permissions, Server};
use crate::streams::Open;
use crate::transport::Message;
use crate::usage::Outcome;
use crate::worker::Worker;

const CHANGES: [Method; 3] =
    [Method::ToolsListChanged, Method::ResourcesListChanged, Method::PromptsListChanged];
const WANTED: [&str; 3] = ["toolsListChanged", "resourcesListChanged", "promptsListChanged"];

/// The GET stream of a legacy session.
pub fn legacy(scene: &Scene<'_>, conversation: &Rc<Conversation>) -> Result<Reply, Failure> {
    let mut watch = Watch::begin(scene, [true; 3])?;
    watch.session = Some(conversation.jti);
    // Older clients choke on an event without data.
    let greeting = match conversation.revision {
        revision if revision >= Revision::V2025_11_25 => Bytes::from_static(b"id: 0\ndata:\n\n"),
        _ => Bytes::from_static(KEEP_ALIVE),
    };
    watch.ready.push_back(greeting);
    Ok(watch.into_reply())
}

/// The stream of a `subscriptions/listen`.
pub fn modern(scene: &Scene<'_>, message: &Message<'_>) -> Result<Reply, Failure> {
    let mut account = scene.account(Method::SubscriptionsListen.as_str(), message.body.len());
    account.outcome = Outcome::ClientError;
    let [wanted] = json::members(message.envelope.params.unwrap_or("{}"), ["notifications"])
        .map_err(|error| Failure::params(error.to_string()))?;
    let wanted = wanted.ok_or_else(|| Failure::params("params.notifications is needed"))?;
    let wanted = json::members(wanted, WANTED)
        .map_err(|_| Failure::params("params.notifications must be an object"))?;
    let wanted = wanted.map(|flag| flag == Some("true"));
    let id = message.envelope.id.unwrap_or("null");
    let mut watch = Watch::begin(scene, wanted)?;
    let subscription = format!(r#""_meta":{{"{}":{id}}}"#, meta::SUBSCRIPTION_ID);
    watch.ready.push_back(acknowledgement(wanted, &subscription));
    watch.farewell = Some(event(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete",{subscription}}}}}"#
    )));
    watch.params = format!(r#","params":{{{subscription}}}"#);
    account.ended(Outcome::Ok, 0);
    Ok(watch.into_reply())
}

fn acknowledgement(wanted: [bool; 3], subscription: &str) -> Bytes {
    let honoured = WANTED.iter().zip(wanted).filter(|(_, wanted)| *wanted);
    let honoured: Vec<String> = honoured.map(|(name, _)| format!(r#""{name}":true"#)).collect();
    event(format!(
        r#"{{"jsonrpc":"2.0","method":"{}","params":{{"notifications":{{{}}},{subscription}}}}}"#,
        Method::SubscriptionsAcknowledged,
        honoured.join(","),
    ))
}

fn event(message: String) -> Bytes {
    sse::encode_data(message.as_bytes())
}

/// A caller who is told when lists change.
struct Watch {
    worker: Rc<Worker>,
    server: Box<str>,
    token: Box<str>,
    session: Option<Jti>,
    wanted: [bool; 3],
    seen: Seen,
    /// What notifications carry besides their method.
    params: String,
    /// The last event, where the end is one that the edge chose.
    farewell: Option<Bytes>,
    ready: VecDeque<Bytes>,
    moved: watch::Receiver<u64>,
    drain: watch::Receiver<bool>,
    ended: bool,
    _open: Open,
    _counted: Entered,
}

/// What decides a caller's lists.
struct Seen {
    uid: Box<str>,
    generations: [u64; 3],
    permissions: Permissions,
}

enum Wake {
    Snapshot,
    Drain,
    Silence,
}

impl Watch {
    fn begin(scene: &Scene<'_>, wanted: [bool; 3]) -> Result<Self, Failure> {
        let shared = &scene.worker.shared;
        let limit = shared.limits.max_streams_per_token;
        let open = shared.streams.open(&scene.token.uid, limit).ok_or(Failure::TooManyStreams)?;
        if scene.worker.is_draining() {
            return Err(Failure::Draining);
        }
        let mut watch = Self {
            worker: Rc::clone(scene.worker),
            server: scene.view.server.id.clone(),
            token: scene.token.uid.clone(),
            session: None,
            wanted,
            seen: Seen {
                uid: scene.view.server.uid.clone(),
                generations: generations(&scene.view.server),
                permissions: scene.token.scope.permissions().clone(),
            },
            params: String::new(),
            farewell: None,
            ready: VecDeque::new(),
            moved: shared.current.subscribe(),
            drain: scene.worker.drain.clone(),
            ended: false,
            _open: open,
            _counted: shared.metrics.streams.enter(),
        };
        // What was published since this request was pinned to its snapshot counts as a change.
        watch.moved.mark_changed();
        Ok(watch)
    }

    fn into_reply(self) -> Reply {
        Reply::Stream(Box::pin(stream::unfold(self, |mut watch| async move {
            let chunk = watch.next().await?;
            Some((chunk, watch))
        })))
    }

    async fn next(&mut self) -> Option<Bytes> {
        let silence = self.worker.shared.limits.keep_alive;
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            if self.ended {
                return self.farewell.take();
            }
            let woken_by = tokio::select! {
                _ = self.moved.changed() => Wake::Snapshot,
                _ = self.drain.wait_for(|draining| *draining) => Wake::Drain,
                () = tokio::time::sleep(silence) => Wake::Silence,
            };
            match woken_by {
                Wake::Snapshot => self.look(),
                Wake::Drain => self.ended = true,
                Wake::Silence => {
                    self.look();
                    return Some(Bytes::from_static(KEEP_ALIVE));
                }
            }
        }
    }

    /// Looks at the snapshot in force, for what changed and whether the caller may still know.
    fn look(&mut self) {
        let snapshot = self.worker.shared.current.load_full();
        let now = self.worker.now();
        let terminated = self.session.is_some_and(|jti| self.worker.shared.terminated.contains(&jti));
        let token = snapshot.tokens.get(&self.token).filter(|token| is_in_force(token, now));
        let view = token.and_then(|token| Some((token, token.scope.view(&self.server)?)));
        match view.filter(|(_, view)| view.server.uid == self.seen.uid && !terminated) {
            Some((token, view)) => self.compare(token.scope.permissions(), &Arc::clone(&view.server)),
            None => self.ended = true,
        }
    }

    fn compare(&mut self, permissions: &Permissions, server: &Server) {
        let generations = generations(server);
        let rescoped = *permissions != self.seen.permissions;
        for (at, change) in CHANGES.into_iter().enumerate() {
            if self.wanted[at] && (rescoped || generations[at] != self.seen.generations[at]) {
                let params = &self.params;
                self.ready.push_back(event(format!(r#"{{"jsonrpc":"2.0","method":"{change}"{params}}}"#)));
            }
        }
        self.seen.generations = generations;
        if rescoped {
            self.seen.permissions = permissions.clone();
        }
    }
}

fn generations(server: &Server) -> [u64; 3] {
    [server.tools_generation, server.resources_generation, server.prompts_generation]
}
