//! The responses that the edge itself gives to requests of an upstream, such as pings: one short queue for each session,
//! sent one after the other. An upstream that does not take them is not read any further, and takes neither memory nor
//! connections.
//!
//! It must not know what they say, nor how they travel.

use std::cell::RefCell;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::collections::byte_queue::{self, Sender};
use crate::error::Fault;

/// Responses of one session that wait.
const MAX_WAITING: usize = 16;
/// Their bytes; a larger one waits until it is alone.
const MAX_WAITING_BYTES: usize = 64 << 10;

/// The responses of one session that wait. The first one starts the task that sends them.
#[derive(Debug, Default)]
pub(in crate::upstream) struct ReplyQueue(RefCell<Option<Sender<Bytes>>>);

impl ReplyQueue {
    /// Queues a response; waits for room, until then. `start` returns what sends a response. Cancel safe.
    ///
    /// # Errors
    /// If there was no room in time, or a response before it could not be sent in time.
    pub(super) async fn send<F: AsyncFn(Bytes) -> Result<(), Fault> + 'static>(
        &self,
        reply: Bytes,
        until: Instant,
        start: impl FnOnce() -> Result<F, Fault>,
    ) -> Result<(), Fault> {
        let queue = self.queue(start)?;
        match timeout_at(until, queue.send(reply)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(not_taken()),
        }
    }

    fn queue<F: AsyncFn(Bytes) -> Result<(), Fault> + 'static>(
        &self,
        start: impl FnOnce() -> Result<F, Fault>,
    ) -> Result<Sender<Bytes>, Fault> {
        if let Some(queue) = self.0.borrow().as_ref().filter(|queue| !queue.is_closed()) {
            return Ok(queue.clone());
        }
        let send = start()?;
        let (queue, mut replies) = byte_queue::channel(MAX_WAITING, MAX_WAITING_BYTES);
        tokio::task::spawn_local(async move {
            while let Some(reply) = replies.recv().await {
                match send(reply).await {
                    Ok(()) => {}
                    // Those behind it would not be taken either; whoever waits for room learns of it.
                    Err(fault @ Fault::Timeout) => {
                        return tracing::debug!(%fault, "an upstream does not take responses to its requests");
                    }
                    Err(fault) => tracing::debug!(%fault, "cannot deliver a response to an upstream"),
                }
            }
        });
        *self.0.borrow_mut() = Some(queue.clone());
        Ok(queue)
    }
}

/// The fault of an upstream that makes requests and does not take the responses.
pub(super) fn not_taken() -> Fault {
    Fault::Malformed("it makes requests, and does not take the responses in time".to_owned())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;

    /// An upstream that takes as many responses as there are permits.
    fn taking(taken: &Rc<Semaphore>) -> impl AsyncFn(Bytes) -> Result<(), Fault> + 'static {
        let taken = Rc::clone(taken);
        async move |_| {
            taken.acquire().await.map_err(|_| Fault::Timeout)?.forget();
            Ok(())
        }
    }

    /// Long enough for what must happen, and short for what must not.
    const PATIENCE: Duration = Duration::from_secs(60);
    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn past_the_bound_the_reader_waits_and_then_fails() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let (queue, taken) = (ReplyQueue::default(), Rc::new(Semaphore::new(0)));
                let pong = Bytes::from_static(b"pong");
                let send = |within| queue.send(pong.clone(), Instant::now() + within, || Ok(taking(&taken)));
                // One is being sent, and the others wait.
                for _ in 0..=MAX_WAITING {
                    assert_eq!(send(PATIENCE).await, Ok(()));
                }
                assert_eq!(send(SOON).await, Err(not_taken()));
                taken.add_permits(1);
                assert_eq!(send(PATIENCE).await, Ok(()));
                // One that could not be sent in time ends all.
                taken.close();
                assert_eq!(send(PATIENCE).await, Err(not_taken()));
            })
            .await;
    }

    #[tokio::test]
    async fn large_responses_wait_alone() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let (queue, taken) = (ReplyQueue::default(), Rc::new(Semaphore::new(0)));
                let large = Bytes::from(vec![b'x'; MAX_WAITING_BYTES]);
                let send = |within| queue.send(large.clone(), Instant::now() + within, || Ok(taking(&taken)));
                // One is being sent, and one waits.
                assert_eq!([send(PATIENCE).await, send(PATIENCE).await], [Ok(()), Ok(())]);
                assert_eq!(send(SOON).await, Err(not_taken()));
            })
            .await;
    }
}
