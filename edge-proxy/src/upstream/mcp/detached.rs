//! Futures that finish in the background: in the legacy era a client that hangs up has not cancelled its call.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A future that is finished in the background when it is dropped early.
pub(super) struct Detached<T: 'static>(Option<Pin<Box<dyn Future<Output = T>>>>);

impl<T> Detached<T> {
    /// Wraps a future that bounds its own time.
    pub(super) fn new(future: impl Future<Output = T> + 'static) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<T> Future for Detached<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(future) = &mut self.0 else { return Poll::Pending };
        let polled = future.as_mut().poll(cx);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<T> Drop for Detached<T> {
    fn drop(&mut self) {
        if let Some(future) = self.0.take() {
            tokio::task::spawn_local(future);
        }
    }
}
