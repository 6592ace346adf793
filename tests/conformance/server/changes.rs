//! Changes and who hears of them: listeners of 2026-07-28, and the sessions of the revisions before.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::{ResourceUpdatedNotificationParam, ServerNotification};
use rmcp::service::SubscriptionContext;
use rmcp::{Peer, RoleServer};
use serde_json::json;
use tokio::sync::broadcast;

use crate::catalog::typed;

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Tools,
    Prompts,
    Resources,
    Resource(String),
}

impl Change {
    fn notification(&self) -> ServerNotification {
        match self {
            Change::Tools => typed(json!({"method": "notifications/tools/list_changed"})),
            Change::Prompts => typed(json!({"method": "notifications/prompts/list_changed"})),
            Change::Resources => typed(json!({"method": "notifications/resources/list_changed"})),
            Change::Resource(uri) => {
                typed(json!({"method": "notifications/resources/updated", "params": {"uri": uri}}))
            }
        }
    }
}

/// The resources that one session watches.
#[derive(Clone, Default)]
pub(crate) struct Watched(Arc<Mutex<BTreeSet<String>>>);

impl Watched {
    pub(crate) fn insert(&self, uri: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uri);
    }

    pub(crate) fn remove(&self, uri: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uri);
    }

    fn contains(&self, uri: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(uri)
    }
}

pub(crate) struct Changes(broadcast::Sender<Change>);

impl Changes {
    pub(crate) fn new() -> Self {
        Self(broadcast::channel(64).0)
    }

    pub(crate) fn announce(&self, change: Change) {
        // Nobody listening is fine.
        let _ = self.0.send(change);
    }

    /// Tells one `subscriptions/listen` until it ends. The sink drops what was not asked for.
    pub(crate) async fn tell_listener(&self, subscription: SubscriptionContext) {
        let mut changes = self.0.subscribe();
        loop {
            tokio::select! {
                () = subscription.cancelled() => return,
                change = changes.recv() => match change {
                    Ok(change) => {
                        let _ = subscription.sink().send(change.notification()).await;
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }

    /// Tells one session of an older revision, for as long as it lives.
    pub(crate) fn tell_session(&self, peer: Peer<RoleServer>, watched: Watched) {
        let mut changes = self.0.subscribe();
        tokio::spawn(async move {
            while let Ok(change) = changes.recv().await {
                let heard = match change {
                    Change::Tools => peer.notify_tool_list_changed().await,
                    Change::Prompts => peer.notify_prompt_list_changed().await,
                    Change::Resources => peer.notify_resource_list_changed().await,
                    Change::Resource(uri) if watched.contains(&uri) => {
                        peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await
                    }
                    Change::Resource(_) => Ok(()),
                };
                if heard.is_err() {
                    return;
                }
            }
        });
    }
}
