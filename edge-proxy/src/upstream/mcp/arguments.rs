//! The arguments of a call, as the states are bound to them by which its client goes on with it: what was decided about the first round
//! holds for no others. It must not know what they mean.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcp::canonical::canonical;

/// The digest of raw arguments, whatever spelling they have. `None`: there are none.
pub(super) fn arguments_digest(arguments: Option<&str>) -> String {
    let raw = arguments.unwrap_or_default();
    // What has no canonical text is the same where it is written the same.
    let text = canonical(raw).map_or(Cow::Borrowed(raw), Cow::Owned);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}
