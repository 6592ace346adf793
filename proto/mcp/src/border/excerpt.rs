//! What a peer sent, cut and made safe for errors and logs. It must not know why it is quoted.

/// Characters of an excerpt, at most.
pub const MAX_EXCERPT: usize = 80;

/// Up to [`MAX_EXCERPT`] characters around the byte `at`, as a part of one line: what does not print is escaped, what is
/// not UTF-8 is shown as U+FFFD, and `…` stands where something was cut.
#[must_use]
pub fn excerpt(source: &[u8], at: usize) -> Box<str> {
    let at = at.min(source.len());
    let start = at.saturating_sub(MAX_EXCERPT / 2);
    let end = source.len().min(start + MAX_EXCERPT);
    printable::line(&String::from_utf8_lossy(&source[start..end])).into()
}
