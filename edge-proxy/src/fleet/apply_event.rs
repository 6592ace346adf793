//! Applies events of sessions that siblings send. It must not know which sibling sent them.

use std::sync::Arc;

use bytes::Bytes;
use trunkline::edge::v1::SessionEvent;
use trunkline::edge::v1::session_event::Event;
use trunkline::edge::v1::{CallCancelled, LogLevelSet, SessionEnded, SubscriptionChanged, TicketUsed};

use crate::context::EdgeState;
use crate::os::clock;
use crate::session::{Conversation, SessionId, SubscriptionChange};
use crate::upstream::SessionCommand;

/// Applies an event to this edge.
pub(super) fn apply(shared: &EdgeState, event: SessionEvent) {
    let Some(event) = event.event else { return };
    let applied = match event {
        Event::Ended(event) => ended(shared, &event),
        Event::SubscriptionChanged(event) => subscription_changed(shared, event),
        Event::Cancelled(event) => cancelled(shared, event),
        Event::LevelSet(event) => level_set(shared, event),
        Event::TicketUsed(event) => ticket_used(shared, &event),
        Event::TunnelChanged(event) => {
            shared.tunnels.tunnel_changed(event);
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
    shared.end(parse_session_id(&event.session)?, u64::try_from(event.expire_unix).ok()?);
    Some(())
}

fn subscription_changed(shared: &EdgeState, event: SubscriptionChanged) -> Option<()> {
    let (session_id, expires) = (parse_session_id(&event.session)?, u64::try_from(event.expire_unix).ok()?);
    let change = SubscriptionChange {
        uri: event.uri.into(),
        subscribed: event.subscribed,
        changed_us: event.changed_us,
    };
    // The event may come after the session has ended.
    if !shared.terminated.contains(&session_id)
        && !shared.subscriptions.take(&session_id, expires, &change, clock::now())
    {
        tracing::warn!("no room for a subscription from another edge");
    }
    Some(())
}

fn cancelled(shared: &EdgeState, event: CallCancelled) -> Option<()> {
    let (session_id, notification) = (parse_session_id(&event.session)?, Bytes::from(event.notification));
    let at = usize::try_from(event.id_start).ok()?..usize::try_from(event.id_end).ok()?;
    notification.get(at.clone())?;
    shared.order(&SessionCommand::Cancel {
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
    shared.used_tickets.used(number, expires, clock::now());
    Some(())
}

fn level_set(shared: &EdgeState, event: LogLevelSet) -> Option<()> {
    let conversation = Arc::new(Conversation::decode(&event.conversation)?);
    // The event may come after the session has ended.
    if shared.terminated.contains(&conversation.session_id) {
        return Some(());
    }
    let stored = SessionEvent { event: Some(Event::LevelSet(event.clone())) };
    if !shared.levels.set(&conversation, stored, event.changed_us, clock::now()) {
        return Some(());
    }
    let snapshot = shared.current.load();
    let upstreams = event.upstreams.iter().filter_map(|id| snapshot.upstreams.get(id.as_str()).cloned());
    shared.order(&SessionCommand::SetLevel {
        upstreams: upstreams.collect(),
        conversation,
        level: Bytes::from(event.level),
    });
    Some(())
}
