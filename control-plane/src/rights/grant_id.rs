//! How bearers, ceilings and withdrawals name the grant of a role or a team: short, and of one life of it.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The bytes of the hash that are kept.
const BYTES: usize = 8;

/// The id of the grant of a role or a team, by its uid.
pub fn of(uid: &str) -> String {
    URL_SAFE_NO_PAD.encode(&digest(&SHA256, uid.as_bytes()).as_ref()[..BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_stay() {
        assert_eq!(of("built-in:administrator"), of("built-in:administrator"));
        assert_eq!(of("").len(), 11);
        assert_eq!(of(""), "47DEQpj8HBQ");
        assert_ne!(of("built-in:developer"), of("built-in:viewer"));
    }
}
