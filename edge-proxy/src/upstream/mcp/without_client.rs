//! What goes on of a call in the background, without a client, as the legacy era has it: until it is over or its permit is
//! withdrawn. So many calls may go on as may be in flight, shared by tokens.
//!
//! It must not know what made the client leave.

use std::time::Duration;

use super::in_flight::InFlightGuard;
use super::message_source::MessageSource;
use super::session_messages;
use crate::policy::SharedPermit;
use crate::upstream::Context;
use crate::upstream::place::Place;

/// Time for which a call can be cancelled whose client may resume it.
const CANCELLABLE_AFTER: Duration = Duration::from_secs(60);
/// Longest wait for the end of a stream after its response, and the most that is read until then.
const END_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_REST: usize = 64 << 10;
/// Longest time for which the rest of a stream is read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);

/// Runs `rest` of a call in the background. It is cancelled, with the reason, where its permit is withdrawn meanwhile, and at
/// once where too many calls go on.
pub(super) fn go_on<T: 'static>(
    context: &Context,
    permit: &SharedPermit,
    rest: impl Future<Output = T> + 'static,
    cancel: impl FnOnce(&'static str) + 'static,
) {
    let Ok(place) = Place::without_client(&context.environment, permit.principal()) else {
        return cancel(session_messages::CLIENT_GONE);
    };
    let permit = permit.hold();
    tokio::task::spawn_local(async move {
        let _place = place;
        tokio::select! {
            biased;
            _ = permit.withdrawn() => cancel(session_messages::WITHDRAWN),
            _ = rest => {}
        }
    });
}

/// Waits until a call that its client has left must end: its permit is withdrawn, or too many calls go on.
pub(super) async fn must_end(context: &Context, permit: &SharedPermit) {
    if let Ok(_place) = Place::without_client(&context.environment, permit.principal()) {
        permit.hold().withdrawn().await;
    }
}

/// Waits while a client that left its stream can resume or cancel the call.
pub(super) async fn wait_for_client(_guard: Option<InFlightGuard>) {
    tokio::time::sleep(CANCELLABLE_AFTER).await;
}

/// Reads the rest of a stream after its response, which is mostly nothing, so that its connection can be used again. A
/// connection on which more comes is closed.
pub(super) fn drain_in_background(source: MessageSource) {
    tokio::task::spawn_local(async move {
        if tokio::time::timeout(END_TIMEOUT, source.end(MAX_REST)).await != Ok(true) {
            tracing::debug!("an upstream's stream went on after its response");
        }
    });
}

/// Reads the rest of a stream.
pub(super) async fn drain(source: MessageSource, _guard: Option<InFlightGuard>) {
    if tokio::time::timeout(DRAIN_TIMEOUT, source.drain()).await.is_err() {
        tracing::debug!("an upstream's stream ended without a response");
    }
}
