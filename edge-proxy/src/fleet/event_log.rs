//! The newest events of sessions, numbered in the order in which they happened. It must not know who was sent them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prost::Message as _;
use tokio::sync::watch;
use trunkline::edge::v1::SessionEvent;

/// Events that are kept for siblings that could not be sent them yet.
const MAX_EVENTS: usize = 16_384;
/// The encoded bytes that they may take together.
const MAX_BYTES: usize = 8 << 20;
/// The bytes of one message; its last event may pass them.
const MAX_MESSAGE: usize = 1 << 20;
/// An edge that starts syncs, and may have done so at most this long before it was known here.
const RECENT: Duration = Duration::from_secs(120);

/// The newest events.
#[derive(Debug)]
pub(super) struct EventLog {
    events: Mutex<Events>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Events {
    /// The number of the oldest event that is kept; the first of all is 1.
    oldest: u64,
    bytes: usize,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    event: SessionEvent,
    bytes: usize,
    at: Instant,
}

/// The events that a sibling lacks.
#[derive(Debug, PartialEq)]
pub(super) enum Pending {
    /// These, after which it knows everything up to this number.
    Events(Vec<SessionEvent>, u64),
    /// More than is kept. After all of the current state it knows everything up to this number.
    Everything(u64),
}

impl EventLog {
    /// An empty log.
    pub(super) fn new() -> Self {
        let events = Events { oldest: 1, ..Default::default() };
        Self { events: Mutex::new(events), newest: watch::Sender::new(0) }
    }

    /// Appends an event and returns its number.
    pub(super) fn append(&self, event: SessionEvent, now: Instant) -> u64 {
        let mut events = self.events();
        let bytes = event.encoded_len();
        events.bytes += bytes;
        events.entries.push_back(Entry { event, bytes, at: now });
        while events.entries.len() > MAX_EVENTS || (events.bytes > MAX_BYTES && events.entries.len() > 1) {
            let dropped = events.entries.pop_front().map_or(0, |entry| entry.bytes);
            events.bytes -= dropped;
            events.oldest += 1;
        }
        let number = events.newest();
        self.newest.send_replace(number);
        number
    }

    /// Watches the number of the newest event.
    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The number up to which a sibling that has just appeared knows everything: it synced all but the most recent.
    pub(super) fn synced_through(&self, now: Instant) -> u64 {
        let events = self.events();
        let old = events.entries.iter().take_while(|entry| now.duration_since(entry.at) > RECENT).count();
        events.oldest - 1 + old as u64
    }

    /// Returns what a sibling lacks that knows everything up to `sent`.
    pub(super) fn after(&self, sent: u64) -> Pending {
        let log = self.events();
        if sent + 1 < log.oldest {
            return Pending::Everything(log.newest());
        }
        let (mut events, mut bytes, mut through) = (Vec::new(), 0, sent);
        let known = usize::try_from(sent + 1 - log.oldest).unwrap_or(usize::MAX);
        for entry in log.entries.iter().skip(known) {
            if bytes >= MAX_MESSAGE {
                break;
            }
            bytes += entry.bytes;
            events.push(entry.event.clone());
            through += 1;
        }
        Pending::Events(events, through)
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    fn newest(&self) -> u64 {
        self.oldest - 1 + self.entries.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::{EndedSession, SessionOwner, SubscribingSession, SubscriptionChange, event};

    fn happened(number: u64) -> SessionEvent {
        let mut session_id = [0; 16];
        session_id[..8].copy_from_slice(&number.to_be_bytes());
        event::ended(&session_id, EndedSession { expires: number, owner: SessionOwner::default() })
    }

    #[test]
    fn a_sibling_too_far_behind_is_sent_everything() {
        let (log, now) = (EventLog::new(), Instant::now());
        assert_eq!(log.after(0), Pending::Events(Vec::new(), 0));
        for number in 1..=MAX_EVENTS as u64 + 1 {
            assert_eq!(log.append(happened(number), now), number);
        }
        let newest = MAX_EVENTS as u64 + 1;
        assert_eq!(log.after(0), Pending::Everything(newest));
        assert_eq!(log.after(newest - 1), Pending::Events(vec![happened(newest)], newest));
        assert!(matches!(log.after(1), Pending::Events(events, _) if !events.is_empty()));
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_too() {
        let (log, now) = (EventLog::new(), Instant::now());
        let uri: Box<str> = "x".repeat(MAX_BYTES / 4).into();
        let change = SubscriptionChange { uri, subscribed: true, changed_us: 1 };
        let large = || {
            let subscriber = SubscribingSession { session_id: &[0; 16], expires: 1, principal: "t" };
            event::subscription_changed(subscriber, &change)
        };
        for _ in 0..20 {
            log.append(large(), now);
        }
        assert!(log.events().entries.len() <= 4);
        assert!(matches!(log.after(19), Pending::Events(events, 20) if events.len() == 1));
    }

    #[test]
    fn a_new_sibling_is_sent_what_it_may_have_missed_while_it_synced() {
        let (log, long_ago) = (EventLog::new(), Instant::now());
        let now = long_ago + RECENT * 2;
        log.append(happened(1), long_ago);
        log.append(happened(2), now);
        assert_eq!(log.synced_through(now), 1);
        assert_eq!(log.after(1), Pending::Events(vec![happened(2)], 2));
        assert_eq!(log.synced_through(now + RECENT * 2), 2);
    }

    proptest! {
        /// However reads and appends interleave, each reader gets every event, once, in order.
        #[test]
        fn every_reader_gets_every_event_in_order(steps in proptest::collection::vec(0usize..4, 1..200)) {
            let (log, now) = (EventLog::new(), Instant::now());
            let mut sent = [(0, Vec::new()), (0, Vec::new()), (0, Vec::new())];
            let mut count = 0;
            for step in steps {
                match sent.get_mut(step) {
                    None => {
                        count += 1;
                        log.append(happened(count), now);
                    }
                    Some((through, received)) => {
                        if let Pending::Events(events, now_upto) = log.after(*through) {
                            received.extend(events);
                            *through = now_upto;
                        }
                    }
                }
            }
            for (through, mut received) in sent {
                if let Pending::Events(events, now_upto) = log.after(through) {
                    received.extend(events);
                    prop_assert_eq!(now_upto, count);
                }
                prop_assert_eq!(received, (1..=count).map(happened).collect::<Vec<_>>());
            }
        }
    }
}
