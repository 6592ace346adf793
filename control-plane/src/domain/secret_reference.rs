//! References to secrets that are kept elsewhere: where they stand in a credential, and their form. Pure.
//!
//! It must not know which stores are open, nor who may refer to what.

use std::mem::take;

use trunkline::registry::v1::credential::Kind;
use trunkline::registry::v1::secret_reference::Source;
use trunkline::registry::v1::{Credential, HeaderReference, SecretReference};

use super::Violations;

const MAX_NAME: usize = 256;
const MAX_PATH: usize = 1_024;
/// The longest name of an object of Kubernetes, and of a key in it (RFC 1123).
const MAX_OBJECT: usize = 253;
const MAX_NAMESPACE: usize = 63;

/// The references of a credential, with the fields in which they stand.
pub fn references(credential: &Credential) -> Vec<(String, &SecretReference)> {
    let (field, from) = match &credential.kind {
        Some(Kind::Bearer(bearer)) => ("credential.bearer.token_from", &bearer.token_from),
        Some(Kind::Basic(basic)) => ("credential.basic.password_from", &basic.password_from),
        Some(Kind::QueryParameter(query)) => ("credential.query_parameter.value_from", &query.value_from),
        Some(Kind::Headers(headers)) => {
            let from = headers.headers_from.iter();
            return from
                .filter_map(|header| Some((header_field(&header.name), header.value_from.as_ref()?)))
                .collect();
        }
        None => return Vec::new(),
    };
    from.iter().map(|from| (field.to_owned(), from)).collect()
}

/// Names the reference of a header in what is said about it.
pub(super) fn header_field(name: &str) -> String {
    format!("credential.headers.headers_from[{name:?}]")
}

/// The credential with the secrets in the places of their references. On an error: the field whose secret cannot be had.
pub fn fill<E>(
    credential: &Credential,
    mut find: impl FnMut(&SecretReference) -> Result<String, E>,
) -> Result<Credential, (String, E)> {
    let mut filled = credential.clone();
    let mut put =
        |field: &str, from: Option<SecretReference>, secret: &mut String| -> Result<(), (String, E)> {
            if let Some(from) = from {
                *secret = find(&from).map_err(|error| (field.to_owned(), error))?;
            }
            Ok(())
        };
    match &mut filled.kind {
        Some(Kind::Bearer(bearer)) => {
            put("credential.bearer.token_from", bearer.token_from.take(), &mut bearer.token)?;
        }
        Some(Kind::Basic(basic)) => {
            put("credential.basic.password_from", basic.password_from.take(), &mut basic.password)?;
        }
        Some(Kind::QueryParameter(query)) => {
            put("credential.query_parameter.value_from", query.value_from.take(), &mut query.value)?;
        }
        Some(Kind::Headers(headers)) => {
            for HeaderReference { name, value_from } in take(&mut headers.headers_from) {
                let mut secret = String::new();
                put(&header_field(&name), value_from, &mut secret)?;
                headers.headers.insert(name, secret);
            }
        }
        None => {}
    }
    Ok(filled)
}

/// Checks a secret and the reference in its place: there may be one of them.
pub(super) fn validate_slot(
    field: &str,
    secret: &str,
    from: Option<&SecretReference>,
    violations: &mut Violations,
) {
    let Some(from) = from else { return };
    violations.require(
        secret.is_empty(),
        field,
        "stands beside the secret itself; give one of them, and the other not",
    );
    validate_reference(field, from, violations);
}

/// Checks the form of a reference.
pub(super) fn validate_reference(field: &str, reference: &SecretReference, violations: &mut Violations) {
    let at = |name: &str| format!("{field}.{name}");
    match &reference.source {
        None => violations.add(field, "names no store: set `env`, `file`, `vault` or `kubernetes`"),
        Some(Source::Env(env)) => {
            let is_name = !env.name.is_empty()
                && env.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            violations.require(
                is_name,
                at("env.name"),
                "must be the name of a variable: letters, digits and underscores",
            );
            violations.at_most(&at("env.name"), &env.name, MAX_NAME);
        }
        Some(Source::File(file)) => {
            path(&at("file.path"), &file.path, violations);
            violations.at_most(&at("file.key"), &file.key, MAX_NAME);
        }
        Some(Source::Vault(vault)) => {
            path(&at("vault.path"), &vault.path, violations);
            required(&at("vault.key"), &vault.key, violations);
            violations.at_most(&at("vault.key"), &vault.key, MAX_NAME);
            violations.at_most(&at("vault.mount"), &vault.mount, MAX_NAME);
            let is_path = vault.mount.is_empty() || is_plain(&vault.mount);
            violations.require(is_path, at("vault.mount"), NOT_PLAIN);
        }
        Some(Source::Kubernetes(secret)) => {
            let names = [("name", &secret.name), ("namespace", &secret.namespace)];
            for (name, text) in names.into_iter().filter(|(name, text)| *name == "name" || !text.is_empty()) {
                let is_object = !text.is_empty()
                    && text
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
                let field = at(&format!("kubernetes.{name}"));
                violations.require(
                    is_object,
                    field,
                    "must be a name of Kubernetes: small letters, digits, `-` and `.`",
                );
            }
            violations.at_most(&at("kubernetes.name"), &secret.name, MAX_OBJECT);
            violations.at_most(&at("kubernetes.namespace"), &secret.namespace, MAX_NAMESPACE);
            required(&at("kubernetes.key"), &secret.key, violations);
            violations.at_most(&at("kubernetes.key"), &secret.key, MAX_OBJECT);
        }
    }
}

const NOT_PLAIN: &str =
    "must be a path of plain segments: no `/` at its ends, no empty segment, and none that is `.` or `..`";

fn path(field: &str, text: &str, violations: &mut Violations) {
    violations.at_most(field, text, MAX_PATH);
    violations.require(is_plain(text), field, NOT_PLAIN);
}

/// Tells whether a path says where it leads by itself.
pub fn is_plain(path: &str) -> bool {
    let is_segment =
        |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains(['\\', '\0', '%', '?', '#']);
    !path.chars().any(char::is_control) && path.split('/').all(is_segment)
}

fn required(field: &str, text: &str, violations: &mut Violations) {
    violations.require(!text.is_empty(), field, "is required");
}

#[cfg(test)]
mod tests {
    use trunkline::registry::v1::{BearerCredential, EnvironmentSource, HeadersCredential};

    use super::*;

    fn env(name: &str) -> SecretReference {
        SecretReference { source: Some(Source::Env(EnvironmentSource { name: name.to_owned() })) }
    }

    #[test]
    fn paths_lead_where_they_say() {
        for good in ["a", "a/b", "..data/token", "a b/c.d", "teams/core/x"] {
            assert!(is_plain(good), "{good:?}");
        }
        for bad in [
            "", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "a\\b", "a\0", "a\nb", "a%2e", "a?b", "a#b",
        ] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }

    #[test]
    fn secrets_take_the_places_of_their_references() {
        let headers = HeadersCredential {
            headers: [("X-Tenant".to_owned(), "t".to_owned())].into(),
            headers_from: vec![HeaderReference { name: "X-Key".to_owned(), value_from: Some(env("KEY")) }],
        };
        let credential = Credential { kind: Some(Kind::Headers(headers)), version: "v".to_owned() };
        assert_eq!(references(&credential)[0].0, "credential.headers.headers_from[\"X-Key\"]");
        let filled = fill(&credential, |from| Ok::<_, ()>(format!("{from:?}").len().to_string())).unwrap();
        assert!(references(&filled).is_empty());
        let Some(Kind::Headers(headers)) = filled.kind else { panic!() };
        assert_eq!(headers.headers.len(), 2);
        assert_eq!(headers.headers["X-Tenant"], "t");
        let failed = fill(&credential, |_| Err("gone")).unwrap_err();
        assert_eq!(failed, ("credential.headers.headers_from[\"X-Key\"]".to_owned(), "gone"));
    }

    #[test]
    fn there_is_a_secret_or_a_reference() {
        let said = |bearer: BearerCredential| {
            let mut violations = Violations::default();
            validate_slot("f", &bearer.token, bearer.token_from.as_ref(), &mut violations);
            violations.into_vec().into_iter().map(|found| found.description).collect::<Vec<_>>().join("; ")
        };
        let bearer = |token: &str, token_from| BearerCredential { token: token.to_owned(), token_from };
        assert_eq!(said(bearer("s3cret", None)), "");
        assert_eq!(said(bearer("", Some(env("A")))), "");
        assert!(said(bearer("s3cret", Some(env("A")))).starts_with("stands beside the secret itself"));
        let none = Some(SecretReference::default());
        assert_eq!(said(bearer("", none)), "names no store: set `env`, `file`, `vault` or `kubernetes`");
        assert!(!said(bearer("", Some(env("A=B")))).is_empty());
    }
}
