//! The cookies with which a balancer pins a session to one node: kept with the session, and sent in it alone.
//!
//! It must not know what cookies mean. RFC 6265 without domains, paths and times: what a session keeps goes nowhere but where it
//! was opened, and ends with it.

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};

/// Cookies of one session.
pub const MAX_COOKIES: usize = 8;
/// The bytes of the cookies of one session, together.
pub const MAX_COOKIES_BYTES: usize = 4 << 10;

/// Returns the `Cookie` for requests in a session whose opening was answered with these headers, beside one that they carry
/// anyway. `None` where the answer sets none. Cookies past the bounds are left out.
#[must_use]
pub fn cookies(answer: &HeaderMap, own: Option<&HeaderValue>) -> Option<HeaderValue> {
    if !answer.contains_key(SET_COOKIE) {
        return None;
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for pair in answer.get_all(SET_COOKIE).iter().filter_map(|value| pair(value.as_bytes())) {
        // One that is set again replaces the one before.
        kept.retain(|before| name(before) != name(pair));
        let bytes: usize = kept.iter().map(|pair| pair.len() + 2).sum();
        if kept.len() < MAX_COOKIES && bytes + pair.len() <= MAX_COOKIES_BYTES {
            kept.push(pair);
        }
    }
    if kept.is_empty() {
        return None;
    }
    beside(own, &HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok()?)
}

/// Returns the `Cookie` for requests that carry one of their `own` anyway, and those that a session keeps.
#[must_use]
pub fn beside(own: Option<&HeaderValue>, kept: &HeaderValue) -> Option<HeaderValue> {
    let all: Vec<&[u8]> = own.into_iter().chain([kept]).map(HeaderValue::as_bytes).collect();
    let mut value = HeaderValue::from_bytes(&all.join(&b"; "[..])).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The `name=value` of a `Set-Cookie`; `None` for one that deletes a cookie, or is none.
fn pair(set: &[u8]) -> Option<&[u8]> {
    let mut parts = set.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let pair = parts.next().filter(|pair| !name(pair).is_empty() && pair.contains(&b'='))?;
    let deletes = parts.any(|attribute| attribute.eq_ignore_ascii_case(b"max-age=0"));
    (!deletes).then_some(pair)
}

fn name(pair: &[u8]) -> &[u8] {
    pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii()
}
