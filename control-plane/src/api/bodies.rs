//! Bodies of requests within bounds: who sends one decides how much of it is read, and none of them takes for ever.
//!
//! It must not know what is in them.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http_body_util::BodyExt as _;
use inbound::{
    BodyBudget, BodyError, BodyLimits, BoundedBody, ConnectionHandle, Framing, Reservation,
    TooManyConnections,
};
use tonic::{Code, Status};
use trunkline::common::v1::Permission;

use crate::auth::caller::Caller;
use crate::error::Error;
use crate::rights::Rights;

/// The largest message of who may change something, and so may apply a whole registry in one.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// The largest message of who may only ask.
const MAX_QUESTION_BYTES: usize = 1 << 20;
/// Permissions by which something is changed that people write in files.
const WRITES: [Permission; 6] = [
    Permission::UpstreamsWrite,
    Permission::ServersWrite,
    Permission::TokensIssue,
    Permission::PeopleWrite,
    Permission::TeamsWrite,
    Permission::RolesWrite,
];
/// The largest message of an edge. Decoded, it can take many times as much.
pub const MAX_EDGE_MESSAGE_BYTES: usize = delta::MAX_REQUEST_BYTES;
/// What may surround a message in a body.
const FRAMING: usize = 64;
/// The largest body of a caller who has proved nothing; of a stream, all its messages.
const MAX_PUBLIC_BYTES: usize = 4 << 10;
/// When a caller who was refused for lack of memory may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The bounds of request bodies.
#[derive(Debug, Clone)]
pub struct RequestBodies {
    /// The memory for all of them.
    pub budget: Arc<BodyBudget>,
    /// The time for a body, or for one message of a stream.
    pub timeout: Duration,
}

/// Whose share of the memory a body is taken from.
#[derive(Hash)]
enum Holder<'a> {
    Administrator,
    Principal(&'a str),
    Edge(&'a str),
    Address(IpAddr),
}

impl RequestBodies {
    /// Puts bounds on the body of a request. Its bytes count for as long as the reservation, which is to be kept until
    /// there is a response.
    pub(super) fn bound(
        &self,
        request: Request,
        caller: &Caller,
        framing: Framing,
    ) -> (Request, Arc<Reservation>) {
        let connection = request.extensions().get::<ConnectionHandle>();
        let address = connection.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), ConnectionHandle::subscriber);
        let (holder, framing, max_bytes) = match caller {
            Caller::Principal(rights) => (principal(rights), framing, max_bytes(rights) + FRAMING),
            Caller::Edge(claims) => (Holder::Edge(&claims.sub), framing, MAX_EDGE_MESSAGE_BYTES + FRAMING),
            // A stream of messages, too, is to be complete in time.
            Caller::Anonymous => (Holder::Address(address), Framing::Whole, MAX_PUBLIC_BYTES),
        };
        let reservation = Arc::new(self.budget.reservation(holder));
        let limits = BodyLimits { framing, max_bytes, timeout: self.timeout };
        let kept = Arc::clone(&reservation);
        let bound = |body| Body::new(BoundedBody::new(body, limits, reservation).map_err(status));
        (request.map(bound), kept)
    }
}

fn principal(rights: &Rights) -> Holder<'_> {
    if rights.uid.is_empty() { Holder::Administrator } else { Holder::Principal(&rights.uid) }
}

fn max_bytes(rights: &Rights) -> usize {
    let writes = WRITES.iter().any(|permission| rights.holds(*permission));
    if writes { MAX_MESSAGE_BYTES } else { MAX_QUESTION_BYTES }
}

/// The error of a caller who has too many requests in progress without having authenticated.
pub(super) fn too_many_public_requests() -> Error {
    let text = "this connection has too many requests in progress without a credential";
    Error::new(Code::ResourceExhausted, "TOO_MANY_REQUESTS", text).retry_after(RETRY_AFTER)
}

/// The error of a caller who holds too many connections.
pub(super) fn too_many_connections(error: TooManyConnections) -> Error {
    let text = error.to_string();
    Error::new(Code::ResourceExhausted, "TOO_MANY_CONNECTIONS", text).retry_after(RETRY_AFTER)
}

/// Finds the status that a body failed with, however it was wrapped since.
pub(super) fn failure(error: &(dyn std::error::Error + 'static)) -> Option<Status> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.find_map(|cause| cause.downcast_ref::<Status>()).cloned()
}

fn status(error: BodyError) -> Status {
    let text = error.to_string();
    let error = match error {
        BodyError::TooLarge(_) => Error::new(Code::ResourceExhausted, "BODY_TOO_LARGE", text),
        BodyError::Timeout => Error::new(Code::DeadlineExceeded, "BODY_TIMEOUT", text),
        BodyError::OverBudget(_) => {
            Error::new(Code::ResourceExhausted, "OVERLOADED", text).retry_after(RETRY_AFTER)
        }
        BodyError::Interrupted(cause) => return Status::from_error(cause),
    };
    error.into()
}
