//! Credentials of upstreams: their limits, and their parting into what may be read and what is sealed.
//! It knows nothing of how secrets are sealed or presented.

use std::collections::HashSet;
use std::mem::take;

use http::{HeaderName, HeaderValue};
use trunkline::registry::v1::Credential;
use trunkline::registry::v1::credential::Kind;

use super::Violations;

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
        }
        Some(Kind::Basic(basic)) => {
            violations.require(
                !basic.username.contains(':'),
                "credential.basic.username",
                "contains a colon",
            );
            violations.at_most_bytes("credential.basic.username", &basic.username, MAX_SECRET_BYTES);
            violations.at_most_bytes("credential.basic.password", &basic.password, MAX_SECRET_BYTES);
            for (field, text) in [("username", &basic.username), ("password", &basic.password)] {
                let printable = !text.chars().any(char::is_control);
                violations.require(
                    printable,
                    format!("credential.basic.{field}"),
                    "contains a control character",
                );
            }
        }
        Some(Kind::Headers(headers)) => validate_headers(&headers.headers, violations),
        Some(Kind::QueryParameter(query)) => {
            violations.require(
                !query.parameter.is_empty(),
                "credential.query_parameter.parameter",
                "is required",
            );
            violations.at_most("credential.query_parameter.parameter", &query.parameter, MAX_NAME);
            violations.at_most_bytes("credential.query_parameter.value", &query.value, MAX_HEADER_BYTES);
        }
    }
}

fn validate_headers(headers: &std::collections::BTreeMap<String, String>, violations: &mut Violations) {
    const FIELD: &str = "credential.headers.headers";
    let count = headers.len();
    violations.require(
        (1..=MAX_HEADERS).contains(&count),
        FIELD,
        format!("has {count} headers; 1 to {MAX_HEADERS} are allowed"),
    );
    let mut seen = HashSet::new();
    for (name, value) in headers {
        let field = format!("{FIELD}[{name:?}]");
        let Ok(parsed) = HeaderName::try_from(name.as_str()) else {
            violations.add(field, "is not a valid header name");
            continue;
        };
        let word = parsed.as_str();
        let reserved = RESERVED.contains(&word)
            || ["mcp-", "proxy-", "sec-"].iter().any(|start| word.starts_with(start));
        violations.require(!reserved, field.clone(), "is reserved for HTTP or MCP");
        violations.require(
            seen.insert(parsed.clone()),
            field.clone(),
            "is repeated with other capital letters",
        );
        violations.at_most_bytes(&field, value, MAX_HEADER_BYTES);
        violations.require(
            HeaderValue::try_from(value.as_str()).is_ok(),
            field,
            "is not a valid header value",
        );
    }
}

fn visible(field: &str, text: &str, violations: &mut Violations) {
    violations.require(
        text.bytes().all(|byte| byte.is_ascii_graphic()),
        field,
        "contains characters that are not allowed in a header",
    );
}

/// Gives secrets that were left empty the value they have in `kept`; where there is none, that is wrong.
pub fn keep(credential: &mut Credential, kept: Option<&Credential>, violations: &mut Violations) {
    let kept = kept.and_then(|kept| kept.kind.as_ref());
    match (&mut credential.kind, kept) {
        (Some(Kind::Bearer(new)), Some(Kind::Bearer(old))) => fill(&mut new.token, &old.token),
        (Some(Kind::Basic(new)), Some(Kind::Basic(old))) => fill(&mut new.password, &old.password),
        (Some(Kind::QueryParameter(new)), Some(Kind::QueryParameter(old))) => {
            fill(&mut new.value, &old.value)
        }
        (Some(Kind::Headers(new)), Some(Kind::Headers(old))) => {
            for (name, value) in &mut new.headers {
                let same = old.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                fill(value, same.map_or("", |(_, value)| value));
            }
        }
        _ => {}
    }
    // A password may be empty; so may nothing else.
    let needed = |text: &str, field: String, violations: &mut Violations| {
        violations.require(!text.is_empty(), field, "is required, because no secret is stored yet");
    };
    match &credential.kind {
        Some(Kind::Bearer(bearer)) => needed(&bearer.token, "credential.bearer.token".to_owned(), violations),
        Some(Kind::QueryParameter(query)) => {
            needed(&query.value, "credential.query_parameter.value".to_owned(), violations)
        }
        Some(Kind::Headers(headers)) => {
            for (name, value) in &headers.headers {
                needed(value, format!("credential.headers.headers[{name:?}]"), violations);
            }
        }
        Some(Kind::Basic(_)) | None => {}
    }
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

fn fill(slot: &mut String, kept: &str) {
    if slot.is_empty() {
        kept.clone_into(slot);
    }
}
