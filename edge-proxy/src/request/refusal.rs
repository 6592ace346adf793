//! How a request ends that is refused before it is answered by anybody. It must not know what was asked for.

use http::header::CONNECTION;
use http::{HeaderValue, Response};

use crate::context::WorkerState;
use crate::error::{ErrorContext, Failure};
use crate::respond;
use crate::transport::Body;

/// Says that the connection ends where a part of the body is still to come: clients that reuse connections would send
/// their next request into its end.
pub(super) fn closing(is_body_pending: bool, mut response: Response<Body>) -> Response<Body> {
    if is_body_pending {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The response to a failure, which is counted.
pub(super) fn rejected(
    worker: &WorkerState,
    failure: &Failure,
    error_context: &ErrorContext,
) -> Response<Body> {
    if let Some(reason) = failure.counts_as() {
        worker.shared.environment.metrics.rejected(reason).inc();
    }
    let mut response = respond::failure(failure, error_context);
    if worker.shared.client_port.basic.is_some() {
        respond::offer_basic(&mut response);
    }
    response
}
