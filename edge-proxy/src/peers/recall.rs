//! What an edge knows of sessions, whole: what it streams to one that starts, and what it asks for when it starts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rand::seq::SliceRandom as _;
use tonic::Status;
use trunkline::edge::v1::{RecallRequest, SessionEvent};

use super::channels::Channels;
use super::hear::hear;
use crate::clock;
use crate::session::event;
use crate::worker::Shared;

/// Events in one message.
const IN_ONE: usize = 1_000;
/// What one edge knows, all know; those that were cut off for a while are outvoted by so many.
const ENOUGH: usize = 3;
/// How long asking may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks some of the others what they know, and puts it in force here.
pub(super) async fn from_others(shared: &Shared, channels: &Channels) {
    let (snapshot, mine) = (shared.current.load_full(), shared.peers.held().edge());
    let mut others: Vec<&str> =
        snapshot.peers.keys().map(|edge| &**edge).filter(|edge| *edge != mine).collect();
    others.shuffle(&mut rand::rng());
    let asked = stream::iter(&others).map(|edge| async move {
        let answered = from(shared, channels, edge).await;
        answered.inspect_err(
            |status| tracing::info!(edge, %status, "another edge does not share its state of sessions"),
        )
    });
    let answered = asked.buffer_unordered(ENOUGH).filter(|answered| std::future::ready(answered.is_ok()));
    match tokio::time::timeout(PATIENCE, answered.take(ENOUGH).count()).await {
        Ok(count) if count > 0 || others.is_empty() => {}
        Ok(_) => tracing::warn!("no other edge shared its state of sessions"),
        Err(_) => tracing::warn!("other edges took too long to share their state of sessions"),
    }
}

async fn from(shared: &Shared, channels: &Channels, edge: &str) -> Result<(), Status> {
    let mut other = channels.to(edge).ok_or_else(|| Status::not_found("it is gone"))?;
    let mut parts = other.recall(RecallRequest {}).await?.into_inner();
    while let Some(part) = parts.message().await? {
        part.events.into_iter().for_each(|event| hear(shared, event));
    }
    Ok(())
}

/// Such events as lead to what this edge knows.
pub(super) fn everything(shared: &Arc<Shared>) -> impl Iterator<Item = Vec<SessionEvent>> + Send + use<> {
    let now = clock::now();
    let ended = shared.terminated.all(now);
    let subscribed = shared.subscriptions.all(now);
    let ended = ended.into_iter().map(|(jti, expires)| event::ended(&jti, expires));
    let subscribed = subscribed.into_iter().flat_map(|(jti, expires, changes)| {
        changes.into_iter().map(move |change| event::subscription_changed(&jti, expires, &change))
    });
    let tunnels = shared.tunnels.all(shared.peers.held().edge()).into_iter().map(event::said_of_tunnel);
    let mut events = ended.chain(subscribed).chain(shared.levels.all(now)).chain(tunnels).peekable();
    std::iter::from_fn(move || events.peek().is_some().then(|| events.by_ref().take(IN_ONE).collect()))
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
    use crate::held::Held;
    use crate::observe::Metrics;
    use crate::peers::Peers;
    use crate::session::capabilities::Capabilities;
    use crate::session::{Change, Conversation};
    use crate::snapshot::Current;

    fn edge() -> Arc<Shared> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (current, metrics) = (Arc::new(Current::new()), Arc::new(Metrics::new()));
        let peers = Peers::new(Arc::new(Held::new("e")));
        let address = "127.0.0.1:1".parse().unwrap();
        let shared = Shared::new(current, Limits::default(), &Doors::default(), address, metrics, peers);
        Arc::new(shared.unwrap())
    }

    /// What an edge knows, whatever the order.
    fn known(edge: &Arc<Shared>) -> BTreeSet<Vec<u8>> {
        everything(edge).flatten().map(|event| event.encode_to_vec()).collect()
    }

    fn events() -> impl Strategy<Value = SessionEvent> {
        let session = (0u8..3).prop_map(|number| [number; 16]);
        let uri = prop_oneof![Just("a"), Just("b")];
        (session, uri, 0..4, 0u64..8).prop_map(|(jti, uri, what, said_us)| match what {
            0 => event::ended(&jti, u64::MAX >> 1),
            1 | 2 => {
                let change = Change { uri: uri.into(), subscribed: what == 1, said_us };
                event::subscription_changed(&jti, u64::MAX >> 1, &change)
            }
            _ => {
                let lifetime = u64::MAX >> 1;
                let begun =
                    Conversation::begin(Revision::V2025_11_25, Capabilities::default(), "c", 0, lifetime);
                event::level_set(&Conversation { jti, ..begun }, ["u"].into_iter(), uri.as_bytes(), said_us)
            }
        })
    }

    proptest! {
        // Each case makes edges, which read the certificates that the system trusts.
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Who recalls knows as much as who was told, and hearing something twice changes nothing.
        #[test]
        fn who_recalls_knows_as_much(told in proptest::collection::vec(events(), 0..40)) {
            let (first, later) = (edge(), edge());
            told.iter().cloned().for_each(|event| hear(&first, event));
            for _ in 0..2 {
                everything(&first).flatten().for_each(|event| hear(&later, event));
                prop_assert_eq!(known(&later), known(&first));
            }
            let ended = first.terminated.all(0);
            for (jti, ..) in first.subscriptions.all(0) {
                prop_assert!(ended.iter().all(|(ended, _)| *ended != jti));
            }
        }

        #[test]
        fn what_cannot_be_read_harms_nobody(junk: Vec<u8>) {
            if let Ok(event) = SessionEvent::decode(junk.as_slice()) {
                hear(&edge(), event);
            }
        }
    }

    #[test]
    fn much_comes_in_parts() {
        let edge = edge();
        for number in 0..=IN_ONE as u128 {
            edge.end(number.to_be_bytes(), u64::MAX >> 1);
        }
        assert_eq!(everything(&edge).map(|part| part.len()).collect::<Vec<_>>(), [IN_ONE, 1]);
    }
}
