//! Text of any kind as a header value, and back.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;

const OPEN: &str = "=?base64?";
const CLOSE: &str = "?=";

/// A header value that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It holds something else than visible ASCII, spaces and tabs.
    #[error("a header value contains characters other than visible ASCII")]
    Characters,
    /// What stands between `=?base64?` and `?=` is not base64 with padding.
    #[error("a header value is not valid base64")]
    Base64,
    /// It is base64 of something else than UTF-8.
    #[error("a header value is not base64 of UTF-8")]
    Utf8,
}

/// Text as a header value: as it is where that is possible, else as `=?base64?…?=`.
#[must_use]
pub fn encode_value(text: &str) -> HeaderValue {
    let written = if is_plain(text) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{OPEN}{}{CLOSE}", BASE64_STANDARD.encode(text)))
    };
    HeaderValue::from_str(&written).expect("plain text and base64 are visible ASCII")
}

/// Decodes a header value.
///
/// # Errors
/// When it is not ASCII, or has the marks of base64 around something else.
pub fn decode_value(value: &HeaderValue) -> Result<Cow<'_, str>, ValueError> {
    let text = value.to_str().map_err(|_| ValueError::Characters)?;
    let Some(encoded) = between_marks(text) else {
        return Ok(Cow::Borrowed(text));
    };
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| ValueError::Base64)?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| ValueError::Utf8)
}

fn between_marks(text: &str) -> Option<&str> {
    text.strip_prefix(OPEN)?.strip_suffix(CLOSE)
}

/// Whether a header can carry it unchanged, and it is not mistaken for base64.
fn is_plain(text: &str) -> bool {
    let visible = text.bytes().all(|b| (0x20..0x7f).contains(&b));
    visible && !text.starts_with(' ') && !text.ends_with(' ') && between_marks(text).is_none()
}
