//! Credentials of upstreams: their limits, and their parting into what may be read and what is sealed.
//! It knows nothing of how secrets are sealed or presented.

use std::collections::HashSet;
use std::mem::take;

use http::{HeaderName, HeaderValue};
use trunkline::registry::v1::credential::Kind;
use trunkline::registry::v1::{Credential, HeadersCredential, SecretReference};

use super::Violations;
use super::secret_reference::{header_field, validate_reference, validate_slot};

const MAX_SECRET_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 16;
const MAX_HEADER_BYTES: usize = 8 << 10;
const MAX_NAME: usize = 256;
/// Names of headers that belong to HTTP or MCP, beside `mcp-*`, `proxy-*` and `sec-*`.
const RESERVED: [&str; 17] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "accept",
    "accept-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "origin",
    "last-event-id",
    "date",
    "range",
];

/// A change of where a secret is sent: from where it was stored for, to elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    from: String,
    to: String,
}

impl Moved {
    /// Returns the change between two destinations, if they differ.
    pub fn between(from: Option<String>, to: Option<String>) -> Option<Self> {
        let (from, to) = (from?, to?);
        (from != to).then_some(Self { from, to })
    }
}

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, to } = self;
        write!(f, "is stored for {from}; give it again to send it to {to}")
    }
}

/// The context that the secret of an upstream is sealed in.
pub fn context(uid: &str) -> String {
    format!("credential of upstream {uid}")
}

/// Checks everything but whether secrets are there.
pub fn validate(credential: &Credential, violations: &mut Violations) {
    match &credential.kind {
        None => {
            violations.add("credential", "is empty: set `bearer`, `basic`, `headers` or `query_parameter`")
        }
        Some(Kind::Bearer(bearer)) => {
            violations.at_most_bytes("credential.bearer.token", &bearer.token, MAX_SECRET_BYTES);
            visible("credential.bearer.token", &bearer.token, violations);
            let from = bearer.token_from.as_ref();
            validate_slot("credential.bearer.token_from", &bearer.token, from, violations);
        }
        Some(Kind::Basic(basic)) => {
            violations.require(
                !basic.username.contains(':'),
                "credential.basic.username",
                "contains a colon",
            );
            violations.at_most_bytes("credential.basic.username", &basic.username, MAX_SECRET_BYTES);
            violations.at_most_bytes("credential.basic.password", &basic.password, MAX_SECRET_BYTES);
            let from = basic.password_from.as_ref();
            validate_slot("credential.basic.password_from", &basic.password, from, violations);
            for (field, text) in [("username", &basic.username), ("password", &basic.password)] {
                let printable = !text.chars().any(char::is_control);
                violations.require(
                    printable,
                    format!("credential.basic.{field}"),
                    "contains a control character",
                );
            }
        }
        Some(Kind::Headers(headers)) => validate_headers(headers, violations),
        Some(Kind::QueryParameter(query)) => {
            violations.require(
                !query.parameter.is_empty(),
                "credential.query_parameter.parameter",
                "is required",
            );
            violations.at_most("credential.query_parameter.parameter", &query.parameter, MAX_NAME);
            violations.at_most_bytes("credential.query_parameter.value", &query.value, MAX_HEADER_BYTES);
            let from = query.value_from.as_ref();
            validate_slot("credential.query_parameter.value_from", &query.value, from, violations);
        }
    }
}

fn validate_headers(headers: &HeadersCredential, violations: &mut Violations) {
    const FIELD: &str = "credential.headers.headers";
    let count = headers.headers.len() + headers.headers_from.len();
    violations.require(
        (1..=MAX_HEADERS).contains(&count),
        FIELD,
        format!("has {count} headers; 1 to {MAX_HEADERS} are allowed"),
    );
    let mut seen = HashSet::new();
    for (name, value) in &headers.headers {
        let field = format!("{FIELD}[{name:?}]");
        validate_header_name(&field, name, &mut seen, violations);
        violations.at_most_bytes(&field, value, MAX_HEADER_BYTES);
        violations.require(
            HeaderValue::try_from(value.as_str()).is_ok(),
            field,
            "is not a valid header value",
        );
    }
    for header in &headers.headers_from {
        let field = header_field(&header.name);
        validate_header_name(&field, &header.name, &mut seen, violations);
        match &header.value_from {
            Some(from) => validate_reference(&field, from, violations),
            None => violations.add(field, "has no `value_from`"),
        }
    }
}

fn validate_header_name(
    field: &str,
    name: &str,
    seen: &mut HashSet<HeaderName>,
    violations: &mut Violations,
) {
    let Ok(parsed) = HeaderName::try_from(name) else {
        return violations.add(field, "is not a valid header name");
    };
    let word = parsed.as_str();
    let reserved =
        RESERVED.contains(&word) || ["mcp-", "proxy-", "sec-"].iter().any(|start| word.starts_with(start));
    violations.require(!reserved, field, "is reserved for HTTP or MCP");
    violations.require(seen.insert(parsed), field, "is there twice; capital letters make no difference");
}

fn visible(field: &str, text: &str, violations: &mut Violations) {
    violations.require(
        text.bytes().all(|byte| byte.is_ascii_graphic()),
        field,
        "contains characters that are not allowed in a header",
    );
}

/// Gives secrets that were left empty the value they have in `kept`; where there is none, that is wrong. So it is to keep
/// a secret that would be sent elsewhere: whoever may change an URL must not learn the secret by it.
pub fn keep(
    credential: &mut Credential,
    kept: Option<&Credential>,
    moved: Option<&Moved>,
    violations: &mut Violations,
) {
    for Slot { field, secret, stored, required } in slots(credential, kept) {
        match (stored, moved) {
            _ if !secret.is_empty() => {}
            (Some(stored), Some(moved)) if !stored.is_empty() => violations.add(field, moved.to_string()),
            (Some(stored), _) if !stored.is_empty() => stored.clone_into(secret),
            _ => {
                violations.require(!required, field, "is required, because no secret is stored yet");
            }
        }
    }
}

/// A secret of a credential.
struct Slot<'a> {
    field: String,
    secret: &'a mut String,
    /// The secret that is stored in its place.
    stored: Option<&'a str>,
    /// Whether it must not be empty.
    required: bool,
}

/// Returns the secrets of a credential, with those of `kept` that are stored in their places.
fn slots<'a>(credential: &'a mut Credential, kept: Option<&'a Credential>) -> Vec<Slot<'a>> {
    let kept = kept.and_then(|kept| kept.kind.as_ref());
    let slot = |field: &str,
                secret: &'a mut String,
                stored: Option<&'a String>,
                from: Option<&SecretReference>,
                required: bool| Slot {
        field: format!("credential.{field}"),
        secret,
        // Beside a reference nothing is kept.
        stored: stored.filter(|_| from.is_none()).map(String::as_str),
        required: required && from.is_none(),
    };
    match &mut credential.kind {
        Some(Kind::Bearer(bearer)) => {
            let stored =
                kept.and_then(|kept| if let Kind::Bearer(old) = kept { Some(&old.token) } else { None });
            vec![slot("bearer.token", &mut bearer.token, stored, bearer.token_from.as_ref(), true)]
        }
        Some(Kind::Basic(basic)) => {
            let stored =
                kept.and_then(|kept| if let Kind::Basic(old) = kept { Some(&old.password) } else { None });
            vec![slot("basic.password", &mut basic.password, stored, basic.password_from.as_ref(), false)]
        }
        Some(Kind::QueryParameter(query)) => {
            let stored = kept
                .and_then(|kept| if let Kind::QueryParameter(old) = kept { Some(&old.value) } else { None });
            vec![slot("query_parameter.value", &mut query.value, stored, query.value_from.as_ref(), true)]
        }
        Some(Kind::Headers(headers)) => headers
            .headers
            .iter_mut()
            .map(|(name, value)| {
                let field = format!("headers.headers[{name:?}]");
                slot(&field, value, kept.and_then(|kept| stored_header(kept, name)), None, true)
            })
            .collect(),
        None => Vec::new(),
    }
}

fn stored_header<'a>(kept: &'a Kind, name: &str) -> Option<&'a String> {
    let Kind::Headers(old) = kept else { return None };
    let same = old.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    same.map(|(_, value)| value)
}

/// Takes the secrets out. What is returned holds all of it, and is for sealing only.
pub fn split(credential: &mut Credential) -> Credential {
    let whole = Credential { kind: credential.kind.clone(), version: String::new() };
    redact(credential);
    whole
}

/// Takes the secrets out.
pub fn redact(credential: &mut Credential) {
    match &mut credential.kind {
        Some(Kind::Bearer(bearer)) => drop(take(&mut bearer.token)),
        Some(Kind::Basic(basic)) => drop(take(&mut basic.password)),
        Some(Kind::Headers(headers)) => headers.headers.values_mut().for_each(|value| drop(take(value))),
        Some(Kind::QueryParameter(query)) => drop(take(&mut query.value)),
        None => {}
    }
}
