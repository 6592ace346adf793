//! The time that a request may take in all. It stands still while somebody here fills in what the server asks for.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mcp::client::{Answering, Hearer};
use tokio::time::timeout;

/// Time to end by itself, which a request does where nothing at all was heard.
const GRACE: Duration = Duration::from_millis(250);

/// A clock that runs from when it is made.
pub struct Clock {
    limit: Duration,
    started: Instant,
    /// For so many milliseconds it stood still.
    stood_still: AtomicU64,
}

impl Clock {
    pub fn new(limit: Duration) -> Self {
        Self { limit, started: Instant::now(), stood_still: AtomicU64::default() }
    }

    /// Returns the hearer, during whose answers the clock stands still.
    pub fn stopped_by<'h>(&'h self, hearer: &'h mut dyn Hearer) -> Stopping<'h> {
        Stopping { clock: self, hearer }
    }

    /// Returns what comes of something in time; `None` once the time is over.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            // It may have stood still meanwhile.
            let Some(left) = self.left().filter(|left| !left.is_zero()) else {
                return timeout(GRACE, &mut work).await.ok();
            };
            if let Ok(done) = timeout(left, &mut work).await {
                return Some(done);
            }
        }
    }

    fn left(&self) -> Option<Duration> {
        let still = Duration::from_millis(self.stood_still.load(Ordering::Relaxed));
        self.limit.saturating_add(still).checked_sub(self.started.elapsed())
    }
}

/// A hearer whose answers take no time.
pub struct Stopping<'h> {
    clock: &'h Clock,
    hearer: &'h mut dyn Hearer,
}

impl Hearer for Stopping<'_> {
    fn hear(&mut self, method: &str, params: Option<&str>) {
        self.hearer.hear(method, params);
    }

    fn answer<'a>(&'a mut self, method: &'a str, params: Option<&'a str>) -> Answering<'a> {
        Box::pin(async move {
            let started = Instant::now();
            let answer = self.hearer.answer(method, params).await;
            let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.clock.stood_still.fetch_add(took, Ordering::Relaxed);
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who takes their time.
    struct Slow;

    impl Hearer for Slow {
        fn hear(&mut self, _: &str, _: Option<&str>) {}

        fn answer<'a>(&'a mut self, _: &'a str, _: Option<&'a str>) -> Answering<'a> {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some("{}".to_owned())
            })
        }
    }

    #[tokio::test]
    async fn what_says_nothing_or_does_not_end_is_over_in_time() {
        let clock = Clock::new(Duration::from_millis(1));
        assert_eq!(clock.within(std::future::pending::<()>()).await, None);
        assert_eq!(Clock::new(Duration::from_secs(600)).within(async { 1 }).await, Some(1));
    }

    #[tokio::test]
    async fn who_fills_in_a_form_may_take_their_time() {
        let (clock, mut slow) = (Clock::new(Duration::from_secs(600)), Slow);
        let mut hearer = clock.stopped_by(&mut slow);
        assert_eq!(hearer.answer("elicitation/create", None).await.as_deref(), Some("{}"));
        assert!(clock.stood_still.load(Ordering::Relaxed) >= 50);
    }
}
