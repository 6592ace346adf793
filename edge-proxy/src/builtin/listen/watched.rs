//! Resources and tasks that one stream of a client is notified of. It must not know how they are watched.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use mcp::json;
use mcp::method::Method;
use mcp::revision::Era;
use tokio::sync::watch;

use super::task_polling::{Follower, TaskPolling};
use super::tasks::{self, WatchedTask};
use crate::builtin::capabilities::{subscribing_method, update_era};
use crate::collections::byte_queue;
use crate::context::WorkerState;
use crate::policy::{self, Arguments, Caller, Permit};
use crate::route::{NamedTarget, TargetKind};
use crate::session::SubscribedUris;
use crate::upstream::{self, SubscriptionNotice, SubscriptionTargets, UpstreamSubscription};

/// Notices that wait for the client to read.
const MAX_WAITING: usize = 256;
const MAX_WAITING_BYTES: usize = 1 << 20;
/// The time that the acknowledgement may wait until upstreams are watched.
const LIVE_TIMEOUT: Duration = Duration::from_millis(500);

/// The targets that one stream is notified of.
pub(super) struct WatchedTargets {
    era: Era,
    /// By upstream, and the era in which it announces changes.
    watching: BTreeMap<(Box<str>, Era), UpstreamSubscription>,
    /// The tasks that their upstreams do not announce, by upstream.
    polling: Vec<TaskPolling>,
    sender: byte_queue::Sender<SubscriptionNotice>,
    notices: byte_queue::Receiver<SubscriptionNotice>,
    /// The subscriptions of the session, where the stream is a session's.
    pub(super) subscribed: Option<watch::Receiver<SubscribedUris>>,
}

/// A change to act on.
pub(super) enum Update {
    /// This resource has changed.
    Updated(Box<str>),
    /// A part of a watched resource has changed, which its upstream knows by this URI.
    PartUpdated { watched: Box<str>, part: Box<str> },
    /// The task of this id has the state in these raw params.
    Task(Box<str>, Box<str>),
    /// The session's subscriptions have changed.
    Subscribed,
}

impl Update {
    /// What a notice tells; `None` where nothing has changed.
    fn of(notice: SubscriptionNotice) -> Option<Self> {
        match notice {
            SubscriptionNotice::Live => None,
            SubscriptionNotice::Updated(uri) => Some(Self::Updated(uri)),
            SubscriptionNotice::PartUpdated { watched, part } => Some(Self::PartUpdated { watched, part }),
            SubscriptionNotice::Task { id, params } => Some(Self::Task(id, params)),
        }
    }
}

/// Returns the permit to read a resource, which is also the right to watch it as clients of `era` do.
pub(super) fn permit(caller: &Caller<'_>, era: Era, uri: &str) -> Option<Permit> {
    let named = NamedTarget::of(TargetKind::Resource, uri);
    policy::check(caller, subscribing_method(era), &named, Arguments::Of(None)).ok()
}

impl WatchedTargets {
    /// Creates an empty set.
    pub(super) fn new(era: Era) -> Self {
        let (sender, notices) = byte_queue::channel(MAX_WAITING, MAX_WAITING_BYTES);
        Self { era, watching: BTreeMap::new(), polling: Vec::new(), sender, notices, subscribed: None }
    }

    /// Polls those of the tasks that their upstreams do not announce, each upstream's for itself. To be called once: it is
    /// checked with each poll whether the client may still ask.
    pub(super) fn poll(&mut self, follower: &Follower, watched_tasks: &[WatchedTask]) {
        let mut by_upstream: BTreeMap<&str, Vec<&WatchedTask>> = BTreeMap::new();
        for watched in watched_tasks.iter().filter(|watched| watched.task.era() == Era::Legacy) {
            by_upstream.entry(&watched.task.upstream).or_default().push(watched);
        }
        let start =
            |tasks: Vec<_>| TaskPolling::start(follower.clone(), tasks.into_iter(), self.sender.clone());
        self.polling = by_upstream.into_values().map(start).collect();
    }

    /// Watches these and no others. Returns the resources that are watched: the others may not be read, or no upstream
    /// announces their changes.
    pub(super) fn watch_only<'a>(
        &mut self,
        worker: &Rc<WorkerState>,
        caller: &Caller<'_>,
        uris: impl IntoIterator<Item = &'a str>,
        watched_tasks: &[WatchedTask],
    ) -> BTreeSet<&'a str> {
        let mut wanted: BTreeMap<(Box<str>, Era), SubscriptionTargets> = BTreeMap::new();
        let mut accepted = BTreeSet::new();
        for uri in uris {
            let Some(permit) = permit(caller, self.era, uri) else { continue };
            let upstream = &permit.entry().upstream;
            if let Some(era) = update_era(upstream, self.era) {
                let entry = wanted.entry((upstream.id.clone(), era));
                entry.or_insert_with(|| SubscriptionTargets::at(&permit)).add_resource(&permit);
                accepted.insert(uri);
            }
        }
        for WatchedTask { id, task } in
            watched_tasks.iter().filter(|watched| watched.task.era() == Era::Modern)
        {
            let Some(permit) = tasks::permit(caller, Method::SubscriptionsListen, task) else { continue };
            let entry = wanted.entry((permit.entry().upstream.id.clone(), task.era()));
            entry.or_insert_with(|| SubscriptionTargets::at(&permit)).add_task(&permit, task, id);
        }
        self.watching.retain(|key, watching| wanted.get(key).is_some_and(|wanted| watching.replace(wanted)));
        for (key, wanted) in wanted {
            let era = key.1;
            self.watching
                .entry(key)
                .or_insert_with(|| upstream::subscribe(&worker.upstreams, era, &wanted, self.sender.clone()));
        }
        accepted
    }

    /// Watches the session's subscriptions.
    pub(super) fn watch_subscribed(&mut self, worker: &Rc<WorkerState>, caller: &Caller<'_>) {
        if let Some(uris) =
            self.subscribed.as_mut().map(|uris| SubscribedUris::clone(&uris.borrow_and_update()))
        {
            self.watch_only(worker, caller, uris.iter().map(|uri| &**uri), &[]);
        }
    }

    /// Waits until every upstream is watched, or for too long. Returns the changes meanwhile.
    pub(super) async fn wait_until_live(&mut self) -> Vec<Update> {
        let (mut missing, mut updates) = (self.watching.len(), Vec::new());
        let all_live = async {
            while missing > 0 {
                match self.notices.recv().await.map(Update::of) {
                    Some(None) => missing -= 1,
                    Some(Some(update)) => updates.push(update),
                    None => return,
                }
            }
        };
        // An upstream that is not watched by then is watched later.
        let _: Result<(), _> = tokio::time::timeout(LIVE_TIMEOUT, all_live).await;
        updates
    }

    /// Waits for the next change. The future may be dropped and made anew.
    pub(super) async fn next(&mut self) -> Update {
        loop {
            let (subscribed, notices) = (&mut self.subscribed, &mut self.notices);
            let changed = async {
                match subscribed {
                    Some(uris) => uris.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changed => {
                    if !changed {
                        // The session has ended, which the next check finds.
                        self.subscribed = None;
                    }
                    return Update::Subscribed;
                }
                Some(notice) = notices.recv() => {
                    if let Some(update) = Update::of(notice) {
                        return update;
                    }
                }
            }
        }
    }
}

/// Returns the URI by which the caller may read a part of a resource that it watches, and may still read.
pub(super) fn readable_part(caller: &Caller<'_>, era: Era, watched: &str, part: &str) -> Option<Box<str>> {
    let watched = permit(caller, era, watched)?;
    policy::readable_at(caller, &watched).find(part)
}

/// Renders the notification of a changed resource. `more` are further members of its params.
pub(super) fn resource_updated(uri: &str, more: &str) -> String {
    let separator = if more.is_empty() { "" } else { "," };
    format!(
        r#"{{"jsonrpc":"2.0","method":"{}","params":{{"uri":{}{separator}{more}}}}}"#,
        Method::ResourcesUpdated,
        json::quote(uri),
    )
}
