//! Events of sessions and tunnels, as edges send them to each other. It must not know how they travel.

use std::ops::Range;

use trunkline::edge::v1::session_event::Event;
use trunkline::edge::v1::{
    CallCancelled, CallEnded, LogLevelSet, SessionEnded, SessionEvent, SubscriptionChanged, TicketUsed,
    TunnelChanged,
};

use super::ticket::Ticket;
use super::{
    Conversation, EndedCall, EndedSession, SessionId, SessionOwner, SubscribingSession, SubscriptionChange,
};

/// A session has ended.
pub fn ended(session_id: &SessionId, ended: EndedSession) -> SessionEvent {
    event(Event::Ended(SessionEnded {
        session: session_id.to_vec(),
        expire_unix: unix(ended.expires),
        owner: ended.owner.0,
    }))
}

/// A session has subscribed to a resource, or unsubscribed.
pub fn subscription_changed(subscriber: SubscribingSession<'_>, change: &SubscriptionChange) -> SessionEvent {
    event(Event::SubscriptionChanged(SubscriptionChanged {
        session: subscriber.session_id.to_vec(),
        expire_unix: unix(subscriber.expires),
        principal: subscriber.principal.to_owned(),
        uri: change.uri.to_string(),
        subscribed: change.subscribed,
        changed_us: change.changed_us,
    }))
}

/// A client has cancelled the call whose raw id lies at `at` of the notification.
pub fn cancelled(session_id: &SessionId, notification: &[u8], at: &Range<usize>) -> SessionEvent {
    // Bodies are far shorter than 4 GiB.
    let position = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    event(Event::Cancelled(CallCancelled {
        session: session_id.to_vec(),
        notification: notification.to_vec(),
        id_start: position(at.start),
        id_end: position(at.end),
    }))
}

/// A parked call that was resumed has ended.
pub fn call_ended(call: EndedCall) -> SessionEvent {
    event(Event::CallEnded(CallEnded { call: call.bytes().to_vec() }))
}

/// A ticket of the principal with this uid was used.
pub fn ticket_used(ticket: &Ticket, principal: &str) -> SessionEvent {
    event(Event::TicketUsed(TicketUsed {
        ticket: ticket.number.to_vec(),
        expire_unix: unix(ticket.expires),
        principal: principal.to_owned(),
    }))
}

/// A session of `owner` has set the level of log messages of these upstreams.
pub fn level_set<'a>(
    conversation: &Conversation,
    owner: SessionOwner,
    upstreams: impl Iterator<Item = &'a str>,
    level: &[u8],
    changed_us: u64,
) -> SessionEvent {
    let (conversation, upstreams) = (conversation.encode(), upstreams.map(str::to_owned).collect());
    let level = level.to_vec();
    event(Event::LevelSet(LogLevelSet { conversation, upstreams, level, changed_us, owner: owner.0 }))
}

/// An edge has opened its first tunnel to the upstream with this uid, or closed the last.
pub fn tunnel_changed(upstream: &str, edge: &str, open: bool, changed_us: u64) -> SessionEvent {
    tunnel_state(TunnelChanged { upstream: upstream.to_owned(), edge: edge.to_owned(), open, changed_us })
}

/// The event of a tunnel state that was received.
pub fn tunnel_state(state: TunnelChanged) -> SessionEvent {
    event(Event::TunnelChanged(state))
}

fn event(event: Event) -> SessionEvent {
    SessionEvent { event: Some(event) }
}

fn unix(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
