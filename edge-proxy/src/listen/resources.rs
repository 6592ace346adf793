//! Resources that one stream of a client is told about. It must not know how they are watched.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mcp::json;
use mcp::method::Method;
use mcp::revision::Era;
use tokio::sync::{mpsc, watch};

use crate::capabilities::told_in;
use crate::policy::{self, Permit};
use crate::route::{Named, Noun};
use crate::session::Uris;
use crate::snapshot::{Upstream, View};
use crate::upstream::{Notice, Wanted, Watching};
use crate::worker::Worker;

/// Notices that wait for the client to read.
const MAX_WAITING: usize = 256;
/// How long a client waits at most to be told that it is heard.
const PATIENCE: Duration = Duration::from_millis(500);

/// Resources that one stream is told about.
pub(super) struct Resources {
    era: Era,
    watching: BTreeMap<Box<str>, Watching>,
    sender: mpsc::Sender<Notice>,
    notices: mpsc::Receiver<Notice>,
    /// What the session is subscribed to, where the stream is a session's.
    pub(super) subscribed: Option<watch::Receiver<Uris>>,
}

/// What there is to do.
pub(super) enum News {
    /// This resource changed.
    Updated(Box<str>),
    /// The session is subscribed to others now.
    Subscribed,
}

/// The right to read a resource, which is the right to hear of it.
pub fn permit(view: &View, uri: &str) -> Option<Permit> {
    let named = Named { noun: Noun::Resource, exposed: uri.into(), raw: "" };
    policy::check(view, named.find(&view.server)?)
}

impl Resources {
    /// None yet.
    pub(super) fn new(era: Era) -> Self {
        let (sender, notices) = mpsc::channel(MAX_WAITING);
        Self { era, watching: BTreeMap::new(), sender, notices, subscribed: None }
    }

    /// Watches these and no others. Returns those that are watched: the others may not be read, or nobody tells of
    /// them.
    pub(super) fn want<'a>(
        &mut self,
        worker: &Rc<Worker>,
        view: &View,
        uris: impl IntoIterator<Item = &'a str>,
    ) -> BTreeSet<&'a str> {
        let mut wanted: BTreeMap<Box<str>, (Arc<Upstream>, Era, Wanted)> = BTreeMap::new();
        let mut honoured = BTreeSet::new();
        for uri in uris {
            let Some(permit) = permit(view, uri) else { continue };
            let upstream = &permit.entry().upstream;
            if let Some(era) = told_in(upstream, self.era) {
                let place = wanted.entry(upstream.id.clone());
                let (.., wanted) = place.or_insert_with(|| (Arc::clone(upstream), era, Wanted::new()));
                wanted.insert(permit.original().into(), uri.into());
                honoured.insert(uri);
            }
        }
        self.watching.retain(|id, watching| {
            wanted.get(id).is_some_and(|(upstream, era, wanted)| watching.instead(upstream, *era, wanted))
        });
        for (id, (upstream, era, wanted)) in wanted {
            self.watching
                .entry(id)
                .or_insert_with(|| Watching::begin(worker, &upstream, era, wanted, self.sender.clone()));
        }
        honoured
    }

    /// Watches what the session is subscribed to.
    pub(super) fn want_subscribed(&mut self, worker: &Rc<Worker>, view: &View) {
        if let Some(uris) = self.subscribed.as_mut().map(|uris| Uris::clone(&uris.borrow_and_update())) {
            self.want(worker, view, uris.iter().map(|uri| &**uri));
        }
    }

    /// Waits until every upstream is heard, or too long. Returns what changed meanwhile.
    pub(super) async fn live(&mut self) -> Vec<Box<str>> {
        let (mut missing, mut updated) = (self.watching.len(), Vec::new());
        let heard = async {
            while missing > 0 {
                match self.notices.recv().await {
                    Some(Notice::Live) => missing -= 1,
                    Some(Notice::Updated(uri)) => updated.push(uri),
                    None => return,
                }
            }
        };
        // What is not heard by then is heard later.
        let _: Result<(), _> = tokio::time::timeout(PATIENCE, heard).await;
        updated
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
                Some(notice) = notices.recv() => {
                    if let Notice::Updated(uri) = notice {
                        return News::Updated(uri);
                    }
                }
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
