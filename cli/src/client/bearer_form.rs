//! Whether a text has the form of a token's bearer, and what it is instead. Pure: whether a bearer is valid, only an edge knows.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::client::caller::claims;
use crate::context::Secret;

/// What a bearer is, for whoever has something else.
const FORM: &str =
    "the bearer of a token has three parts with dots between, as `mcpctl create token` prints it";
/// What join tokens begin with.
const JOIN_TOKEN: &str = "tlj_";
/// The length of generated admin tokens.
const ADMIN_TOKEN_BYTES: usize = 32;
/// The length of signatures of bearers.
const SIGNATURE_BYTES: usize = 64;

/// Says what a text is that has not the form of a bearer; `None` if it has. `admin` are the admin tokens that are known here.
pub fn instead(bearer: &Secret, admin: &[Secret]) -> Option<String> {
    let parts: Vec<_> = bearer.expose().split('.').collect();
    let [header, payload, signature] = parts[..] else {
        return Some(without_parts(bearer, parts.len(), admin));
    };
    let (Some(header), Some(claims)) = (members(header), members(payload)) else {
        return Some(format!("its parts are not those of one; {FORM}"));
    };
    if is_cut_off(&header, signature) {
        return Some("its end is missing; copy all of it".to_owned());
    }
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    let is_of_another = ["edges/", "upstreams/"].iter().any(|kind| subject.starts_with(kind));
    is_of_another.then(|| format!("it is the credential of {subject}, which opens no server"))
}

/// What a text without the three parts looks like.
fn without_parts(text: &Secret, count: usize, admin: &[Secret]) -> String {
    let is_admins = "the administrator's token, which opens the control plane and no server; it is set by `mcpctl config set-context NAME \
                     --admin-token-file FILE`";
    let is_random = || {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.expose());
        bytes.is_ok_and(|bytes| bytes.len() == ADMIN_TOKEN_BYTES)
    };
    match (text.expose(), count) {
        (_, 1) if admin.contains(text) => format!("it is {is_admins}"),
        (text, 1) if text.starts_with(JOIN_TOKEN) => {
            "it is a join token, with which an edge enrols, and which opens no server".to_owned()
        }
        (_, 1) if is_random() => format!("it looks like {is_admins}"),
        (_, 2) => format!("it has two parts, so that its end may be missing; {FORM}"),
        _ => format!("it has {}; {FORM}", crate::parse::counted(count, "part")),
    }
}

/// Reads a part that is an object of JSON.
fn members(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn is_cut_off(header: &Map<String, Value>, signature: &str) -> bool {
    let length = BASE64_URL_SAFE_NO_PAD.decode(signature).map_or(0, |bytes| bytes.len());
    match header.get("alg").and_then(Value::as_str) {
        Some("ES256") => length != SIGNATURE_BYTES,
        _ => signature.is_empty(),
    }
}

/// Returns when a bearer ends, where it says so.
pub fn expiry(bearer: &Secret) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(claims(bearer)?["exp"].as_i64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(text)
    }

    fn jwt(claims: &str, signature: &[u8]) -> String {
        format!(
            "{}.{}.{}",
            part(r#"{"alg":"ES256"}"#),
            part(claims),
            BASE64_URL_SAFE_NO_PAD.encode(signature)
        )
    }

    #[test]
    fn what_is_no_bearer_is_said_to_be_what_it_is() {
        let admin = Secret::new("a-chosen-admin-token");
        let whole = jwt(r#"{"sub":"tokens/a"}"#, &[7; 64]);
        for (text, start) in [
            (whole.clone(), None),
            ("e30.e30.c2ln".to_owned(), None),
            (whole[..whole.len() - 3].to_owned(), Some("its end is missing; copy all of it")),
            (
                whole[..40].to_owned(),
                Some("it has two parts, so that its end may be missing; the bearer of "),
            ),
            ("e30.e30.".to_owned(), Some("its end is missing")),
            (
                "a.b.c".to_owned(),
                Some("its parts are not those of one; the bearer of a token has three parts"),
            ),
            ("a.b.c.d".to_owned(), Some("it has 4 parts; ")),
            ("hello".to_owned(), Some("it has 1 part; ")),
            ("a-chosen-admin-token".to_owned(), Some("it is the administrator's token, which opens the ")),
            (part(&"k".repeat(32)), Some("it looks like the administrator's token, ")),
            (format!("tlj_{}", part(&"k".repeat(32))), Some("it is a join token, ")),
            (jwt(r#"{"sub":"edges/e1"}"#, &[7; 64]), Some("it is the credential of edges/e1, ")),
        ] {
            let told = instead(&Secret::new(text.clone()), std::slice::from_ref(&admin));
            match (start, told) {
                (None, told) => assert_eq!(told, None, "{text}"),
                (Some(start), told) => {
                    assert!(told.as_deref().is_some_and(|told| told.starts_with(start)), "{text}: {told:?}")
                }
            }
        }
    }

    #[test]
    fn the_end_is_that_of_the_claims() {
        let bearer = |claims: &str| Secret::new(jwt(claims, &[7; 64]));
        assert_eq!(expiry(&bearer(r#"{"exp":7}"#)), OffsetDateTime::from_unix_timestamp(7).ok());
        assert_eq!(expiry(&bearer("{}")), None);
    }
}
