//! One-time links: secrets that let somebody in once. It must not know where they are kept.

use std::time::Duration;

use super::admin::{random_token, token_hash};
use crate::clock;
use crate::store::links::{LinkPurpose, LinkRow};

/// How the secret of a link begins.
const PREFIX: &str = "tll_";

/// Makes a link for `uid` that is good from `now_us` on. Returns its secret, too, which is stored nowhere.
pub fn generate(purpose: LinkPurpose, uid: &str, now_us: i64) -> (LinkRow, String) {
    let secret = format!("{PREFIX}{}", random_token());
    let row = LinkRow {
        hash: token_hash(&secret),
        purpose,
        uid: uid.to_owned(),
        create_us: now_us,
        expire_us: now_us + clock::duration_us(lifetime(purpose)),
    };
    (row, secret)
}

/// How long a link can be used.
fn lifetime(purpose: LinkPurpose) -> Duration {
    Duration::from_secs(match purpose {
        LinkPurpose::Setup | LinkPurpose::Invite => 24 * 3_600,
        LinkPurpose::Reset => 3_600,
        LinkPurpose::SignIn => 300,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_known_by_its_hash_and_ends() {
        let (row, secret) = generate(LinkPurpose::SignIn, "u", 7);
        assert!(secret.starts_with("tll_"));
        assert_eq!((row.hash.as_str(), row.expire_us), (token_hash(&secret).as_str(), 300_000_007));
    }
}
