//! What responses tell browsers to refuse: pages of others that frame them, other types than they say, and HTTP without TLS.

use http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue};

/// The time for which `Strict-Transport-Security` is said, in seconds, unless somebody says otherwise.
pub const YEAR: u64 = 31_536_000;

/// Adds what every response has; a policy of its own, which says more, stays. `hsts` is the value of `Strict-Transport-Security`, on a listener with TLS.
pub fn protect(headers: &mut HeaderMap, hsts: Option<&HeaderValue>) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static("frame-ancestors 'none'"));
    if let Some(hsts) = hsts {
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
}

/// The value of `Strict-Transport-Security` for so many seconds; none for 0. That of a listener without TLS means nothing.
pub fn hsts(max_age: u64) -> Option<HeaderValue> {
    (max_age > 0).then(|| HeaderValue::from_str(&format!("max-age={max_age}")).ok()).flatten()
}
