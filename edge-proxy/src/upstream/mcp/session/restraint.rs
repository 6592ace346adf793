//! When nothing is done about sessions that may be lost, since it would not help. It must not know sessions.

use std::cell::Cell;
use std::time::{Duration, Instant};

use mcp::session_loss::{Ping, Refusal};

/// First and longest time for which nothing is healed after a ping that had no answer, or a session that could not be opened.
const FIRST_PEACE: Duration = Duration::from_secs(1);
const MAX_PEACE: Duration = Duration::from_secs(30);
/// For how long words with which an upstream refused a ping in a new session tell nothing of sessions.
const WORDS_KNOWN: Duration = Duration::from_secs(600);

/// What is known of attempts before.
#[derive(Default)]
pub(in crate::upstream::mcp) struct Restraint {
    /// Until when nothing is healed, and how long that was.
    peace: Cell<Option<(Instant, Duration)>>,
    /// The words with which a ping was refused in a new session, and until when that is believed.
    of_new: Cell<Option<(u64, Instant)>>,
}

impl Restraint {
    /// Whether nothing is healed now.
    pub(in crate::upstream::mcp) fn is_at_peace(&self) -> bool {
        self.peace.get().is_some_and(|(until, _)| Instant::now() < until)
    }

    /// Heals nothing for a while after a failure, or where nobody knows whether it helped, longer each time: an upstream whose
    /// credential has expired, or that hangs on pings, must not cost every call more.
    pub(in crate::upstream::mcp) fn rest(&self, failed: bool) {
        let before = self.peace.get().map(|(_, time)| time);
        let time = before.map_or(FIRST_PEACE, |time| (time * 2).min(MAX_PEACE));
        self.peace.set(failed.then(|| (Instant::now() + time, time)));
    }

    /// Whether the upstream says the same in a session that was just opened: it has no pings, and refuses what it does not know so.
    pub(in crate::upstream::mcp) fn is_said_of_new(&self, refusal: Option<&Refusal>) -> bool {
        let known = self.of_new.get().filter(|(_, until)| Instant::now() < *until);
        refusal.is_some_and(|refusal| known.is_some_and(|(words, _)| words == refusal.words))
    }

    /// Remembers how a ping ended in a session that was just opened, and that is no better than the one before. What broke says so
    /// for a while only.
    pub(in crate::upstream::mcp) fn note_of_new(&self, ping: &Ping) {
        if let Some(said) = ping.refusal().filter(|said| !said.is_breakdown()) {
            self.of_new.set(Some((said.words, Instant::now() + WORDS_KNOWN)));
        }
    }
}
