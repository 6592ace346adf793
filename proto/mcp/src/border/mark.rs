//! The byte order mark at the start of a text. It must not know what the text is.

/// The byte order mark in UTF-8, which RFC 8259 §8.1 lets readers ignore.
pub const MARK: &[u8] = b"\xef\xbb\xbf";

/// The text without the mark at its start, such as of a file that an editor wrote.
#[must_use]
pub fn text_without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The text without the mark at its start.
#[must_use]
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK).unwrap_or(text)
}
