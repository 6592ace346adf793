//! The state of sessions as a whole: sent to a sibling that starts, and requested from siblings when this edge starts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rand::seq::SliceRandom as _;
use tonic::Status;
use trunkline::edge::v1::{SessionEvent, SyncRequest};

use super::apply_event::apply;
use super::channels::Channels;
use crate::context::EdgeState;
use crate::os::clock;
use crate::session::event;

/// Events in one message.
const EVENTS_PER_MESSAGE: usize = 1_000;
/// Siblings that are asked: each knows everything unless it was cut off for a while, and not all of them were.
const MAX_SOURCES: usize = 3;
/// The time limit of syncing.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Applies what some of the siblings know.
pub(super) async fn from_siblings(shared: &EdgeState, channels: &Channels) {
    let (snapshot, own_id) = (shared.current.load_full(), shared.fleet.waiters().edge());
    let mut siblings: Vec<&str> =
        snapshot.siblings.keys().map(|edge| &**edge).filter(|edge| *edge != own_id).collect();
    siblings.shuffle(&mut rand::rng());
    let requests = stream::iter(&siblings).map(|edge| async move {
        let answered = sync_from(shared, channels, edge).await;
        answered.inspect_err(
            |status| tracing::info!(edge, %status, "another edge does not share its state of sessions"),
        )
    });
    let answered =
        requests.buffer_unordered(MAX_SOURCES).filter(|answered| std::future::ready(answered.is_ok()));
    match tokio::time::timeout(TIMEOUT, answered.take(MAX_SOURCES).count()).await {
        Ok(count) if count > 0 || siblings.is_empty() => {}
        Ok(_) => tracing::warn!("no other edge shared its state of sessions"),
        Err(_) => tracing::warn!("other edges took too long to share their state of sessions"),
    }
}

async fn sync_from(shared: &EdgeState, channels: &Channels, edge: &str) -> Result<(), Status> {
    let mut sibling = channels.to(edge).ok_or_else(|| Status::not_found("it is gone"))?;
    let mut parts = sibling.sync(SyncRequest {}).await?.into_inner();
    while let Some(part) = parts.message().await? {
        part.events.into_iter().for_each(|event| apply(shared, event));
    }
    Ok(())
}

/// Returns events that lead to what this edge knows.
pub(super) fn all_events(shared: &Arc<EdgeState>) -> impl Iterator<Item = Vec<SessionEvent>> + Send + use<> {
    let now = clock::now();
    let ended = shared.terminated.all(now);
    let subscribed = shared.subscriptions.all(now);
    let ended = ended.into_iter().map(|(session_id, expires)| event::ended(&session_id, expires));
    let subscribed = subscribed.into_iter().flat_map(|(session_id, expires, changes)| {
        changes.into_iter().map(move |change| event::subscription_changed(&session_id, expires, &change))
    });
    let tunnels = shared.tunnels.all(shared.fleet.waiters().edge()).into_iter().map(event::tunnel_state);
    let mut events = ended.chain(subscribed).chain(shared.levels.all(now)).chain(tunnels).peekable();
    std::iter::from_fn(move || {
        events.peek().is_some().then(|| events.by_ref().take(EVENTS_PER_MESSAGE).collect())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mcp::revision::Revision;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::config::doors::Doors;
    use crate::config::limits::Limits;
    use crate::fleet::{Fleet, Waiters};
    use crate::observe::Metrics;
    use crate::session::capabilities::Capabilities;
    use crate::session::{Conversation, SubscriptionChange};
    use crate::snapshot::Current;

    fn edge() -> Arc<EdgeState> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (current, metrics) = (Arc::new(Current::new()), Arc::new(Metrics::new()));
        let fleet = Fleet::alone(Arc::new(Waiters::new("e")));
        let address = "127.0.0.1:1".parse().unwrap();
        let shared = EdgeState::new(current, Limits::default(), &Doors::default(), address, metrics, fleet);
        Arc::new(shared.unwrap())
    }

    /// The state of an edge, in an order of its own.
    fn known(edge: &Arc<EdgeState>) -> BTreeSet<Vec<u8>> {
        all_events(edge).flatten().map(|event| event.encode_to_vec()).collect()
    }

    fn events() -> impl Strategy<Value = SessionEvent> {
        let session = (0u8..3).prop_map(|number| [number; 16]);
        let uri = prop_oneof![Just("a"), Just("b")];
        (session, uri, 0..4, 0u64..8).prop_map(|(session_id, uri, what, changed_us)| match what {
            0 => event::ended(&session_id, u64::MAX >> 1),
            1 | 2 => {
                let change = SubscriptionChange { uri: uri.into(), subscribed: what == 1, changed_us };
                event::subscription_changed(&session_id, u64::MAX >> 1, &change)
            }
            _ => {
                let lifetime = u64::MAX >> 1;
                let begun =
                    Conversation::begin(Revision::V2025_11_25, Capabilities::default(), "c", 0, lifetime);
                event::level_set(
                    &Conversation { session_id, ..begun },
                    ["u"].into_iter(),
                    uri.as_bytes(),
                    changed_us,
                )
            }
        })
    }

    proptest! {
        // Each case makes edges, which read the certificates that the system trusts.
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// An edge that syncs knows as much as its source, and applying an event twice changes nothing.
        #[test]
        fn an_edge_that_syncs_knows_as_much(sent in proptest::collection::vec(events(), 0..40)) {
            let (first, later) = (edge(), edge());
            sent.iter().cloned().for_each(|event| apply(&first, event));
            for _ in 0..2 {
                all_events(&first).flatten().for_each(|event| apply(&later, event));
                prop_assert_eq!(known(&later), known(&first));
            }
            let ended = first.terminated.all(0);
            for (session_id, ..) in first.subscriptions.all(0) {
                prop_assert!(ended.iter().all(|(ended, _)| *ended != session_id));
            }
        }

        #[test]
        fn unreadable_events_are_ignored(junk: Vec<u8>) {
            if let Ok(event) = SessionEvent::decode(junk.as_slice()) {
                apply(&edge(), event);
            }
        }
    }

    #[test]
    fn large_states_are_sent_in_several_messages() {
        let edge = edge();
        for number in 0..=EVENTS_PER_MESSAGE as u128 {
            edge.end(number.to_be_bytes(), u64::MAX >> 1);
        }
        assert_eq!(all_events(&edge).map(|part| part.len()).collect::<Vec<_>>(), [EVENTS_PER_MESSAGE, 1]);
    }
}
