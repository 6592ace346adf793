//! What other edges are still to be told, numbered in the order in which it happened. It must not know who was told.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prost::Message as _;
use tokio::sync::watch;
use trunkline::edge::v1::SessionEvent;

/// Events that are kept for those who could not be told yet.
const MAX_EVENTS: usize = 16_384;
/// What they may take, in bytes, as they travel.
const MAX_BYTES: usize = 8 << 20;
/// What goes in one message, in bytes; it may be passed by the last event of it.
const MAX_MESSAGE: usize = 1 << 20;
/// An edge that appears recalls what there is, and may have done so before it was known here for at most so long.
const RECENT: Duration = Duration::from_secs(120);

/// The newest events.
#[derive(Debug)]
pub(super) struct Log {
    kept: Mutex<Kept>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The number of the oldest event that is kept; the first of all is 1.
    oldest: u64,
    bytes: usize,
    events: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    event: SessionEvent,
    bytes: usize,
    at: Instant,
}

/// What somebody is to be told who knows everything up to a number.
#[derive(Debug, PartialEq)]
pub(super) enum Due {
    /// These, and then knows everything up to this number.
    Events(Vec<SessionEvent>, u64),
    /// More than is kept. Who is told everything there is knows everything up to this number.
    Everything(u64),
}

impl Log {
    /// Nothing has happened yet.
    pub(super) fn new() -> Self {
        let kept = Kept { oldest: 1, ..Default::default() };
        Self { kept: Mutex::new(kept), newest: watch::Sender::new(0) }
    }

    /// Takes an event in. Returns its number.
    pub(super) fn append(&self, event: SessionEvent, now: Instant) -> u64 {
        let mut kept = self.kept();
        let bytes = event.encoded_len();
        kept.bytes += bytes;
        kept.events.push_back(Entry { event, bytes, at: now });
        while kept.events.len() > MAX_EVENTS || (kept.bytes > MAX_BYTES && kept.events.len() > 1) {
            let dropped = kept.events.pop_front().map_or(0, |entry| entry.bytes);
            kept.bytes -= dropped;
            kept.oldest += 1;
        }
        let number = kept.newest();
        self.newest.send_replace(number);
        number
    }

    /// The number of the newest event, whenever it grows.
    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// What an edge knows that has just appeared: what it recalled, which was everything but the most recent.
    pub(super) fn recalled(&self, now: Instant) -> u64 {
        let kept = self.kept();
        let old = kept.events.iter().take_while(|entry| now.duration_since(entry.at) > RECENT).count();
        kept.oldest - 1 + old as u64
    }

    /// What somebody is to be told who knows everything up to `told`.
    pub(super) fn after(&self, told: u64) -> Due {
        let kept = self.kept();
        if told + 1 < kept.oldest {
            return Due::Everything(kept.newest());
        }
        let (mut events, mut bytes, mut upto) = (Vec::new(), 0, told);
        let known = usize::try_from(told + 1 - kept.oldest).unwrap_or(usize::MAX);
        for entry in kept.events.iter().skip(known) {
            if bytes >= MAX_MESSAGE {
                break;
            }
            bytes += entry.bytes;
            events.push(entry.event.clone());
            upto += 1;
        }
        Due::Events(events, upto)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn newest(&self) -> u64 {
        self.oldest - 1 + self.events.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::{Change, event};

    fn happened(number: u64) -> SessionEvent {
        let mut jti = [0; 16];
        jti[..8].copy_from_slice(&number.to_be_bytes());
        event::ended(&jti, number)
    }

    #[test]
    fn who_fell_behind_too_far_is_told_everything() {
        let (log, now) = (Log::new(), Instant::now());
        assert_eq!(log.after(0), Due::Events(Vec::new(), 0));
        for number in 1..=MAX_EVENTS as u64 + 1 {
            assert_eq!(log.append(happened(number), now), number);
        }
        let newest = MAX_EVENTS as u64 + 1;
        assert_eq!(log.after(0), Due::Everything(newest));
        assert_eq!(log.after(newest - 1), Due::Events(vec![happened(newest)], newest));
        assert!(matches!(log.after(1), Due::Events(events, _) if !events.is_empty()));
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_too() {
        let (log, now) = (Log::new(), Instant::now());
        let uri: Box<str> = "x".repeat(MAX_BYTES / 4).into();
        let change = Change { uri, subscribed: true, said_us: 1 };
        let large = || event::subscription_changed(&[0; 16], 1, &change);
        for _ in 0..20 {
            log.append(large(), now);
        }
        assert!(log.kept().events.len() <= 4);
        assert!(matches!(log.after(19), Due::Events(events, 20) if events.len() == 1));
    }

    #[test]
    fn who_appears_is_told_what_it_may_have_missed_while_it_recalled() {
        let (log, long_ago) = (Log::new(), Instant::now());
        let now = long_ago + RECENT * 2;
        log.append(happened(1), long_ago);
        log.append(happened(2), now);
        assert_eq!(log.recalled(now), 1);
        assert_eq!(log.after(1), Due::Events(vec![happened(2)], 2));
        assert_eq!(log.recalled(now + RECENT * 2), 2);
    }

    proptest! {
        /// However the tellings fall, each learns everything, once, in order.
        #[test]
        fn everyone_learns_everything_in_order(steps in proptest::collection::vec(0usize..4, 1..200)) {
            let (log, now) = (Log::new(), Instant::now());
            let mut told = [(0, Vec::new()), (0, Vec::new()), (0, Vec::new())];
            let mut count = 0;
            for step in steps {
                match told.get_mut(step) {
                    None => {
                        count += 1;
                        log.append(happened(count), now);
                    }
                    Some((upto, heard)) => {
                        if let Due::Events(events, now_upto) = log.after(*upto) {
                            heard.extend(events);
                            *upto = now_upto;
                        }
                    }
                }
            }
            for (upto, mut heard) in told {
                if let Due::Events(events, now_upto) = log.after(upto) {
                    heard.extend(events);
                    prop_assert_eq!(now_upto, count);
                }
                prop_assert_eq!(heard, (1..=count).map(happened).collect::<Vec<_>>());
            }
        }
    }
}
