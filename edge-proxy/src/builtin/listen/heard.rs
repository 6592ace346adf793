//! Resources and tasks that one stream of a client is told about. It must not know how they are watched.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use mcp::json;
use mcp::method::Method;
use mcp::revision::Era;
use tokio::sync::{mpsc, watch};

use super::tasks::Followed;
use crate::builtin::capabilities::told_in;
use crate::policy::{self, Permit};
use crate::route::{Named, Noun};
use crate::session::Uris;
use crate::snapshot::View;
use crate::upstream::{SubscriptionNotice, SubscriptionTargets, UpstreamSubscription};
use crate::worker::Worker;

/// Notices that wait for the client to read.
const MAX_WAITING: usize = 256;
/// How long a client waits at most to be told that it is heard.
const PATIENCE: Duration = Duration::from_millis(500);

/// What one stream is told about.
pub(super) struct Heard {
    era: Era,
    /// By upstream, and the era in which it tells.
    watching: BTreeMap<(Box<str>, Era), UpstreamSubscription>,
    sender: mpsc::Sender<SubscriptionNotice>,
    notices: mpsc::Receiver<SubscriptionNotice>,
    /// What the session is subscribed to, where the stream is a session's.
    pub(super) subscribed: Option<watch::Receiver<Uris>>,
}

/// What there is to do.
pub(super) enum News {
    /// This resource changed.
    Updated(Box<str>),
    /// The task of this id stands as these raw params say.
    Task(Box<str>, Box<str>),
    /// The session is subscribed to others now.
    Subscribed,
}

/// The right to read a resource, which is the right to hear of it.
pub fn permit(view: &View, uri: &str) -> Option<Permit> {
    policy::permit(view, &Named::of(Noun::Resource, uri))
}

impl Heard {
    /// None yet.
    pub(super) fn new(era: Era) -> Self {
        let (sender, notices) = mpsc::channel(MAX_WAITING);
        Self { era, watching: BTreeMap::new(), sender, notices, subscribed: None }
    }

    /// Watches these and no others. Returns the resources that are watched: the others may not be read, or nobody tells
    /// of them.
    pub(super) fn want<'a>(
        &mut self,
        worker: &Rc<Worker>,
        view: &View,
        uris: impl IntoIterator<Item = &'a str>,
        tasks: &[Followed],
    ) -> BTreeSet<&'a str> {
        let mut wanted: BTreeMap<(Box<str>, Era), SubscriptionTargets> = BTreeMap::new();
        let mut honoured = BTreeSet::new();
        for uri in uris {
            let Some(permit) = permit(view, uri) else { continue };
            let upstream = &permit.entry().upstream;
            if let Some(era) = told_in(upstream, self.era) {
                let place = wanted.entry((upstream.id.clone(), era));
                place.or_insert_with(|| SubscriptionTargets::at(&permit)).add_resource(&permit);
                honoured.insert(uri);
            }
        }
        for Followed { id, task, permit } in tasks {
            let place = wanted.entry((permit.entry().upstream.id.clone(), task.era()));
            place.or_insert_with(|| SubscriptionTargets::at(permit)).add_task(permit, task, id);
        }
        self.watching.retain(|key, watching| wanted.get(key).is_some_and(|wanted| watching.replace(wanted)));
        for (key, wanted) in wanted {
            let era = key.1;
            self.watching
                .entry(key)
                .or_insert_with(|| UpstreamSubscription::start(worker, era, wanted, self.sender.clone()));
        }
        honoured
    }

    /// Watches what the session is subscribed to.
    pub(super) fn want_subscribed(&mut self, worker: &Rc<Worker>, view: &View) {
        if let Some(uris) = self.subscribed.as_mut().map(|uris| Uris::clone(&uris.borrow_and_update())) {
            self.want(worker, view, uris.iter().map(|uri| &**uri), &[]);
        }
    }

    /// Waits until every upstream is heard, or too long. Returns what changed meanwhile.
    pub(super) async fn live(&mut self) -> Vec<News> {
        let (mut missing, mut news) = (self.watching.len(), Vec::new());
        let heard = async {
            while missing > 0 {
                match self.notices.recv().await {
                    Some(SubscriptionNotice::Live) => missing -= 1,
                    Some(SubscriptionNotice::Updated(uri)) => news.push(News::Updated(uri)),
                    Some(SubscriptionNotice::Task { id, params }) => news.push(News::Task(id, params)),
                    None => return,
                }
            }
        };
        // What is not heard by then is heard later.
        let _: Result<(), _> = tokio::time::timeout(PATIENCE, heard).await;
        news
    }

    /// Waits for news. The future may be dropped and made anew.
    pub(super) async fn next(&mut self) -> News {
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
                        // The session has ended, which whoever looks now sees.
                        self.subscribed = None;
                    }
                    return News::Subscribed;
                }
                Some(notice) = notices.recv() => match notice {
                    SubscriptionNotice::Live => {}
                    SubscriptionNotice::Updated(uri) => return News::Updated(uri),
                    SubscriptionNotice::Task { id, params } => return News::Task(id, params),
                },
            }
        }
    }
}

/// The notification that a resource changed. `more` are further members of its params.
pub(super) fn updated(uri: &str, more: &str) -> String {
    let separator = if more.is_empty() { "" } else { "," };
    format!(
        r#"{{"jsonrpc":"2.0","method":"{}","params":{{"uri":{}{separator}{more}}}}}"#,
        Method::ResourcesUpdated,
        json::quote(uri),
    )
}
