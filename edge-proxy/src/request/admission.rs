//! The admission of a caller where it takes a while to find out what they may see: they wait for it, and nobody else does. It must not
//! know what is asked for.

use std::cell::OnceCell;

use crate::connection::ClientConnection;
use crate::context::{Authenticated, InFlightPermit, WorkerState};
use crate::error::Failure;
use crate::policy::Caller;

/// Admits a principal to the server with this id, and counts the request as its own. What takes a while to be found out it waits
/// for: returns whether it did.
pub(super) async fn of_request<'a>(
    worker: &WorkerState,
    principal: &'a Authenticated,
    server: &str,
    in_flight: &mut InFlightPermit<'_>,
) -> Result<(Caller<'a>, bool), Failure> {
    match principal.admit(worker, server) {
        Err(Failure::Pending) => {
            in_flight.charge(principal.principal().holder)?;
            principal.prepare(server).await;
            Ok((principal.admit(worker, server)?, true))
        }
        admitted => {
            let caller = admitted?;
            in_flight.charge(principal.principal().holder)?;
            Ok((caller, false))
        }
    }
}

/// Admits the principal of a connection for one message. `again`: where they are kept who had to wait, and were looked at again.
pub(super) async fn of_message<'a>(
    connection: &ClientConnection,
    first: &'a Authenticated,
    again: &'a OnceCell<Authenticated>,
) -> Result<(&'a Authenticated, Caller<'a>), Failure> {
    match connection.admit(first) {
        Err(Failure::Pending) => {
            connection.prepare(first).await;
            // Rights may have ended meanwhile.
            let authenticated = connection.authenticate()?;
            let authenticated = again.get_or_init(|| authenticated);
            Ok((authenticated, connection.admit(authenticated)?))
        }
        admitted => Ok((first, admitted?)),
    }
}
