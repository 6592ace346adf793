//! What a peer sent, cut and made safe for errors and logs. It must not know why it is quoted.
//!
//! Only `Secrets::quote` cuts so, after secrets were taken out: what is left of one that is cut is found by nobody.

/// Characters of an excerpt before they are escaped, at most.
const MAX_EXCERPT: usize = 80;

/// Up to [`MAX_EXCERPT`] characters around the byte `at`, as a part of one line: what does not print is escaped, what is
/// not UTF-8 becomes U+FFFD, and `…` stands where something was cut.
#[cold]
#[must_use]
pub(crate) fn excerpt(source: &[u8], at: usize) -> Box<str> {
    let start = boundary(source, at.min(source.len()).saturating_sub(MAX_EXCERPT / 2));
    // No character has more than four bytes: where this cuts, there are more than are shown.
    let end = source.len().min(start + 4 * (MAX_EXCERPT + 1));
    let text = String::from_utf8_lossy(&source[start..end]);
    let mut characters = text.chars();
    let shown: String = characters.by_ref().take(MAX_EXCERPT).collect();
    let before = if start > 0 { "…" } else { "" };
    let after = if characters.next().is_some() { "…" } else { "" };
    format!("{before}{}{after}", printable::line(&shown)).into()
}

/// The start of the next character of UTF-8, at `at` or up to three bytes on.
fn boundary(source: &[u8], at: usize) -> usize {
    let rest = &source[at..];
    at + rest.iter().take(3).take_while(|byte| matches!(byte, 0x80..=0xbf)).count()
}
