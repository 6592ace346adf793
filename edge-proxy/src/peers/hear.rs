//! Does here what another edge was told about a session. It must not know who told it.

use std::sync::Arc;

use bytes::Bytes;
use trunkline::edge::v1::SessionEvent;
use trunkline::edge::v1::session_event::Event;
use trunkline::edge::v1::{CallCancelled, LogLevelSet, SessionEnded, SubscriptionChanged, TicketUsed};

use crate::clock;
use crate::session::{Change, Conversation, Jti};
use crate::upstream::SessionCommand;
use crate::worker::Shared;

/// Puts an event in force at this edge.
pub(super) fn hear(shared: &Shared, event: SessionEvent) {
    let Some(event) = event.event else { return };
    let heard = match event {
        Event::Ended(event) => ended(shared, &event),
        Event::SubscriptionChanged(event) => subscription_changed(shared, event),
        Event::Cancelled(event) => cancelled(shared, event),
        Event::LevelSet(event) => level_set(shared, event),
        Event::TicketUsed(event) => ticket_used(shared, &event),
        Event::TunnelChanged(event) => {
            shared.tunnels.heard(event);
            Some(())
        }
    };
    if heard.is_none() {
        tracing::warn!("cannot read an event from another edge");
    }
}

fn jti(session: &[u8]) -> Option<Jti> {
    session.try_into().ok()
}

fn ended(shared: &Shared, event: &SessionEnded) -> Option<()> {
    shared.end(jti(&event.session)?, u64::try_from(event.expire_unix).ok()?);
    Some(())
}

fn subscription_changed(shared: &Shared, event: SubscriptionChanged) -> Option<()> {
    let (jti, expires) = (jti(&event.session)?, u64::try_from(event.expire_unix).ok()?);
    let change = Change { uri: event.uri.into(), subscribed: event.subscribed, said_us: event.said_us };
    // It may be told late, of a session that has ended meanwhile.
    if !shared.terminated.contains(&jti) && !shared.subscriptions.take(&jti, expires, &change, clock::now()) {
        tracing::warn!("no room for a subscription from another edge");
    }
    Some(())
}

fn cancelled(shared: &Shared, event: CallCancelled) -> Option<()> {
    let (jti, notification) = (jti(&event.session)?, Bytes::from(event.notification));
    let at = usize::try_from(event.id_start).ok()?..usize::try_from(event.id_end).ok()?;
    notification.get(at.clone())?;
    shared.order(&SessionCommand::Cancel { jti, id: notification.slice(at.clone()), notification, at });
    Some(())
}

fn ticket_used(shared: &Shared, event: &TicketUsed) -> Option<()> {
    let (number, expires) =
        (event.ticket.as_slice().try_into().ok()?, u64::try_from(event.expire_unix).ok()?);
    shared.spent.used(number, expires, clock::now());
    Some(())
}

fn level_set(shared: &Shared, event: LogLevelSet) -> Option<()> {
    let conversation = Arc::new(Conversation::decode(&event.conversation)?);
    // Told late, of a session that has ended meanwhile.
    if shared.terminated.contains(&conversation.jti) {
        return Some(());
    }
    let told = SessionEvent { event: Some(Event::LevelSet(event.clone())) };
    if !shared.levels.set(&conversation, told, event.said_us, clock::now()) {
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
