//! The counters of one worker. It must not know where they are sent.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{CallRecord, Counts};

/// The counters of one worker: no lock, no atomic. They are handed over once a second.
#[derive(Debug)]
pub struct Shard {
    counts: RefCell<Counts>,
    out: mpsc::Sender<Counts>,
}

/// Keys that are counted exactly between two times.
const MAX_KEYS: usize = 10_000;
const HAND_OVER_EVERY: Duration = Duration::from_secs(1);

impl Shard {
    pub(crate) fn new(out: mpsc::Sender<Counts>) -> Shard {
        Shard { counts: RefCell::new(Counts::new(MAX_KEYS)), out }
    }

    /// Creates a shard whose counts go nowhere.
    pub fn detached() -> Shard {
        Shard::new(mpsc::channel(1).0)
    }

    /// Counts a call that ended.
    pub fn record(&self, call: CallRecord<'_>) {
        self.counts.borrow_mut().record(&call);
    }

    /// Hands counts over until the worker ends.
    pub async fn run(self: Rc<Self>) {
        let mut tick = tokio::time::interval(HAND_OVER_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.hand_over();
        }
    }

    /// Hands over the counts since the last time. If the queue is full they stay for the next time.
    fn hand_over(&self) {
        if self.counts.borrow().is_empty() {
            return;
        }
        if let Ok(permit) = self.out.try_reserve() {
            permit.send(self.take());
        }
    }

    /// Hands over the last counts, waiting until they are taken.
    pub async fn finish(&self) {
        if !self.counts.borrow().is_empty() {
            let last = self.take();
            // An error means that there is no reporter: it ends after its last shard.
            let _ = self.out.send(last).await;
        }
    }

    fn take(&self) -> Counts {
        std::mem::replace(&mut self.counts.borrow_mut(), Counts::new(MAX_KEYS))
    }
}
