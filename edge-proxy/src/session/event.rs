//! What happened to a session, as edges tell each other. It must not know how they do.

use std::ops::Range;

use trunkline::edge::v1::session_event::Event;
use trunkline::edge::v1::{
    CallCancelled, LogLevelSet, SessionEnded, SessionEvent, SubscriptionChanged, TicketUsed, TunnelChanged,
};

use super::ticket::Ticket;
use super::{Change, Conversation, Jti};

/// A session is over.
pub fn ended(jti: &Jti, expires: u64) -> SessionEvent {
    event(Event::Ended(SessionEnded { session: jti.to_vec(), expire_unix: unix(expires) }))
}

/// A session is subscribed to a resource, or no longer.
pub fn subscription_changed(jti: &Jti, expires: u64, change: &Change) -> SessionEvent {
    event(Event::SubscriptionChanged(SubscriptionChanged {
        session: jti.to_vec(),
        expire_unix: unix(expires),
        uri: change.uri.to_string(),
        subscribed: change.subscribed,
        said_us: change.said_us,
    }))
}

/// Nobody waits for the call whose raw id lies at `at` of the notification.
pub fn cancelled(jti: &Jti, notification: &[u8], at: &Range<usize>) -> SessionEvent {
    // Bodies are shorter than 4 GiB by far.
    let position = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    event(Event::Cancelled(CallCancelled {
        session: jti.to_vec(),
        notification: notification.to_vec(),
        id_start: position(at.start),
        id_end: position(at.end),
    }))
}

/// A ticket is used up.
pub fn ticket_used(ticket: &Ticket) -> SessionEvent {
    event(Event::TicketUsed(TicketUsed { ticket: ticket.number.to_vec(), expire_unix: unix(ticket.expires) }))
}

/// A session wants log messages of these upstreams from a level on.
pub fn level_set<'a>(
    conversation: &Conversation,
    upstreams: impl Iterator<Item = &'a str>,
    level: &[u8],
    said_us: u64,
) -> SessionEvent {
    let (conversation, upstreams) = (conversation.encode(), upstreams.map(str::to_owned).collect());
    event(Event::LevelSet(LogLevelSet { conversation, upstreams, level: level.to_vec(), said_us }))
}

/// An edge has a tunnel to the upstream with this uid, or no longer.
pub fn tunnel_changed(upstream: &str, edge: &str, open: bool, said_us: u64) -> SessionEvent {
    said_of_tunnel(TunnelChanged { upstream: upstream.to_owned(), edge: edge.to_owned(), open, said_us })
}

/// The same, as it was said.
pub fn said_of_tunnel(said: TunnelChanged) -> SessionEvent {
    event(Event::TunnelChanged(said))
}

fn event(event: Event) -> SessionEvent {
    SessionEvent { event: Some(event) }
}

fn unix(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
