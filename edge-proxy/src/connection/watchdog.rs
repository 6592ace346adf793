//! Ends connections whose caller has lost its access, and those of an edge that is stopping.

use std::rc::Rc;

use super::ClientConnection;
use crate::error::Failure;
use crate::observe::CloseReason;

/// Ends the connection when the token loses its access, or, once all requests are answered, when the edge is stopping.
pub(super) async fn watch(connection: Rc<ClientConnection>) {
    let shared = &connection.worker.shared;
    let mut published = shared.environment.current.subscribe();
    let mut drain = connection.worker.drain.clone();
    loop {
        let Ok(authenticated) = connection.authenticate() else {
            return connection.end(CloseReason::Unauthorized);
        };
        match connection.admit(&authenticated) {
            Ok(_) => {}
            Err(Failure::Pending) => {
                connection.prepare(&authenticated).await;
                continue;
            }
            Err(_) => return connection.end(CloseReason::Unauthorized),
        }
        let silence = shared.environment.limits.keep_alive;
        let next = authenticated.remaining().map_or(silence, |left| left.min(silence));
        tokio::select! {
            _ = drain.wait_for(|draining| *draining) => break,
            _ = published.changed() => {}
            () = tokio::time::sleep(next) => {}
        }
    }
    // No request is admitted any more. Those in flight are answered within `--drain-timeout`.
    let all = u32::try_from(shared.environment.limits.max_in_flight_per_connection).unwrap_or(u32::MAX);
    let _idle = connection.request_permits.acquire_many(all).await;
    connection.end(CloseReason::Drain);
}
