//! What is known of a place: what was read last, why it cannot be read any more, and when it is to be read next. Pure.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::document::Document;
use super::stores::Place;

/// The first pause after a failure; it doubles with each.
const RETRY: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What is known of a place.
#[derive(Debug)]
pub(super) struct Reading {
    document: Option<Document>,
    /// Since when that is what is read there, in microseconds.
    changed_us: i64,
    /// What was read last of which a credential could be made.
    proven: Option<Document>,
    trouble: Option<Trouble>,
    failures: u32,
    /// When it was read last, well or not.
    read: Option<Instant>,
    /// When it is to be read again. `None`: never, or it is being read.
    due: Option<Instant>,
    /// When it was asked for last.
    used: Instant,
    /// Those who read it take turns.
    turn: Arc<Mutex<()>>,
}

/// Why a place cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) text: String,
    pub(super) since_us: i64,
}

impl Reading {
    /// One that is to be read now.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            document: None,
            changed_us: 0,
            proven: None,
            trouble: None,
            failures: 0,
            read: None,
            due: Some(now),
            used: now,
            turn: Arc::default(),
        }
    }

    /// The secret in a place, as it was read last.
    pub(super) fn secret(&self, place: &Place<'_>) -> Result<String, String> {
        match (&self.document, &self.trouble) {
            (Some(document), _) => document.secret(place.key),
            (None, Some(trouble)) => Err(trouble.text.clone()),
            (None, None) => Err("it was not read yet".to_owned()),
        }
    }

    /// Notes that a credential was made of what was read last.
    pub(super) fn prove(&mut self) {
        if self.proven != self.document {
            self.proven.clone_from(&self.document);
        }
    }

    /// The secret in a place, as it was when a credential was made of it last.
    pub(super) fn proven_secret(&self, place: &Place<'_>) -> Result<String, String> {
        self.proven.as_ref().ok_or_else(|| "it was not read yet".to_owned())?.secret(place.key)
    }

    /// Since when the place holds what it holds, in microseconds.
    pub(super) fn changed_us(&self) -> i64 {
        self.changed_us
    }

    /// Why it cannot be read any more.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|_| self.document.is_some())
    }

    /// Whether it was never read, or what was read is older than it may be.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        self.read.is_none() || self.due.is_some_and(|due| due <= now)
    }

    /// Who reads it waits for their turn.
    pub(super) fn turn(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.turn)
    }

    /// Whether somebody has read it since.
    pub(super) fn is_read_since(&self, asked: Instant) -> bool {
        self.read.is_some_and(|read| read > asked)
    }

    pub(super) fn touch(&mut self, now: Instant) {
        self.used = now;
    }

    pub(super) fn is_unused(&self, now: Instant, after: Duration) -> bool {
        now.saturating_duration_since(self.used) > after
    }

    /// Tells whether it is to be read now; it counts as being read then.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = None;
        }
        is_due
    }

    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due
    }

    /// Has it read now, unless it was just read.
    pub(super) fn suspect(&mut self, now: Instant, again: Duration) {
        let is_old = self.read.is_some_and(|read| now.saturating_duration_since(read) >= again);
        if is_old && self.due.is_some() {
            self.due = Some(now);
        }
    }

    /// Takes in what was read. It is read again after a `pause`; with none never, if it was read well. Tells whether something
    /// differs from before: what was read, or whether it can be.
    pub(super) fn put(
        &mut self,
        found: Result<Document, String>,
        now: Instant,
        now_us: i64,
        pause: Option<Duration>,
    ) -> bool {
        self.read = Some(now);
        match found {
            Ok(document) => {
                let is_another = self.document.as_ref() != Some(&document);
                let is_other = self.trouble.is_some() || is_another;
                if is_another {
                    self.changed_us = now_us;
                }
                (self.document, self.trouble, self.failures) = (Some(document), None, 0);
                self.due = pause.map(|pause| now + jitter(pause));
                is_other
            }
            Err(text) => {
                let since_us = self.trouble.as_ref().map_or(now_us, |trouble| trouble.since_us);
                let is_other = self.trouble.as_ref().is_none_or(|trouble| trouble.text != text);
                self.trouble = Some(Trouble { text, since_us });
                let retry = RETRY * 2u32.saturating_pow(self.failures.min(16));
                self.failures += 1;
                self.due = Some(now + jitter(retry.min(LONGEST_RETRY)));
                is_other
            }
        }
    }
}

/// A tenth more or less: those who began together must not ask together for ever.
fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.9..1.1))
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::super::stores::Source;
    use super::*;

    fn document(text: &str) -> Document {
        Document::Text(Zeroizing::new(text.to_owned()))
    }

    fn place() -> Place<'static> {
        Place { source: Source::Env("A".to_owned()), key: "" }
    }

    const PAUSE: Option<Duration> = Some(Duration::from_secs(30));

    #[test]
    fn what_was_read_stays_while_it_cannot_be_read_again() {
        let now = Instant::now();
        let mut entry = Reading::new();
        assert!(entry.begin(now + Duration::from_secs(1)) && !entry.begin(now + Duration::from_secs(1)));
        assert!(entry.put(Ok(document("a")), now, 1, PAUSE));
        assert!(!entry.put(Ok(document("a")), now, 2, PAUSE), "nothing differs");
        assert!(entry.put(Err("vault answered 503".to_owned()), now, 3, PAUSE));
        assert!(!entry.put(Err("vault answered 503".to_owned()), now, 4, PAUSE), "as before");
        assert_eq!(entry.secret(&place()).unwrap(), "a");
        assert_eq!(entry.trouble().unwrap().since_us, 3);
        assert!(entry.put(Ok(document("a")), now, 5, PAUSE), "it can be read again");
        assert_eq!(entry.trouble(), None);
        assert!(entry.put(Ok(document("b")), now, 6, PAUSE));
        assert_eq!(entry.secret(&place()).unwrap(), "b");
    }

    #[test]
    fn what_was_never_read_has_no_secret_and_says_why() {
        let mut entry = Reading::new();
        assert_eq!(entry.secret(&place()).unwrap_err(), "it was not read yet");
        entry.put(Err("the variable is not set".to_owned()), Instant::now(), 1, None);
        assert_eq!(entry.secret(&place()).unwrap_err(), "the variable is not set");
        assert_eq!(entry.trouble(), None, "nothing is used that was read before");
    }

    #[test]
    fn failures_are_repeated_less_and_less_often() {
        let now = Instant::now();
        let mut entry = Reading::new();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            entry.put(Err("no".to_owned()), now, 1, PAUSE);
            pauses.push((entry.due_at().unwrap() - now).as_secs_f64());
        }
        for (pause, expected) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
            assert!((expected * 0.89..=expected * 1.11_f64).contains(pause), "{pauses:?}");
        }
        entry.put(Ok(document("a")), now, 1, None);
        assert_eq!(entry.due_at(), None, "it cannot change");
    }

    #[test]
    fn what_an_upstream_refused_is_read_at_once_and_not_again_and_again() {
        let now = Instant::now();
        let later = now + Duration::from_secs(10);
        let again = Duration::from_secs(5);
        let mut entry = Reading::new();
        entry.put(Ok(document("a")), now, 1, PAUSE);
        entry.suspect(now, again);
        assert!(!entry.begin(now), "it was just read");
        entry.suspect(later, again);
        assert!(entry.begin(later));
        entry.suspect(later, again);
        assert!(!entry.begin(later), "it is being read");
    }
}
