//! Watches over a connection: whether its caller is still welcome, and whether the edge is stopping.

use std::rc::Rc;

use super::Duplex;
use crate::authn::remaining;
use crate::observe::Ending;

/// Ends the connection when the token no longer holds, or, once all requests are answered, when the edge is stopping.
pub(super) async fn mind(duplex: Rc<Duplex>) {
    let shared = &duplex.worker.shared;
    let mut moved = shared.current.subscribe();
    let mut drain = duplex.worker.drain.clone();
    loop {
        let now = duplex.worker.now();
        let Ok((token, _)) = duplex.caller(&shared.current.load_full(), now) else {
            return duplex.end(Ending::Unauthorized);
        };
        let silence = shared.limits.keep_alive;
        let next = remaining(&token, now).map_or(silence, |left| left.min(silence));
        tokio::select! {
            _ = drain.wait_for(|draining| *draining) => break,
            _ = moved.changed() => {}
            () = tokio::time::sleep(next) => {}
        }
    }
    // Nothing is begun any more; what is under way is answered as far as the edge's patience goes.
    let all = u32::try_from(shared.limits.max_in_flight_per_connection).unwrap_or(u32::MAX);
    let _idle = duplex.turns.acquire_many(all).await;
    duplex.end(Ending::Drain);
}
