//! The limits of tokens, read once for all calls.

use access::limit::Limit;
use trunkline::edge::v1 as wire;

/// A limit of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenLimit {
    /// Names it among those of its token: `r0`, `q1`.
    pub id: Box<str>,
    /// The limit. `None`: this edge cannot read it, so that nothing is within it.
    pub limit: Option<Limit>,
}

impl TokenLimit {
    /// Reads the limits of a token, in the order in which they are checked.
    pub(super) fn of(limits: &[wire::Limit]) -> Box<[Self]> {
        limits.iter().map(Self::read).collect()
    }

    fn read(limit: &wire::Limit) -> Self {
        let read = match limit.id.chars().next() {
            Some('r') => Limit::rate(&limit.text).ok(),
            Some('q') => Limit::quota(&limit.text).ok(),
            _ => None,
        };
        Self { id: limit.id.as_str().into(), limit: read }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_stays_as_a_limit_that_nothing_is_within() {
        let limit = |id: &str, text: &str| wire::Limit { id: id.into(), text: text.into() };
        let read = TokenLimit::of(&[
            limit("r0", "5/s per tool"),
            limit("q0", "10/day"),
            limit("q1", "10/s"),
            limit("r1", "10 a fortnight"),
            limit("x0", "5/s"),
            limit("", ""),
        ]);
        let read: Vec<_> =
            read.iter().map(|limit| (&*limit.id, limit.limit.map(|limit| limit.to_string()))).collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            read,
            [
                ("r0", text("5/s per tool")),
                ("q0", text("10/day")),
                ("q1", None),
                ("r1", None),
                ("x0", None),
                ("", None)
            ]
        );
    }
}
