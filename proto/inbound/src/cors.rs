//! What pages of other origins are told of what they may send and read (CORS, Fetch Standard, section 3.2).
//!
//! It must not know which origins are allowed: only requests that `names` has let through come here.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, VARY,
};
use http::{HeaderMap, HeaderValue};

/// The headers that a preflight allows which asks for none.
const REQUEST_HEADERS: &str = "authorization, content-type, last-event-id, mcp-method, mcp-name, mcp-protocol-version, \
                               mcp-session-id, traceparent, tracestate, baggage";

/// The headers of a response that a page may read.
const RESPONSE_HEADERS: &str = "mcp-session-id, mcp-protocol-version, www-authenticate";

/// Adds what allows the request that a preflight asks about to its response.
pub fn preflight(requested: &HeaderMap, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
    let wanted = requested.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let allowed = wanted.unwrap_or(HeaderValue::from_static(REQUEST_HEADERS));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

/// Lets a page read a response. To be called only for an `origin` that was checked.
pub fn expose(origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(RESPONSE_HEADERS));
    headers.append(VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preflight_allows_what_it_asks_for_or_else_what_mcp_has() {
        let (mut requested, mut headers) = (HeaderMap::new(), HeaderMap::new());
        preflight(&requested, &mut headers);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], REQUEST_HEADERS);
        requested.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("mcp-param-x"));
        preflight(&requested, &mut headers);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "mcp-param-x");
    }
}
