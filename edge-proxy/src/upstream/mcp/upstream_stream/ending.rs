//! How the stream of a call ends: with its response, by a fault, or with its client. It must not know what comes before.

use std::rc::Rc;
use std::sync::Arc;

use mcp::sse::Event;

use super::UpstreamStream;
use crate::error::{ErrorContext, Fault};
use crate::upstream::mcp::translator::{HangUp, Translator};
use crate::upstream::mcp::{session_messages, without_client};
use crate::usage::Outcome;

impl<T: Translator> UpstreamStream<T> {
    /// Ends the call, which its caller may no longer make, and cancels it at the upstream unless it has responded.
    pub(in crate::upstream) fn withdraw(&mut self) {
        if !self.done {
            self.translator.cancel(&self.context, session_messages::WITHDRAWN);
            self.set_outcome(Outcome::ClientError);
        }
        self.done = true;
        (self.source, self.guard, self.server_messages) = (None, None, None);
        self.queued.clear();
    }

    /// Leaves the rest to the client, which may resume it at any edge. For a while it can still cancel the call here.
    pub(super) fn hand_over(&mut self) {
        self.done = true;
        self.source = None;
        self.set_outcome(Outcome::Ok);
        let wait = without_client::wait_for_client(self.guard.take());
        self.go_on(wait);
    }

    /// Runs `rest` of the call without its client.
    fn go_on(&self, rest: impl Future<Output = ()> + 'static) {
        let call = self.translator.call();
        let (context, upstream) = (Rc::clone(&self.context), Arc::clone(&call.upstream));
        let in_session = self.translator.in_session().cloned();
        let cancel = move |why: &'static str| {
            if let Some(in_session) = in_session {
                session_messages::cancel(&context, &upstream, &in_session, why);
            }
        };
        without_client::go_on(&self.context, &call.active, rest, cancel);
    }

    /// Returns the fault of a stream that ended in order, without a response.
    #[cold]
    pub(super) fn ended(&mut self) -> Fault {
        self.skipped.ended()
    }

    /// Returns the error that ends a stream whose status was already sent.
    pub(super) fn failed(&mut self, fault: Fault) -> Event {
        self.done = true;
        self.set_outcome(Outcome::UpstreamError);
        if let Some(counted) = fault.counts_as().filter(|_| self.outcome != Some(Outcome::Cancelled)) {
            self.context.environment.metrics.upstream_fault(counted).inc();
        }
        if fault == Fault::Timeout {
            self.translator.cancel(&self.context, session_messages::TIMED_OUT);
        }
        let error_context =
            ErrorContext { id: Some(self.translator.call().id.clone()), ..ErrorContext::default() };
        let data = self.translator.call().failure(fault).message(&error_context);
        Event { data, ..Event::default() }
    }

    /// Reads the rest after the response, which is mostly nothing, so that the connection can be used again.
    pub(super) fn drain_rest(&mut self) {
        if let Some(source) = self.source.take() {
            without_client::drain_in_background(source);
        }
    }
}

impl<T: Translator> Drop for UpstreamStream<T> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        match (T::HANG_UP, self.source.take()) {
            (HangUp::Cancels, Some(_)) => {
                self.translator.cancel(&self.context, session_messages::CLIENT_GONE)
            }
            (HangUp::Cancels | HangUp::Closes, _) => {}
            (HangUp::Continues, _) if !self.opened => {}
            (HangUp::Continues, Some(source)) if !self.is_resumable() => {
                let rest = without_client::drain(source, self.guard.take());
                self.go_on(rest);
            }
            // Some upstreams send the rest to one reader only, and the client may be the next.
            (HangUp::Continues, _) => self.hand_over(),
        }
    }
}
