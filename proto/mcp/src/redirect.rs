//! Which redirects are followed, and where to. It must not know who sends requests.

use url::Url;

use crate::quirk::Quirk;

/// Redirects of one request that are followed.
pub const MAX_REDIRECTS: usize = 5;

/// Where a request goes on, with the same method and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The URL; its origin is the one that was asked.
    pub url: Url,
    /// What is to be noted: [`Quirk::Redirects`] or [`Quirk::DowngradingRedirect`].
    pub quirk: Quirk,
}

/// The reason for which a redirect is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFollowed {
    /// The status is none of 301, 302, 307 and 308.
    #[error("status {0} is not followed")]
    Status(u16),
    /// To another origin, whose credentials are not ours to send.
    #[error("redirects to {0}, which is not followed: register that URL")]
    OtherOrigin(String),
    /// There is no `Location`.
    #[error("redirects without saying where to")]
    NoLocation,
    /// `Location` is not a URL.
    #[error("redirects to what is not a URL: {0}")]
    Malformed(Box<str>),
    /// It leads back, or on for more than [`MAX_REDIRECTS`].
    #[error("redirects without end")]
    Loop,
}

/// Whether a status is a redirect that may be followed: 301, 302, 307 or 308.
#[inline]
#[must_use]
pub fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 307 | 308)
}

/// Where a response with `status` and `location` sends a request to `base`.
///
/// # Errors
/// When it is not followed.
#[cold]
pub fn follow(base: &Url, status: u16, location: Option<&[u8]>) -> Result<Followed, NotFollowed> {
    let _ = (base, status);
    let location = location.ok_or(NotFollowed::NoLocation)?;
    Err(NotFollowed::OtherOrigin(String::from_utf8_lossy(location).into_owned()))
}
