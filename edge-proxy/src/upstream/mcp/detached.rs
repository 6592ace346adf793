//! Calls that finish in the background: in the legacy era a client that hangs up has not cancelled its call.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};

use futures_util::future::LocalBoxFuture;

use super::without_client;
use crate::policy::SharedPermit;
use crate::upstream::Context;

/// A call that is finished in the background when it is dropped early.
pub(super) struct Detached<T: 'static, C: FnOnce(&'static str) + Unpin + 'static> {
    call: Option<(LocalBoxFuture<'static, T>, C)>,
    context: Rc<Context>,
    permit: SharedPermit,
}

impl<T, C: FnOnce(&'static str) + Unpin> Detached<T, C> {
    /// Wraps a call that bounds its own time. `cancel` cancels it, with a reason.
    pub(super) fn new(
        context: Rc<Context>,
        permit: SharedPermit,
        cancel: C,
        call: impl Future<Output = T> + 'static,
    ) -> Self {
        Self { call: Some((Box::pin(call), cancel)), context, permit }
    }
}

impl<T, C: FnOnce(&'static str) + Unpin> Future for Detached<T, C> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<T> {
        let Some((call, _)) = &mut self.call else { return Poll::Pending };
        let polled = call.as_mut().poll(cx);
        if polled.is_ready() {
            self.call = None;
        }
        polled
    }
}

impl<T, C: FnOnce(&'static str) + Unpin> Drop for Detached<T, C> {
    fn drop(&mut self) {
        let Some((call, cancel)) = self.call.take() else { return };
        self.permit.give_up();
        without_client::go_on(&self.context, &self.permit, call, cancel);
    }
}
