//! Calls that finish in the background: in the legacy era a client that hangs up has not cancelled its call.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::LocalBoxFuture;

use crate::policy::SharedPermit;

/// A call that is finished in the background when it is dropped early, unless its permit is withdrawn.
pub(super) struct Detached<T: 'static, C: FnOnce() + Unpin + 'static> {
    call: Option<(LocalBoxFuture<'static, T>, C)>,
    permit: SharedPermit,
}

impl<T, C: FnOnce() + Unpin> Detached<T, C> {
    /// Wraps a call that bounds its own time. `cancel` cancels it.
    pub(super) fn new(permit: SharedPermit, cancel: C, call: impl Future<Output = T> + 'static) -> Self {
        Self { call: Some((Box::pin(call), cancel)), permit }
    }
}

impl<T, C: FnOnce() + Unpin> Future for Detached<T, C> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some((call, _)) = &mut self.call else { return Poll::Pending };
        let polled = call.as_mut().poll(cx);
        if polled.is_ready() {
            self.call = None;
        }
        polled
    }
}

impl<T, C: FnOnce() + Unpin> Drop for Detached<T, C> {
    fn drop(&mut self) {
        let Some((call, cancel)) = self.call.take() else { return };
        let permit = self.permit.hold();
        tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                _ = permit.withdrawn() => cancel(),
                _ = call => {}
            }
        });
    }
}
