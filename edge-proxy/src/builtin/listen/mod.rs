//! Streams of notifications by the edge itself: the legacy GET stream and `subscriptions/listen`.
//!
//! They announce changed lists, which the snapshot shows, and changed resources and tasks, which upstreams announce.
//! It must not know how upstreams are watched.

mod known_lists;
mod task_polling;
mod tasks;
mod watched;

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use known_lists::KnownLists;
use mcp::json;
use mcp::meta;
use mcp::method::Method;
use mcp::revision::{Era, Revision};
use mcp::sse::KEEP_ALIVE;
use task_polling::Follower;
pub use tasks::permit as task_permit;
use tasks::{TASKS, WatchedTask};
use tokio::sync::watch;
use watched::{Update, WatchedTargets, permit};

use crate::context::{RequestContext, StreamPermit, WorkerState};
use crate::error::Failure;
use crate::identity::Principal;
use crate::observe::Bound;
use crate::policy::{self, Caller, Facts, Permit};
use crate::respond::{Reply, StreamItem};
use crate::session::{Conversation, MAX_URIS, SessionId, SubscribingSession};
use crate::snapshot::Snapshot;
use crate::transport::Message;
use crate::usage::Outcome;

const CHANGES: [Method; 3] =
    [Method::ToolsListChanged, Method::ResourcesListChanged, Method::PromptsListChanged];
const SUBSCRIPTIONS: &str = "resourceSubscriptions";
const WANTED: [&str; 3] = ["toolsListChanged", "resourcesListChanged", "promptsListChanged"];

/// The first event of a GET stream. Older clients fail on an event without data.
const PRIMING: &[u8] = b"id: 0\ndata:\n\n";

/// Opens the notifications of a legacy session: on its GET stream, or on its connection.
pub fn legacy(context: &RequestContext<'_>, conversation: &Rc<Conversation>) -> Result<Reply, Failure> {
    let mut stream = NotificationStream::begin(context, Era::Legacy, [true; 3])?;
    stream.session = Some(conversation.session_id);
    let (shared, subscriber) =
        (&context.worker.shared, SubscribingSession::new(conversation, &context.principal().uid));
    let subscribed = shared.subscriptions.watch(subscriber, context.now());
    stream.watched.subscribed =
        Some(subscribed.map_err(|no_room| shared.no_room(Bound::Subscriptions, no_room))?);
    stream.watched.watch_subscribed(context.worker, &context.caller);
    let primed = conversation.revision >= Revision::V2025_11_25;
    stream.ready.push_back(StreamItem::KeepAlive(if primed { PRIMING } else { KEEP_ALIVE }));
    Ok(stream.into_reply())
}

/// Opens the stream of a `subscriptions/listen`.
pub async fn modern(context: &RequestContext<'_>, message: &Message<'_>) -> Result<Reply, Failure> {
    let mut account = context.account(Method::SubscriptionsListen.as_str(), message.body.len());
    account.outcome = Outcome::ClientError;
    let [wanted] = json::members(message.envelope.params.unwrap_or("{}"), ["notifications"])
        .map_err(|error| Failure::params(error.to_string()))?;
    let wanted = wanted.ok_or_else(|| Failure::params("params.notifications is required"))?;
    let [tools, resources, prompts, uris, tasks] =
        json::members(wanted, [WANTED[0], WANTED[1], WANTED[2], SUBSCRIPTIONS, TASKS])
            .map_err(|_| Failure::params("params.notifications must be an object"))?;
    let wanted = [tools, resources, prompts].map(|flag| flag == Some("true"));
    let (uris, tasks) = (strings(uris, SUBSCRIPTIONS)?, tasks::requested(context, message, tasks)?);
    let id = message.envelope.id.unwrap_or("null");
    let mut stream = NotificationStream::begin(context, Era::Modern, wanted)?;
    let subscription = format!(r#""_meta":{{"{}":{id}}}"#, meta::SUBSCRIPTION_ID);
    let accepted =
        stream.watched.watch_only(context.worker, &context.caller, uris.iter().map(|uri| &**uri), &tasks);
    let server = [&context.server().id, &context.server().uid].map(|name| Box::from(&**name));
    let (worker, principal) = (Rc::clone(context.worker), Arc::clone(context.principal()));
    stream.watched.poll(&Follower { worker, principal, address: stream.address, server }, &tasks);
    stream.uris = accepted.iter().map(|uri| (*uri).into()).collect();
    stream.ready.push_back(acknowledgement(wanted, &accepted, &tasks, &subscription));
    stream.closing = Some(message_of(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete",{subscription}}}}}"#
    )));
    (stream.params, stream.subscription, stream.tasks) = (subscription, id.into(), tasks);
    for update in stream.watched.wait_until_live().await {
        stream.notify(&update, &context.caller);
    }
    account.ended(Outcome::Ok, 0);
    Ok(stream.into_reply())
}

/// Parses an array of strings, such as URIs.
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
    tasks: &[WatchedTask],
    subscription: &str,
) -> StreamItem {
    let accepted = WANTED.iter().zip(wanted).filter(|(_, wanted)| *wanted);
    let mut accepted: Vec<String> = accepted.map(|(name, _)| format!(r#""{name}":true"#)).collect();
    if !watched.is_empty() {
        let uris: Vec<String> = watched.iter().map(|uri| json::quote(uri)).collect();
        accepted.push(format!(r#""{SUBSCRIPTIONS}":[{}]"#, uris.join(",")));
    }
    if !tasks.is_empty() {
        let ids: Vec<String> = tasks.iter().map(|task| json::quote(&task.id)).collect();
        accepted.push(format!(r#""{TASKS}":[{}]"#, ids.join(",")));
    }
    message_of(format!(
        r#"{{"jsonrpc":"2.0","method":"{}","params":{{"notifications":{{{}}},{subscription}}}}}"#,
        Method::SubscriptionsAcknowledged,
        accepted.join(","),
    ))
}

fn message_of(text: String) -> StreamItem {
    StreamItem::Message(Bytes::from(text))
}

/// A stream of notifications to one caller.
struct NotificationStream {
    worker: Rc<WorkerState>,
    principal: Arc<Principal>,
    /// The address of the client, if it is known.
    address: Option<IpAddr>,
    era: Era,
    session: Option<SessionId>,
    wanted: [bool; 3],
    known: KnownLists,
    watched: WatchedTargets,
    /// The resources that it watches, where its request named them.
    uris: Vec<Box<str>>,
    /// The tasks that it watches.
    tasks: Vec<WatchedTask>,
    /// The members of the notifications' params that name the subscription.
    params: String,
    /// The raw id of the request that opened the stream.
    subscription: Box<str>,
    /// The last message, if the edge ends the stream.
    closing: Option<StreamItem>,
    ready: VecDeque<StreamItem>,
    published: watch::Receiver<u64>,
    drain: watch::Receiver<bool>,
    ended: bool,
    _permit: Option<StreamPermit>,
}

enum WakeReason {
    Snapshot,
    Update(Update),
    Drain,
    Silence,
}

impl NotificationStream {
    fn begin(context: &RequestContext<'_>, era: Era, wanted: [bool; 3]) -> Result<Self, Failure> {
        let shared = &context.worker.shared;
        let permit = context.stream_permit()?;
        if context.worker.is_draining() {
            return Err(Failure::Draining);
        }
        let mut stream = Self {
            worker: Rc::clone(context.worker),
            principal: Arc::clone(context.principal()),
            address: context.caller.facts().address,
            era,
            session: None,
            wanted,
            known: KnownLists::new(&context.caller),
            watched: WatchedTargets::new(era),
            uris: Vec::new(),
            tasks: Vec::new(),
            params: String::new(),
            subscription: Box::default(),
            closing: None,
            ready: VecDeque::new(),
            published: shared.environment.current.subscribe(),
            drain: context.worker.drain.clone(),
            ended: false,
            _permit: permit,
        };
        // A snapshot that was published since this request was pinned to its own counts as a change.
        stream.published.mark_changed();
        Ok(stream)
    }

    fn into_reply(self) -> Reply {
        Reply::Stream(Box::pin(stream::unfold(self, |mut stream| async move {
            let item = stream.next().await?;
            Some((item, stream))
        })))
    }

    async fn next(&mut self) -> Option<StreamItem> {
        let silence = self.worker.shared.environment.limits.keep_alive;
        loop {
            // A right that expires takes the stream with it.
            let end = self.remaining().filter(|left| *left < silence);
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            if self.ended {
                return self.closing.take();
            }
            let woken_by = tokio::select! {
                _ = self.published.changed() => WakeReason::Snapshot,
                update = self.watched.next() => WakeReason::Update(update),
                _ = self.drain.wait_for(|draining| *draining) => WakeReason::Drain,
                () = tokio::time::sleep(end.unwrap_or(silence)) => WakeReason::Silence,
            };
            match woken_by {
                WakeReason::Snapshot => self.check_snapshot(),
                WakeReason::Update(update) => self.handle_update(&update),
                WakeReason::Drain => self.ended = true,
                WakeReason::Silence => {
                    self.check_snapshot();
                    if end.is_none() {
                        return Some(StreamItem::KeepAlive(KEEP_ALIVE));
                    }
                }
            }
        }
    }

    fn remaining(&self) -> Option<Duration> {
        let snapshot = self.worker.shared.environment.current.load();
        policy::remaining(&snapshot, &self.principal, self.worker.now())
    }

    /// Checks the snapshot in force for changed lists, and for the caller's access.
    fn check_snapshot(&mut self) {
        let (snapshot, principal) = self.current();
        let Some(caller) = self.admit(&snapshot, &principal) else { return };
        if let Some(changed) = self.known.move_to(&caller) {
            self.announce(changed);
            self.watch_again(&caller);
        }
    }

    /// Watches what the caller may still be told of: the session's subscriptions, or what its request named.
    fn watch_again(&mut self, caller: &Caller<'_>) {
        if self.session.is_some() {
            self.watched.watch_subscribed(&self.worker, caller);
        } else {
            let uris = self.uris.iter().map(|uri| &**uri);
            self.watched.watch_only(&self.worker, caller, uris, &self.tasks);
        }
    }

    fn handle_update(&mut self, update: &Update) {
        let (snapshot, principal) = self.current();
        if let Some(caller) = self.admit(&snapshot, &principal) {
            self.notify(update, &caller);
        }
    }

    /// Announces a changed resource or task, if the caller may still read or call it.
    fn notify(&mut self, update: &Update, caller: &Caller<'_>) {
        match update {
            Update::Updated(uri) if permit(caller, self.era, uri).is_some() => {
                self.ready.push_back(message_of(watched::resource_updated(uri, &self.params)));
            }
            Update::PartUpdated { watched, part } => {
                let part = watched::readable_part(caller, self.era, watched, part);
                let updated = part.map(|part| message_of(watched::resource_updated(&part, &self.params)));
                self.ready.extend(updated);
            }
            Update::Task(id, params) => {
                let status = self.followed(id, caller).and_then(|permit| {
                    tasks::status_notification(params, &self.subscription, permit.masks().map(AsRef::as_ref))
                });
                self.ready.extend(status.map(message_of));
            }
            Update::Updated(_) => {}
            Update::Subscribed => self.watched.watch_subscribed(&self.worker, caller),
        }
    }

    /// The permit to follow the task of this id.
    fn followed(&self, id: &str, caller: &Caller<'_>) -> Option<Permit> {
        let watched = self.tasks.iter().find(|watched| *watched.id == *id)?;
        tasks::permit(caller, Method::SubscriptionsListen, &watched.task)
    }

    fn current(&self) -> (Arc<Snapshot>, Arc<Principal>) {
        (self.worker.shared.environment.current.load_full(), Arc::clone(&self.principal))
    }

    /// Admits the caller again. Without its rights, its session or the method that opened it, the stream ends.
    fn admit<'a>(&mut self, snapshot: &'a Snapshot, principal: &'a Arc<Principal>) -> Option<Caller<'a>> {
        let terminated =
            self.session.is_some_and(|session_id| self.worker.shared.terminated.contains(&session_id));
        let facts = Facts { address: self.address, now: self.worker.now() };
        let server = self.known.server();
        let caller = policy::admit_again(snapshot, principal, [&server.id, &server.uid], facts);
        let may_listen =
            |caller: &Caller<'_>| self.era == Era::Legacy || caller.may_use(Method::SubscriptionsListen);
        let caller = caller.ok().filter(|caller| !terminated && may_listen(caller));
        self.ended = caller.is_none();
        caller
    }

    /// Announces the changed ones of the lists of tools, resources and prompts, if the caller wants to know.
    fn announce(&mut self, changed: [bool; 3]) {
        for (at, change) in CHANGES.into_iter().enumerate() {
            if self.wanted[at] && changed[at] {
                let params = match &*self.params {
                    "" => String::new(),
                    params => format!(r#","params":{{{params}}}"#),
                };
                let notification = format!(r#"{{"jsonrpc":"2.0","method":"{change}"{params}}}"#);
                self.ready.push_back(message_of(notification));
            }
        }
    }
}
