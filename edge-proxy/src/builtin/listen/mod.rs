//! Streams that the edge itself speaks on: the legacy GET stream and `subscriptions/listen`.
//!
//! They say when a list has changed for this caller, which the snapshot tells, and when a resource or a task has, which
//! its upstream tells. It must not know how upstreams are watched.

mod heard;
mod tasks;

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
pub use heard::permit;
use heard::{Heard, News};
use mcp::json;
use mcp::meta;
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use mcp::sse::KEEP_ALIVE;
pub use tasks::permit as task_permit;
use tasks::{Followed, TASKS};
use tokio::sync::watch;

use crate::authn::{is_in_force, remaining};
use crate::error::Failure;
use crate::observe::Entered;
use crate::respond::{Reply, Said};
use crate::scene::{Came, Scene};
use crate::session::{Conversation, Jti, MAX_URIS};
use crate::snapshot::{Permissions, Server, View};
use crate::streams::Open;
use crate::transport::Message;
use crate::usage::Outcome;
use crate::worker::Worker;

const CHANGES: [Method; 3] =
    [Method::ToolsListChanged, Method::ResourcesListChanged, Method::PromptsListChanged];
const SUBSCRIPTIONS: &str = "resourceSubscriptions";
const WANTED: [&str; 3] = ["toolsListChanged", "resourcesListChanged", "promptsListChanged"];

/// The first thing on a GET stream. Older clients choke on an event without data.
const PRIMING: &[u8] = b"id: 0\ndata:\n\n";

/// What a legacy session hears without having asked: its GET stream, or its connection.
pub fn legacy(scene: &Scene<'_>, conversation: &Rc<Conversation>) -> Result<Reply, Failure> {
    let mut watch = Watch::begin(scene, Era::Legacy, [true; 3])?;
    watch.session = Some(conversation.jti);
    watch.heard.subscribed = scene.worker.shared.subscriptions.watch(conversation, scene.now);
    watch.heard.want_subscribed(scene.worker, scene.view);
    let primed = conversation.revision >= Revision::V2025_11_25;
    watch.ready.push_back(Said::Filler(if primed { PRIMING } else { KEEP_ALIVE }));
    Ok(watch.into_reply())
}

/// The stream of a `subscriptions/listen`.
pub async fn modern(scene: &Scene<'_>, message: &Message<'_>) -> Result<Reply, Failure> {
    let mut account = scene.account(Method::SubscriptionsListen.as_str(), message.body.len());
    account.outcome = Outcome::ClientError;
    let [wanted] = json::members(message.envelope.params.unwrap_or("{}"), ["notifications"])
        .map_err(|error| Failure::params(error.to_string()))?;
    let wanted = wanted.ok_or_else(|| Failure::params("params.notifications is required"))?;
    let [tools, resources, prompts, uris, tasks] =
        json::members(wanted, [WANTED[0], WANTED[1], WANTED[2], SUBSCRIPTIONS, TASKS])
            .map_err(|_| Failure::params("params.notifications must be an object"))?;
    let wanted = [tools, resources, prompts].map(|flag| flag == Some("true"));
    let (uris, tasks) = (strings(uris, SUBSCRIPTIONS)?, tasks::followed(scene, message, tasks)?);
    let id = message.envelope.id.unwrap_or("null");
    let mut watch = Watch::begin(scene, Era::Modern, wanted)?;
    let subscription = format!(r#""_meta":{{"{}":{id}}}"#, meta::SUBSCRIPTION_ID);
    let honoured = watch.heard.want(scene.worker, scene.view, uris.iter().map(|uri| &**uri), &tasks);
    watch.ready.push_back(acknowledgement(wanted, &honoured, &tasks, &subscription));
    watch.farewell = Some(message_of(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete",{subscription}}}}}"#
    )));
    (watch.params, watch.subscription, watch.tasks) = (subscription, id.into(), tasks);
    for news in watch.heard.live().await {
        watch.tell(&news, scene.view);
    }
    account.ended(Outcome::Ok, 0);
    Ok(watch.into_reply())
}

/// The strings of an array, such as URIs.
fn strings(raw: Option<&str>, member: &str) -> Result<Vec<String>, Failure> {
    let bad = || Failure::params(format!("{member} must be an array of at most {MAX_URIS} strings"));
    let mut strings = Vec::new();
    let Some(raw) = raw else { return Ok(strings) };
    if !raw.starts_with('[') {
        return Err(bad());
    }
    json::each_element::<json::JsonError>(raw, |string| {
        strings.push(json::string(string)?.into_owned());
        Ok(())
    })
    .map_err(|_| bad())?;
    if strings.len() > MAX_URIS { Err(bad()) } else { Ok(strings) }
}

fn acknowledgement(
    wanted: [bool; 3],
    watched: &BTreeSet<&str>,
    tasks: &[Followed],
    subscription: &str,
) -> Said {
    let honoured = WANTED.iter().zip(wanted).filter(|(_, wanted)| *wanted);
    let mut honoured: Vec<String> = honoured.map(|(name, _)| format!(r#""{name}":true"#)).collect();
    if !watched.is_empty() {
        let uris: Vec<String> = watched.iter().map(|uri| json::quote(uri)).collect();
        honoured.push(format!(r#""{SUBSCRIPTIONS}":[{}]"#, uris.join(",")));
    }
    if !tasks.is_empty() {
        let ids: Vec<String> = tasks.iter().map(|task| json::quote(&task.id)).collect();
        honoured.push(format!(r#""{TASKS}":[{}]"#, ids.join(",")));
    }
    message_of(format!(
        r#"{{"jsonrpc":"2.0","method":"{}","params":{{"notifications":{{{}}},{subscription}}}}}"#,
        Method::SubscriptionsAcknowledged,
        honoured.join(","),
    ))
}

fn message_of(text: String) -> Said {
    Said::Message(Bytes::from(text))
}

/// A caller who is told when lists change.
struct Watch {
    worker: Rc<Worker>,
    server: Box<str>,
    token: Box<str>,
    session: Option<Jti>,
    wanted: [bool; 3],
    seen: Seen,
    heard: Heard,
    /// The tasks it wants to hear of.
    tasks: Vec<Followed>,
    /// What the params of notifications hold besides what they say.
    params: String,
    /// The raw id of the request that asked for them.
    subscription: Box<str>,
    /// The last word, where the end is one that the edge chose.
    farewell: Option<Said>,
    ready: VecDeque<Said>,
    moved: watch::Receiver<u64>,
    drain: watch::Receiver<bool>,
    ended: bool,
    _seat: Option<(Open, Entered)>,
}

/// What decides a caller's lists.
struct Seen {
    uid: Box<str>,
    generations: [u64; 3],
    permissions: Permissions,
}

enum Wake {
    Snapshot,
    Heard(News),
    Drain,
    Silence,
}

impl Watch {
    fn begin(scene: &Scene<'_>, era: Era, wanted: [bool; 3]) -> Result<Self, Failure> {
        let shared = &scene.worker.shared;
        let seat = match scene.came {
            Came::Alone(_) => Some(shared.seat(&scene.token.uid).ok_or(Failure::TooManyStreams)?),
            // The connection has its seat already.
            Came::On(_) => None,
        };
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
            heard: Heard::new(era),
            tasks: Vec::new(),
            params: String::new(),
            subscription: Box::default(),
            farewell: None,
            ready: VecDeque::new(),
            moved: shared.current.subscribe(),
            drain: scene.worker.drain.clone(),
            ended: false,
            _seat: seat,
        };
        // What was published since this request was pinned to its snapshot counts as a change.
        watch.moved.mark_changed();
        Ok(watch)
    }

    fn into_reply(self) -> Reply {
        Reply::Stream(Box::pin(stream::unfold(self, |mut watch| async move {
            let said = watch.next().await?;
            Some((said, watch))
        })))
    }

    async fn next(&mut self) -> Option<Said> {
        let silence = self.worker.shared.limits.keep_alive;
        loop {
            // A token that ends by itself takes the stream with it.
            let end = self.remaining().filter(|left| *left < silence);
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            if self.ended {
                return self.farewell.take();
            }
            let woken_by = tokio::select! {
                _ = self.moved.changed() => Wake::Snapshot,
                news = self.heard.next() => Wake::Heard(news),
                _ = self.drain.wait_for(|draining| *draining) => Wake::Drain,
                () = tokio::time::sleep(end.unwrap_or(silence)) => Wake::Silence,
            };
            match woken_by {
                Wake::Snapshot => self.look(),
                Wake::Heard(news) => self.hear(&news),
                Wake::Drain => self.ended = true,
                Wake::Silence => {
                    self.look();
                    if end.is_none() {
                        return Some(Said::Filler(KEEP_ALIVE));
                    }
                }
            }
        }
    }

    fn remaining(&self) -> Option<Duration> {
        let snapshot = self.worker.shared.current.load();
        remaining(snapshot.tokens.get(&self.token)?, self.worker.now())
    }

    /// Looks at the snapshot in force, for what changed and whether the caller may still know.
    fn look(&mut self) {
        let Some((permissions, view)) = self.view() else { return };
        self.compare(&permissions, &view.server);
        self.heard.want_subscribed(&self.worker, &view);
    }

    fn hear(&mut self, news: &News) {
        if let Some((_, view)) = self.view() {
            self.tell(news, &view);
        }
    }

    /// Tells that a resource or a task changed, if the caller may still read or call it.
    fn tell(&mut self, news: &News, view: &View) {
        match news {
            News::Updated(uri) if permit(view, uri).is_some() => {
                self.ready.push_back(message_of(heard::updated(uri, &self.params)));
            }
            News::Task(id, params) if self.may_follow(id, view) => {
                let stands = tasks::stands(params, &self.subscription);
                self.ready.extend(stands.ok().map(message_of));
            }
            News::Updated(_) | News::Task(..) => {}
            News::Subscribed => self.heard.want_subscribed(&self.worker, view),
        }
    }

    fn may_follow(&self, id: &str, view: &View) -> bool {
        let followed = self.tasks.iter().find(|followed| *followed.id == *id);
        followed.is_some_and(|followed| tasks::permit(view, &followed.task).is_some())
    }

    /// What the caller sees now; nothing once it may see nothing any more, and then the stream ends.
    fn view(&mut self) -> Option<(Permissions, Arc<View>)> {
        let snapshot = self.worker.shared.current.load_full();
        let now = self.worker.now();
        let terminated = self.session.is_some_and(|jti| self.worker.shared.terminated.contains(&jti));
        let token = snapshot.tokens.get(&self.token).filter(|token| is_in_force(token, now));
        let view = token.and_then(|token| Some((token, token.scope.view(&self.server)?)));
        let view = view.filter(|(_, view)| view.server.uid == self.seen.uid && !terminated);
        self.ended = view.is_none();
        view.map(|(token, view)| (token.scope.permissions().clone(), Arc::clone(view)))
    }

    fn compare(&mut self, permissions: &Permissions, server: &Server) {
        let generations = generations(server);
        let rescoped = *permissions != self.seen.permissions;
        for (at, change) in CHANGES.into_iter().enumerate() {
            if self.wanted[at] && (rescoped || generations[at] != self.seen.generations[at]) {
                let params = match &*self.params {
                    "" => String::new(),
                    params => format!(r#","params":{{{params}}}"#),
                };
                let told = format!(r#"{{"jsonrpc":"2.0","method":"{change}"{params}}}"#);
                self.ready.push_back(message_of(told));
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
