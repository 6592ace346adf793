//! Failures as HTTP responses: status, message, and the headers that say what to do.

use http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Response};

use crate::error::{ErrorContext, Failure};
use crate::transport::Body;

/// Makes the response to a request that failed.
pub fn failure(failure: &Failure, error_context: &ErrorContext) -> Response<Body> {
    let mut response = Response::new(Body::full(failure.message(error_context)));
    *response.status_mut() = failure.status(error_context.era);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = failure.retry_after() {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    match failure {
        Failure::Verb(allow) => drop(headers.insert(ALLOW, HeaderValue::from_static(allow))),
        Failure::StreamWithoutSession => {
            drop(headers.insert(ALLOW, HeaderValue::from_static("POST, DELETE")));
        }
        Failure::Bearer { presented } => drop(headers.insert(WWW_AUTHENTICATE, challenge(*presented))),
        Failure::Certificate => drop(headers.insert(WWW_AUTHENTICATE, challenge(false))),
        // RFC 9110, section 15.5.16.
        Failure::ContentCoding(_) => {
            drop(headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity")));
        }
        Failure::Ticket => drop(headers.insert(WWW_AUTHENTICATE, challenge(true))),
        Failure::Upgrade => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        Failure::Overloaded
        | Failure::Pending
        | Failure::BodyMemory
        | Failure::TooManyStreams
        | Failure::TooManyRequests
        | Failure::TooManyTunnels
        | Failure::TooManyConnections(_)
        | Failure::TooMany { .. }
        | Failure::TrustStale
        | Failure::AuditUnavailable
        | Failure::Draining => {
            drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1")));
        }
        _ => {}
    }
    response
}

/// Adds to a challenge that HTTP Basic is taken, too.
pub fn offer_basic(response: &mut Response<Body>) {
    if response.headers().contains_key(WWW_AUTHENTICATE) {
        let basic = HeaderValue::from_static(r#"Basic realm="Trunkline", charset="UTF-8""#);
        response.headers_mut().append(WWW_AUTHENTICATE, basic);
    }
}

fn challenge(presented: bool) -> HeaderValue {
    HeaderValue::from_static(if presented { r#"Bearer error="invalid_token""# } else { "Bearer" })
}
