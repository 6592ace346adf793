//! Which redirects are followed, and where to. It must not know who sends requests.

use url::Url;

use crate::quirk::Quirk;
use crate::secrets::Secrets;

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
    /// To another origin, which may not have the credentials and was not registered. The URL is without its query.
    #[error("redirects to another origin")]
    OtherOrigin(Box<str>),
    /// There is no `Location`.
    #[error("redirects without saying where to")]
    NoLocation,
    /// `Location` is not a URL.
    #[error("redirects to what is not a URL")]
    Malformed(Box<[u8]>),
    /// By 301 or 302 to another path, where a server may show what the request did: it may not run twice.
    #[error("status {0} to another path may lead to what the request did; 307 or 308 is followed")]
    ToResult(u16),
    /// It leads to where it comes from, or on for more than [`MAX_REDIRECTS`].
    #[error("redirects without end")]
    Loop,
}

impl NotFollowed {
    /// The reason with what it is about, cut and without the secrets that the server was sent.
    #[cold]
    #[must_use]
    pub fn quoted(&self, secrets: &Secrets) -> String {
        match self {
            Self::OtherOrigin(url) => {
                format!("redirects to {}, which is not followed: register that URL", secrets.excerpt(url))
            }
            Self::Malformed(location) => {
                format!("redirects to what is not a URL: \"{}\"", secrets.quote(location, 0))
            }
            Self::Status(_) | Self::NoLocation | Self::ToResult(_) | Self::Loop => self.to_string(),
        }
    }
}

impl Followed {
    /// The same for a request to `base` that may not run twice and was redirected with `status`. By 307 and 308 a server says that it
    /// was not acted on; by 301 and 302 it may lead from what was done to the result, as browsers have it (RFC 9110, sections
    /// 15.4.2 and 15.4.3), unless only a slash is more or less.
    ///
    /// # Errors
    /// When it is not followed.
    pub fn unless_it_ran(self, base: &Url, status: u16) -> Result<Self, NotFollowed> {
        let same_path = self.url.path().trim_end_matches('/') == base.path().trim_end_matches('/');
        if matches!(status, 301 | 302) && !same_path { Err(NotFollowed::ToResult(status)) } else { Ok(self) }
    }
}

/// Whether a status is a redirect that may be followed: 301, 302, 307 or 308. A 303 asks for another method.
#[inline]
#[must_use]
pub const fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 307 | 308)
}

/// Where a response with `status` and `location` sends a request to `base`.
///
/// A server that is behind TLS and does not know it redirects to `http`: of such a URL, on the same host and without a
/// port, only the path and query are taken. The request for a WebSocket is one over HTTP (RFC 6455 §4.1), so `ws` is the
/// same as `http`, and `wss` as `https`.
///
/// # Errors
/// When it is not followed.
#[cold]
pub fn follow(base: &Url, status: u16, location: Option<&[u8]>) -> Result<Followed, NotFollowed> {
    if !is_redirect(status) {
        return Err(NotFollowed::Status(status));
    }
    let location = location.ok_or(NotFollowed::NoLocation)?;
    let malformed = || NotFollowed::Malformed(location.into());
    let text = std::str::from_utf8(location).map_err(|_| malformed())?;
    let to = base.join(text).map_err(|_| malformed())?;
    let quirk = match (over_http(base), over_http(&to)) {
        (base, to) if to.origin() == base.origin() => Quirk::Redirects,
        (base, to) if is_downgrade(&base, &to) => Quirk::DowngradingRedirect,
        (_, to) => return Err(NotFollowed::OtherOrigin(named(&to))),
    };
    // What is the base's stays: its scheme, port and user.
    let mut url = base.clone();
    url.set_path(to.path());
    url.set_query(to.query());
    url.set_fragment(None);
    if url == *base {
        return Err(NotFollowed::Loop);
    }
    Ok(Followed { url, quirk })
}

/// The URL of the request for a WebSocket, as one of HTTP.
fn over_http(url: &Url) -> Url {
    let mut url = url.clone();
    let scheme = match url.scheme() {
        "ws" => "http",
        "wss" => "https",
        _ => return url,
    };
    // These schemes may always take each other's place.
    let _ = url.set_scheme(scheme);
    url
}

fn is_downgrade(base: &Url, to: &Url) -> bool {
    base.scheme() == "https" && to.scheme() == "http" && to.port().is_none() && to.host() == base.host()
}

/// The URL without its user and query, where secrets may be.
fn named(url: &Url) -> Box<str> {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Only URLs without a host have no user to be taken off.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.as_str().into()
}
