//! Applies events of sessions that siblings send, and returns those that lead to the state of this edge.
//!
//! It must not know which sibling sent them.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use trunkline::edge::v1::SessionEvent;
use trunkline::edge::v1::session_event::Event;
use trunkline::edge::v1::{CallCancelled, LogLevelSet, SessionEnded, SubscriptionChanged, TicketUsed};

use super::edge::EdgeState;
use crate::fleet::{Fleet, LocalEdge};
use crate::os::clock;
use crate::session::{
    Conversation, EndedCall, EndedSession, SessionId, SessionOwner, SessionSubscriptions, SubscribingSession,
    SubscriptionChange, event,
};
use crate::snapshot::Current;
use crate::upstream::SessionCommand;

/// Events in one message.
const EVENTS_PER_MESSAGE: usize = 1_000;

impl LocalEdge for EdgeState {
    fn fleet(&self) -> &Fleet {
        &self.environment.fleet
    }

    fn current(&self) -> &Current {
        &self.environment.current
    }

    fn apply(&self, event: SessionEvent) {
        apply(self, event);
    }

    fn all_events(&self) -> impl Iterator<Item = Vec<SessionEvent>> + Send + use<> {
        all_events(self)
    }

    fn has_tunnel(&self, upstream: &str) -> bool {
        self.environment.tunnels.is_here(upstream)
    }

    async fn open_tunnel_stream(&self, upstream: &str) -> io::Result<tunnel::Stream> {
        self.environment.tunnels.open_here(upstream).await
    }
}

/// Applies an event to this edge.
fn apply(shared: &EdgeState, event: SessionEvent) {
    let Some(event) = event.event else { return };
    let applied = match event {
        Event::Ended(event) => ended(shared, &event),
        Event::SubscriptionChanged(event) => subscription_changed(shared, event),
        Event::Cancelled(event) => cancelled(shared, event),
        Event::LevelSet(event) => level_set(shared, event),
        Event::TicketUsed(event) => ticket_used(shared, &event),
        Event::CallEnded(event) => {
            EndedCall::from_bytes(&event.call).map(|call| shared.environment.ended_calls.add(call))
        }
        Event::TunnelChanged(event) => {
            shared.environment.tunnels.tunnel_changed(event);
            Some(())
        }
    };
    if applied.is_none() {
        tracing::warn!("cannot read an event from another edge");
    }
}

fn parse_session_id(session: &[u8]) -> Option<SessionId> {
    session.try_into().ok()
}

fn ended(shared: &EdgeState, event: &SessionEnded) -> Option<()> {
    let expires = u64::try_from(event.expire_unix).ok()?;
    let ended = EndedSession { expires, owner: SessionOwner(event.owner) };
    shared.end(parse_session_id(&event.session)?, ended);
    Some(())
}

fn subscription_changed(shared: &EdgeState, event: SubscriptionChanged) -> Option<()> {
    let (session_id, expires) = (parse_session_id(&event.session)?, u64::try_from(event.expire_unix).ok()?);
    let change = SubscriptionChange {
        uri: event.uri.into(),
        subscribed: event.subscribed,
        changed_us: event.changed_us,
    };
    let subscriber = SubscribingSession { session_id: &session_id, expires, principal: &event.principal };
    // The event may come after the session has ended.
    if !shared.terminated.contains(&session_id)
        && !shared.subscriptions.take(subscriber, &change, clock::now())
    {
        tracing::warn!("no room for a subscription from another edge");
    }
    Some(())
}

fn cancelled(shared: &EdgeState, event: CallCancelled) -> Option<()> {
    let (session_id, notification) = (parse_session_id(&event.session)?, Bytes::from(event.notification));
    let at = usize::try_from(event.id_start).ok()?..usize::try_from(event.id_end).ok()?;
    notification.get(at.clone())?;
    shared.send_to_workers(&SessionCommand::Cancel {
        session_id,
        id: notification.slice(at.clone()),
        notification,
        at,
    });
    Some(())
}

fn ticket_used(shared: &EdgeState, event: &TicketUsed) -> Option<()> {
    let (number, expires) =
        (event.ticket.as_slice().try_into().ok()?, u64::try_from(event.expire_unix).ok()?);
    if shared.used_tickets.used(number, &event.principal, expires, clock::now()).is_err() {
        tracing::warn!("no room for a ticket that was used at another edge");
    }
    Some(())
}

fn level_set(shared: &EdgeState, event: LogLevelSet) -> Option<()> {
    let conversation = Arc::new(Conversation::decode(&event.conversation)?);
    // The event may come after the session has ended.
    if shared.terminated.contains(&conversation.session_id) {
        return Some(());
    }
    let stored = SessionEvent { event: Some(Event::LevelSet(event.clone())) };
    let owner = SessionOwner(event.owner);
    if !shared.levels.set(&conversation, owner, stored, event.changed_us, clock::now()) {
        return Some(());
    }
    let snapshot = shared.environment.current.load();
    let upstreams = event.upstreams.iter().filter_map(|id| snapshot.upstreams.get(id.as_str()).cloned());
    shared.send_to_workers(&SessionCommand::SetLevel {
        upstreams: upstreams.collect(),
        conversation,
        level: Bytes::from(event.level),
    });
    Some(())
}

/// Returns events that lead to what this edge knows.
fn all_events(shared: &EdgeState) -> impl Iterator<Item = Vec<SessionEvent>> + Send + use<> {
    let now = clock::now();
    let ended = shared.terminated.all(now);
    let subscribed = shared.subscriptions.all(now);
    let ended = ended.into_iter().map(|(session_id, ended)| event::ended(&session_id, ended));
    let subscribed = subscribed.into_iter().flat_map(|of_session| {
        let SessionSubscriptions { session_id, expires, principal, changes } = of_session;
        changes.into_iter().map(move |change| {
            let subscriber = SubscribingSession { session_id: &session_id, expires, principal: &principal };
            event::subscription_changed(subscriber, &change)
        })
    });
    let tunnels = shared
        .environment
        .tunnels
        .all(shared.environment.fleet.waiters().edge())
        .into_iter()
        .map(event::tunnel_state);
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
    use crate::config::limits::Limits;
    use crate::config::published::PublishedNames;
    use crate::fleet::{Fleet, Waiters};
    use crate::observe::Metrics;
    use crate::session::capabilities::Capabilities;
    use crate::session::{Conversation, SubscriptionChange};
    use crate::snapshot::Current;

    const ENDED: EndedSession = EndedSession { expires: u64::MAX >> 1, owner: SessionOwner(5) };

    fn edge() -> Arc<EdgeState> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (current, metrics) = (Arc::new(Current::new()), Arc::new(Metrics::new()));
        let fleet = Fleet::alone(Arc::new(Waiters::new("e")));
        let address = "127.0.0.1:1".parse().unwrap();
        let shared = EdgeState::new(
            current,
            Limits::default(),
            &PublishedNames::default(),
            address,
            metrics,
            fleet,
            egress::CheckedResolver::system(egress::Rule::default()),
        );
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
            0 => event::ended(&session_id, ENDED),
            1 | 2 => {
                let change = SubscriptionChange { uri: uri.into(), subscribed: what == 1, changed_us };
                let subscriber =
                    SubscribingSession { session_id: &session_id, expires: u64::MAX >> 1, principal: "t" };
                event::subscription_changed(subscriber, &change)
            }
            _ => {
                let lifetime = u64::MAX >> 1;
                let begun =
                    Conversation::begin(Revision::V2025_11_25, Capabilities::default(), "c", 0, lifetime);
                event::level_set(
                    &Conversation { session_id, ..begun },
                    SessionOwner(u64::from(session_id[0])),
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
            for of_session in first.subscriptions.all(0) {
                prop_assert!(ended.iter().all(|(ended, _)| *ended != of_session.session_id));
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
            edge.end(number.to_be_bytes(), ENDED);
        }
        assert_eq!(all_events(&edge).map(|part| part.len()).collect::<Vec<_>>(), [EVENTS_PER_MESSAGE, 1]);
    }
}
