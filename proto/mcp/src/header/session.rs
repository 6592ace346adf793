//! The id of a session, as servers give it out. It must not know what it is an id of.

use http::{HeaderMap, HeaderValue};

use super::SESSION_ID;

/// The longest id of a session, in bytes: some servers put a signed token into it.
const MAX_BYTES: usize = 4_096;

/// An id that cannot be sent back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its Mcp-Session-Id is not at most {MAX_BYTES} visible ASCII characters")]
pub struct SessionIdError;

/// The id of the session that a response to `initialize` opens; `None` where there is none, also where the header is empty, as
/// proxies of stateless servers have it. It is visible ASCII (2025-11-25, Streamable HTTP); spaces in it are taken, too.
///
/// # Errors
/// When it is longer, or of other characters.
pub fn session_id(headers: &HeaderMap) -> Result<Option<HeaderValue>, SessionIdError> {
    let Some(id) = headers.get(SESSION_ID).filter(|id| !id.as_bytes().trim_ascii().is_empty()) else {
        return Ok(None);
    };
    let is_printable = |byte: &u8| *byte == b' ' || byte.is_ascii_graphic();
    if id.len() > MAX_BYTES || !id.as_bytes().iter().all(is_printable) {
        return Err(SessionIdError);
    }
    Ok(Some(id.clone()))
}
