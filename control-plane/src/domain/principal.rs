//! Names of users and service accounts, and addresses with which people sign in. Pure.

use super::names;

/// Where the names of users begin.
pub const USERS: &str = "users/";
/// Where the names of service accounts begin.
pub const SERVICE_ACCOUNTS: &str = "serviceAccounts/";

/// The longest address that is delivered to (RFC 5321, section 4.5.3.1).
const MAX_EMAIL: usize = 254;
const MAX_LOCAL_PART: usize = 64;
/// The longest title.
pub const MAX_TITLE: usize = 128;

/// What an address must be.
pub const EMAIL: &str = "must be an email address such as ann@example.org, of ASCII characters";

/// Reads an address as it is kept: in lower case. `None`: it is none.
///
/// ASCII only, so that no two of them look the same.
pub fn email(text: &str) -> Option<String> {
    let (local, domain) = text.split_once('@')?;
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-=?^_`{|}~.".contains(&byte);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_good = text.len() <= MAX_EMAIL
        && (1..=MAX_LOCAL_PART).contains(&local.len())
        && local.bytes().all(is_local)
        && local.split('.').all(|atom| !atom.is_empty())
        && domain.split('.').all(is_label);
    is_good.then(|| text.to_ascii_lowercase())
}

/// Tells whether a text is the name of a user.
pub fn is_user(name: &str) -> bool {
    let id = name.strip_prefix(USERS);
    id.is_some_and(|id| email(id).is_some_and(|email| email == id))
}

/// Tells whether a text is the name of a service account.
pub fn is_service_account(name: &str) -> bool {
    name.strip_prefix(SERVICE_ACCOUNTS).is_some_and(|id| names::check_id(id).is_ok())
}

/// Takes the name of what somebody has apart: `{principal}/{collection}/{id}`.
pub fn split<'a>(name: &'a str, collection: &str) -> Option<(&'a str, &'a str)> {
    let (rest, id) = name.rsplit_once('/')?;
    let (principal, found) = rest.rsplit_once('/')?;
    let is_whole = found == collection && (is_user(principal) || is_service_account(principal));
    (is_whole && !id.is_empty()).then_some((principal, id))
}

/// What is wrong with a title, if anything.
pub fn title(text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if length > MAX_TITLE {
        return Err(format!("has {length} characters; the maximum is {MAX_TITLE}"));
    }
    if text.chars().any(char::is_control) { Err("has a control character".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_in_lower_case() {
        for (text, kept) in [
            ("Ann@Example.ORG", "ann@example.org"),
            ("ann+x@example.org", "ann+x@example.org"),
            ("a@localhost", "a@localhost"),
        ] {
            assert_eq!(email(text).as_deref(), Some(kept));
        }
    }

    #[test]
    fn what_is_no_address_or_looks_like_another_is_refused() {
        let long = format!("{}@example.org", "a".repeat(65));
        for text in [
            "",
            "ann",
            "@example.org",
            "ann@",
            "ann@-x.org",
            "a..b@x.org",
            ".a@x.org",
            "a@x..org",
            "a b@x.org",
            "a/b@x.org",
            "ann@exаmple.org",
            "ann\u{202e}@x.org",
            "a@b@c",
            "a\0@x.org",
            &long,
        ] {
            assert_eq!(email(text), None, "{text:?}");
        }
    }

    #[test]
    fn names_are_those_of_users_and_service_accounts() {
        assert!(is_user("users/ann@example.org"));
        for bad in ["users/Ann@example.org", "users/ann", "ann@example.org", "users/", "users/a@x.org/keys"] {
            assert!(!is_user(bad), "{bad}");
        }
        assert!(is_service_account("serviceAccounts/ci"));
        assert!(!is_service_account("serviceAccounts/CI"));
        assert_eq!(split("users/a@x.org/keys/k1", "keys"), Some(("users/a@x.org", "k1")));
        assert_eq!(split("serviceAccounts/ci/keys/-", "keys"), Some(("serviceAccounts/ci", "-")));
        for bad in ["users/a@x.org/keys/", "users/a@x.org/sessions/1", "teams/core/keys/1", "keys/1", ""] {
            assert_eq!(split(bad, "keys"), None, "{bad}");
        }
    }

    #[test]
    fn titles_are_short_and_plain() {
        title(&"é".repeat(128)).unwrap();
        assert_eq!(title(&"x".repeat(129)).unwrap_err(), "has 129 characters; the maximum is 128");
        assert_eq!(title("a\u{1b}b").unwrap_err(), "has a control character");
    }
}
