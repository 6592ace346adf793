//! What goes on of a call in the background, without a client: its stream is read to the end, or kept for the client to
//! resume. It ends with the permit of the call.
//!
//! It must not know what made the client leave.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::in_flight::InFlightGuard;
use super::message_source::MessageSource;
use super::session_messages;
use super::translator::Translator;
use crate::upstream::Context;

/// Time for which a call can be cancelled whose client may resume it.
const CANCELLABLE_AFTER: Duration = Duration::from_secs(60);
/// Longest time for which the rest of a stream is read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);

/// Runs `rest` in the background. The call is cancelled at the upstream if its permit is withdrawn meanwhile.
pub(super) fn go_on<T: Translator>(
    context: &Rc<Context>,
    translator: &T,
    rest: impl Future<Output = ()> + 'static,
) {
    let call = translator.call();
    let (permit, context, upstream) = (call.active.hold(), Rc::clone(context), Arc::clone(&call.upstream));
    let in_session = translator.in_session().cloned();
    tokio::task::spawn_local(async move {
        tokio::select! {
            biased;
            _ = permit.withdrawn() => {
                if let Some(in_session) = in_session {
                    session_messages::cancel(&context, &upstream, &in_session, session_messages::WITHDRAWN);
                }
            }
            () = rest => {}
        }
    });
}

/// Waits while a client that left its stream can resume or cancel the call.
pub(super) async fn wait_for_client(_guard: Option<InFlightGuard>) {
    tokio::time::sleep(CANCELLABLE_AFTER).await;
}

/// Reads the rest of a stream after its response, so that its connection can be used again.
pub(super) fn drain_in_background(source: MessageSource) {
    tokio::task::spawn_local(drain(source, None));
}

/// Reads the rest of a stream.
pub(super) async fn drain(source: MessageSource, _guard: Option<InFlightGuard>) {
    if tokio::time::timeout(DRAIN_TIMEOUT, source.drain()).await.is_err() {
        tracing::debug!("an upstream's stream ended without a response");
    }
}
