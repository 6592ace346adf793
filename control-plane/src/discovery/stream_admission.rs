//! Admits the streams of edges that are to be sent much: a few at a time, in the order in which they came, so that the memory
//! and the time that a storm of edges takes do not grow with their number.
//!
//! It must not know what is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inbound::LineLimit;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// The time for which a stream keeps its place: an edge that takes longer goes on beside those that are admitted then.
const LONGEST: Duration = Duration::from_secs(30);

/// The places for streams whose edges are brought up to date.
#[derive(Debug)]
pub struct StreamAdmission {
    places: Arc<Semaphore>,
    number: usize,
    waiting: AtomicUsize,
    lines: LineLimit<()>,
}

/// The place of a stream, until it is dropped.
#[derive(Debug)]
pub(super) struct StreamPlace {
    _permit: Option<OwnedSemaphorePermit>,
    until: Instant,
}

/// A stream that waits; it waits no longer when it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl StreamAdmission {
    /// Admits so many streams at a time.
    pub fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            number: places,
            waiting: AtomicUsize::new(0),
            lines: LineLimit::new(),
        }
    }

    /// Waits for a place, behind those who came before.
    pub(super) async fn admit(&self) -> StreamPlace {
        let permit = match self.places.clone().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => self.wait().await,
        };
        StreamPlace { _permit: permit, until: Instant::now() + LONGEST }
    }

    async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if let Some(times) = self.lines.count(()) {
            let places = self.number;
            tracing::info!(places, times, "edges wait for others to be brought up to date");
        }
        // The semaphore is never closed.
        self.places.clone().acquire_owned().await.ok()
    }

    /// The streams that wait for a place.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The streams that have a place.
    pub fn admitted(&self) -> usize {
        self.number.saturating_sub(self.places.available_permits())
    }
}

impl StreamPlace {
    /// Waits until the place has been kept for as long as it may be.
    pub(super) async fn over(&self) {
        sleep_until(self.until).await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn streams_are_admitted_in_order() {
        let admission = StreamAdmission::new(2);
        let first = admission.admit().await;
        let second = admission.admit().await;
        let mut third = Box::pin(admission.admit());
        let mut fourth = Box::pin(admission.admit());
        let mut fifth = Box::pin(admission.admit());
        for waiting in [&mut third, &mut fourth, &mut fifth] {
            assert!(waiting.now_or_never().is_none());
        }
        assert_eq!((admission.admitted(), admission.waiting()), (2, 3));
        drop(second);
        assert!((&mut fifth).now_or_never().is_none(), "others came before");
        assert!((&mut fourth).now_or_never().is_none(), "another came before");
        let third = third.await;
        drop(fourth);
        assert_eq!(admission.waiting(), 1, "it went away");
        drop(first);
        let fifth = fifth.await;
        assert_eq!((admission.admitted(), admission.waiting()), (2, 0));
        drop((third, fifth));
        assert_eq!(admission.admitted(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_kept_for_a_while() {
        let admission = StreamAdmission::new(1);
        let place = admission.admit().await;
        assert!(place.over().now_or_never().is_none());
        tokio::time::advance(LONGEST).await;
        place.over().await;
    }
}
