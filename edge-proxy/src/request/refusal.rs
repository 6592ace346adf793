//! How a request ends that is refused before it is answered by anybody. It must not know what was asked for.

use http::header::CONNECTION;
use http::{HeaderValue, Response, StatusCode};

use crate::context::WorkerState;
use crate::error::{ErrorContext, Failure};
use crate::respond;
use crate::transport::{Body, RequestBody};

/// Makes a response one that arrives though a part of the request's body is still to come.
pub(super) async fn after(body: &mut RequestBody, mut response: Response<Body>) -> Response<Body> {
    if body.ends_connection() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // Who is refused because there is too much to do must not make more of it.
    if body.may_hide_response() && response.status() != StatusCode::SERVICE_UNAVAILABLE {
        body.hear_out().await;
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
