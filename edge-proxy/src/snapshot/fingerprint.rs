//! Hashes of content, equal on every edge, that show what can be shared and what has changed.

use aws_lc_rs::digest;

/// A hash of several parts with their lengths, so that `("ab", "c")` differs from `("a", "bc")`.
pub(super) struct Fingerprint(digest::Context);

impl Fingerprint {
    pub(super) fn new() -> Fingerprint {
        Fingerprint(digest::Context::new(&digest::SHA256))
    }

    pub(super) fn part(mut self, bytes: &[u8]) -> Fingerprint {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(super) fn number(mut self, number: u64) -> Fingerprint {
        self.0.update(&number.to_le_bytes());
        self
    }

    pub(super) fn finish(self) -> u128 {
        let digest = self.0.finish();
        let (first, _) = digest.as_ref().split_at(16);
        first.iter().fold(0, |value, byte| value << 8 | u128::from(*byte))
    }

    /// Returns half of the hash, where a collision merely costs a missed notification.
    pub(super) fn finish_short(self) -> u64 {
        self.finish() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        let of = |parts: &[&str]| parts.iter().fold(Fingerprint::new(), |f, p| f.part(p.as_bytes())).finish();
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["", "a"]), of(&["a", ""]));
        assert_ne!(Fingerprint::new().number(1).finish(), Fingerprint::new().number(2).finish());
    }
}
