//! Where a server is, and who we say we are.

use std::fmt;
use std::time::Duration;

use ::http::HeaderMap;
use url::Url;

use super::dial::Dial;
use crate::json::quote;

/// Where a server is and how it is reached.
#[derive(Clone)]
pub struct Endpoint {
    /// The URL that messages are posted to.
    pub url: Url,
    /// Sent with every request: credentials and what else the server wants.
    pub headers: HeaderMap,
    /// How long an answer may take; for streams, how long they may be silent.
    pub timeout: Duration,
    /// How it is reached, where the URL's host does not say.
    pub dial: Option<Dial>,
}

/// Headers, path and query may hold secrets.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("origin", &self.url.origin().ascii_serialization())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Whether it is reached over a WebSocket, which its scheme says.
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        matches!(self.url.scheme(), "ws" | "wss")
    }

    /// The same place in the words of HTTP, with which a WebSocket begins.
    pub(super) fn over_http(&self) -> Self {
        let mut url = self.url.clone();
        let scheme = match url.scheme() {
            "ws" => "http",
            "wss" => "https",
            _ => return self.clone(),
        };
        // Between schemes that name hosts alike it never fails.
        let _: Result<(), ()> = url.set_scheme(scheme);
        Self { url, ..self.clone() }
    }

    /// What must not be repeated in the text of an error, longest first.
    pub(super) fn secrets(&self) -> Vec<String> {
        let headers = self.headers.values().filter_map(|value| value.to_str().ok());
        let words = headers.flat_map(|value| std::iter::once(value).chain(value.split_whitespace().skip(1)));
        let mut secrets: Vec<String> = words.map(str::to_owned).collect();
        secrets.extend(self.url.query().map(str::to_owned));
        secrets.extend(self.url.query_pairs().map(|(_, value)| value.into_owned()));
        secrets.extend(self.url.password().map(str::to_owned));
        // Some services put the key into the path; ordinary words of a path are shorter.
        let segments = self.url.path_segments().into_iter().flatten();
        secrets.extend(segments.filter(|segment| segment.len() >= 16).map(str::to_owned));
        // Shorter ones would blacken every text and hide nothing.
        secrets.retain(|secret| secret.len() >= 4);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }
}

/// Who we say we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// The program's name.
    pub name: String,
    /// The program's version.
    pub version: String,
}

impl ClientInfo {
    /// As the protocol writes it.
    pub(super) fn json(&self) -> String {
        format!(r#"{{"name":{},"version":{}}}"#, quote(&self.name), quote(&self.version))
    }
}
