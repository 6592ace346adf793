//! Sessions: a random credential for each sign-in, and how long it is good. It must not know where they are kept.

use std::time::Duration;

use super::admin::{random_token, token_hash};
use crate::clock;
use crate::store::sessions::SessionRow;

/// How the credential of a session begins.
pub const PREFIX: &str = "tls_";
/// Without use it ends after so long.
pub const IDLE: Duration = Duration::from_secs(8 * 3_600);
/// However much it is used, it ends after so long.
pub const LONGEST: Duration = Duration::from_secs(12 * 3_600);
/// The time of the last use is written no more often than this.
pub const NOTED: Duration = Duration::from_secs(60);
/// One person has so many at most.
pub const MOST: i64 = 100;

/// How the secret of a device begins.
const DEVICE_PREFIX: &str = "tld_";
/// One person has so many devices at most.
pub const MOST_DEVICES: i64 = 20;

/// Characters of the id of a session.
const ID: usize = 12;

/// Makes a session of somebody that begins now. Returns its credential, too, which is stored nowhere.
pub fn begin(uid: &str, method: i32, address: String, agent: &str) -> (SessionRow, String) {
    let secret = format!("{PREFIX}{}", random_token());
    let now_us = clock::now_us();
    let hash = token_hash(&secret);
    let row = SessionRow {
        id: hash[..ID].to_owned(),
        hash,
        uid: uid.to_owned(),
        method,
        create_us: now_us,
        seen_us: now_us,
        expire_us: now_us + clock::duration_us(LONGEST),
        address,
        agent: agent.to_owned(),
    };
    (row, secret)
}

/// Tells whether a session has not ended.
pub fn is_in_force(session: &SessionRow, now_us: i64) -> bool {
    now_us < session.expire_us && now_us < session.seen_us + clock::duration_us(IDLE)
}

/// Makes the secret of a device.
pub fn new_device() -> String {
    format!("{DEVICE_PREFIX}{}", random_token())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_without_use_and_with_it_later() {
        let (mut session, secret) = begin("u", 1, String::new(), "test");
        assert!(secret.starts_with("tls_") && secret.len() == 47, "{secret}");
        assert_eq!(session.hash, token_hash(&secret));
        let (start, hour) = (session.create_us, 3_600_000_000);
        assert!(is_in_force(&session, start + 8 * hour - 1));
        assert!(!is_in_force(&session, start + 8 * hour));
        session.seen_us = start + 7 * hour;
        assert!(is_in_force(&session, start + 12 * hour - 1));
        assert!(!is_in_force(&session, start + 12 * hour));
    }
}
