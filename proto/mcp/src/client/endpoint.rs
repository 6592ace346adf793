//! The address of a server, and the client's own name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderMap;
use reqwest::{Certificate, ClientBuilder, Identity};
use url::Url;

use super::dial::Dial;
use super::resolve::Resolve;
use crate::json::quote;
use crate::secrets::Secrets;

/// The address of a server, and how it is reached.
#[derive(Clone)]
pub struct Endpoint {
    /// The URL that messages are posted to.
    pub url: Url,
    /// Sent with every request: credentials and what else the server wants.
    pub headers: HeaderMap,
    /// Longest wait for a response; for streams, longest silence.
    pub timeout: Duration,
    /// The connections to it.
    pub reach: Reach,
}

/// How a server is connected to.
#[derive(Clone)]
pub enum Reach {
    /// As the system reaches the host of its URL, with the proxies that the environment names, unless that is this machine.
    /// Nothing is refused: for URLs that the user of the program wrote.
    System,
    /// The same, with certificates of the user's.
    Trusting(TlsMaterial),
    /// At those addresses of the host that the resolver returns, and at no others. Proxies are not used: they would resolve
    /// the host themselves.
    Resolved(Arc<dyn Resolve>),
    /// By connections that this opens, whatever the host of its URL is.
    Dial(Dial),
}

/// What a client brings to TLS besides what the system has, as PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsMaterial {
    /// Authorities that are trusted besides those that the system trusts.
    pub authorities: Option<Arc<[u8]>>,
    /// A certificate and its key, which are presented where the server wants one.
    pub identity: Option<Arc<[u8]>>,
}

impl TlsMaterial {
    /// Puts it into a client.
    ///
    /// # Errors
    ///
    /// Where it is no usable PEM.
    pub fn put_into(&self, mut client: ClientBuilder) -> Result<ClientBuilder, reqwest::Error> {
        if let Some(authorities) = &self.authorities {
            client = client.tls_certs_merge(Certificate::from_pem_bundle(authorities)?);
        }
        if let Some(identity) = &self.identity {
            client = client.identity(Identity::from_pem(identity)?);
        }
        Ok(client)
    }
}

/// The key is a secret.
impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsMaterial")
    }
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
    /// Whether its scheme is that of a WebSocket.
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        matches!(self.url.scheme(), "ws" | "wss")
    }

    /// Returns it with the scheme of HTTP, with which a WebSocket begins.
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

    /// Returns the secrets that errors must not contain.
    pub(super) fn secrets(&self) -> Secrets {
        Secrets::of_request(&self.url, &self.headers)
    }
}

/// The client's name and version.
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
