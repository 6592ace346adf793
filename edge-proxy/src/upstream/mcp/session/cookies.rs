//! The cookies with which a balancer pins a session to one node: kept with the session, and sent in it alone.
//!
//! It must not know what cookies mean. RFC 6265 without domains, paths and times: what a session keeps goes nowhere but where it
//! was opened, and ends with it.

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};

/// Most cookies of one session, and their bytes together.
const MAX_COOKIES: usize = 8;
const MAX_BYTES: usize = 4 << 10;

/// Returns the `Cookie` for requests in a session whose opening was answered with these headers, beside one that they carry
/// anyway. `None` where the answer sets none. Cookies past the bounds are left out.
pub(in crate::upstream::mcp) fn cookies(
    answer: &HeaderMap,
    own: Option<&HeaderValue>,
) -> Option<HeaderValue> {
    if !answer.contains_key(SET_COOKIE) {
        return None;
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for pair in answer.get_all(SET_COOKIE).iter().filter_map(|value| pair(value.as_bytes())) {
        // One that is set again replaces the one before.
        kept.retain(|before| name(before) != name(pair));
        let bytes: usize = kept.iter().map(|pair| pair.len() + 2).sum();
        if kept.len() < MAX_COOKIES && bytes + pair.len() <= MAX_BYTES {
            kept.push(pair);
        }
    }
    if kept.is_empty() {
        return None;
    }
    let all: Vec<&[u8]> = own.map(HeaderValue::as_bytes).into_iter().chain(kept).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(set: &[&str], own: Option<&'static str>) -> Option<String> {
        let mut answer = HeaderMap::new();
        for value in set {
            answer.append(SET_COOKIE, HeaderValue::from_str(value).unwrap());
        }
        let own = own.map(HeaderValue::from_static);
        let value = cookies(&answer, own.as_ref())?;
        assert!(value.is_sensitive());
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_session_sends_what_its_opening_set() {
        for (set, own, expected) in [
            (&[][..], None, None),
            (&[], Some("a=b"), None),
            (&["AWSALB=x/y+z=; Path=/; HttpOnly"], None, Some("AWSALB=x/y+z=")),
            (&["a=1", "b=\"2\"; Secure"], None, Some("a=1; b=\"2\"")),
            (&["a=1", "a=2"], None, Some("a=2")),
            (&["a=1; Max-Age=0", "b=2; max-age=60"], Some("own=1"), Some("own=1; b=2")),
            (&["=1", "no pair", "; Path=/", ""], None, None),
        ] {
            assert_eq!(sent(set, own).as_deref(), expected, "{set:?}");
        }
    }

    #[test]
    fn cookies_of_a_session_are_bounded() {
        let many: Vec<String> = (0..20).map(|n| format!("c{n}=v")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(sent(&many, None).unwrap().split("; ").count(), MAX_COOKIES);
        let large = format!("l={}", "x".repeat(MAX_BYTES));
        assert_eq!(sent(&[&large, "a=1"], None).as_deref(), Some("a=1"));
    }
}
