//! API keys: `tlk_{id}_{secret}`, of which the id is public. It must not know where they are kept.

use std::time::Duration;

use super::admin::{random_token, token_hash};

/// How an API key begins.
pub const PREFIX: &str = "tlk_";
/// How long a key is good unless something else is asked for.
pub const LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// One that ends within this time is said to.
pub const EXPIRING: Duration = Duration::from_secs(7 * 86_400);
/// One principal has so many at most.
pub const MOST: i64 = 100;

/// Characters of an id.
const ID: usize = 10;
/// Characters of a secret.
const SECRET: usize = 43;

/// A new key.
#[derive(Clone)]
pub struct NewApiKey {
    /// Its public id.
    pub id: String,
    /// The key itself, which is stored nowhere.
    pub key: String,
    /// The hash of it.
    pub hash: String,
}

/// Makes a key.
pub fn generate() -> NewApiKey {
    let id = token_hash(&random_token())[..ID].to_owned();
    let key = format!("{PREFIX}{id}_{}", random_token());
    NewApiKey { id, hash: token_hash(&key), key }
}

/// The id of a key. `None`: it is not of the form of one.
pub fn id_of(key: &str) -> Option<&str> {
    let (id, secret) = key.strip_prefix(PREFIX)?.split_at_checked(ID)?;
    let is_id = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_whole = secret.strip_prefix('_').is_some_and(|secret| secret.len() == SECRET);
    (is_id && is_whole).then_some(id)
}

/// Compares a key with the hash of one, in constant time.
pub fn matches(key: &str, hash: &str) -> bool {
    let presented = token_hash(key);
    aws_lc_rs::constant_time::verify_slices_are_equal(presented.as_bytes(), hash.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_id_and_known_by_its_hash() {
        let new = generate();
        assert_eq!(id_of(&new.key), Some(new.id.as_str()));
        assert!(matches(&new.key, &new.hash));
        let other = generate();
        assert!(!matches(&other.key, &new.hash));
        assert_ne!(other.id, new.id);
    }

    #[test]
    fn what_is_no_key_is_not_looked_for() {
        let secret = "s".repeat(SECRET);
        for text in [
            "",
            "tlk_",
            "tlk_0123456789",
            &format!("tlk_0123456789_{secret}x"),
            &format!("tlk_012345678é_{secret}"),
        ] {
            assert_eq!(id_of(text), None, "{text}");
        }
        assert_eq!(id_of(&format!("tlk_0123456789_{secret}")), Some("0123456789"));
    }
}
