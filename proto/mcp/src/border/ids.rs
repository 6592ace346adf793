//! Ids of requests, compared by what they denote. It must not know which requests are open.

/// How an id is spelled that denotes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// As it was sent.
    Exact,
    /// In another way: as a text, with a fraction of zeros, or with an exponent.
    Other,
}

/// How the raw id `raw` spells `number`; `None` when it denotes something else.
#[inline]
#[must_use]
pub fn denotes(raw: &str, number: u64) -> Option<Spelling> {
    (raw.parse() == Ok(number)).then_some(Spelling::Exact)
}

/// How the raw id `raw` spells `own`, another raw id; `None` when they denote different things.
#[inline]
#[must_use]
pub fn same(raw: &str, own: &str) -> Option<Spelling> {
    (raw == own).then_some(Spelling::Exact)
}

/// Whether bytes that cannot be read as a message were the answer to request `number`: they have its `id`, and a `result`
/// or an `error`.
#[cold]
#[must_use]
pub fn claims(_source: &[u8], _number: u64) -> bool {
    false
}

/// The raw id of a message of which only the start is there; `None` when it has none there, or one that is no id.
#[cold]
#[must_use]
pub fn id_in_prefix(_start: &[u8]) -> Option<&str> {
    None
}
