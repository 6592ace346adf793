//! What answers at an address, found by asking in the plainest way. Nothing secret is sent.
//!
//! It is asked only where something went wrong, so that a wrong address is told at once.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

/// Time for each question.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest body that is looked at.
const MAX_BODY_BYTES: usize = 4096;

/// What answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// Nobody, or somebody who cannot be named.
    Unknown,
    /// Somebody who speaks only TLS.
    Tls,
    /// The port of an edge for clients.
    Edge,
    /// The port of an edge for operators.
    EdgeOperations,
    /// A control plane.
    ControlPlane,
    /// A web server that leads elsewhere, to this URL if it says so.
    Redirect(Option<String>),
    /// What is before servers of which none answers, with this status.
    Balancer(u16),
    /// Another web server.
    Web,
}

impl Answers {
    /// Asks who is at an http or https URL. An https certificate is not checked: this asks for two public pages.
    pub async fn at(url: &str) -> Self {
        let Ok(url) = Url::parse(url) else { return Self::Unknown };
        if url.scheme() == "http" && speaks_tls(&url).await {
            return Self::Tls;
        }
        let client = reqwest::Client::builder().http1_only().no_proxy().timeout(PATIENCE);
        let client = client.danger_accept_invalid_certs(true).redirect(reqwest::redirect::Policy::none());
        let Ok(client) = client.build() else { return Self::Unknown };
        let Some(health) = page(&client, &url, "/healthz").await else { return Self::Unknown };
        let config = match health.status {
            200 => page(&client, &url, "/config").await,
            _ => None,
        };
        match Self::read(&health, config.as_ref()) {
            // A proxy may serve gRPC beside pages that it does not know.
            Self::Web | Self::Balancer(_) if url.scheme() == "http" && speaks_http2(&url).await => {
                Self::Unknown
            }
            found => found,
        }
    }

    /// Reads the two pages.
    fn read(health: &Page, config: Option<&Page>) -> Self {
        let is_ok = health.status == 200 && health.body.trim() == "ok";
        let config = config.filter(|_| is_ok).map(|config| (config.status, config.body.trim_start()));
        match (health.status, health.body.as_str(), config) {
            (400, body, _) if body.contains("HTTPS") => Self::Tls,
            (404, body, _) if body.contains("path_unknown") => Self::Edge,
            (403, body, _) if body.contains("host_not_allowed") => Self::Edge,
            (300..400, ..) => Self::Redirect(health.location.clone()),
            (status @ (429 | 502..=504), ..) => Self::Balancer(status),
            (.., Some((200, body))) if body.starts_with('{') => Self::EdgeOperations,
            (.., Some((404, body))) if body.contains("nothing is served at") => Self::ControlPlane,
            _ => Self::Web,
        }
    }

    /// Says what it is, where a control plane was looked for.
    pub fn instead_of_a_control_plane(&self) -> Option<String> {
        let told = match self {
            Self::Unknown | Self::ControlPlane => return None,
            Self::Edge => {
                "that is the port of an edge for clients: set it with --edge, and the control plane with --control"
            }
            Self::EdgeOperations => {
                "that is the port of an edge for operators; the control plane has one of its own"
            }
            Self::Web => "a web server answers there, and no control plane",
            Self::Tls | Self::Redirect(_) | Self::Balancer(_) => return Some(self.in_between()),
        };
        Some(told.to_owned())
    }

    /// Says what it is, where an edge was looked for.
    pub fn instead_of_an_edge(&self) -> Option<String> {
        let told = match self {
            Self::Unknown | Self::Edge => return None,
            Self::ControlPlane => {
                "that is a control plane: set it with --control, and with --edge the port of an edge for clients"
            }
            Self::EdgeOperations => {
                "that is the port of the edge for operators; clients have one of their own"
            }
            Self::Web => "a web server answers there, and no edge",
            Self::Tls | Self::Redirect(_) | Self::Balancer(_) => return Some(self.in_between()),
        };
        Some(told.to_owned())
    }

    /// Says what stands before whatever was looked for.
    fn in_between(&self) -> String {
        match self {
            Self::Tls => "it speaks TLS: its URL begins with https://".to_owned(),
            Self::Redirect(Some(url)) => format!("what answers there redirects to {url}: set that one"),
            Self::Balancer(status) => {
                format!("HTTP {status} from what is before it: check that what it leads to is running")
            }
            _ => "what answers there leads to another URL: set that one".to_owned(),
        }
    }
}

/// A page, as far as it is looked at.
struct Page {
    status: u16,
    /// The start of it.
    body: String,
    /// The URL that it leads to, without what is below it and what may be secret.
    location: Option<String>,
}

async fn page(client: &reqwest::Client, url: &Url, path: &str) -> Option<Page> {
    let url = url.join(path).ok()?;
    let mut response = client.get(url.clone()).send().await.ok()?;
    let status = response.status().as_u16();
    let location = response.headers().get(http::header::LOCATION).and_then(|location| location.to_str().ok());
    let location = location.and_then(|location| origin_of(&url, location));
    let mut body = Vec::new();
    while body.len() < MAX_BODY_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    Some(Page { status, body: String::from_utf8_lossy(&body).into_owned(), location })
}

/// The URL whose page a redirect of the same page leads to.
fn origin_of(page: &Url, location: &str) -> Option<String> {
    let mut to = page.join(location).ok().filter(Url::has_host)?;
    to.set_query(None);
    to.set_fragment(None);
    to.set_username("").and_then(|()| to.set_password(None)).ok()?;
    let text = to.as_str().strip_suffix(page.path()).unwrap_or(to.as_str());
    Some(text.trim_end_matches('/').to_owned())
}

/// Whether a request in plain HTTP is answered with an alert of TLS.
async fn speaks_tls(url: &Url) -> bool {
    const ALERT: u8 = 0x15;
    let start = start_of_answer(url, b"GET /healthz HTTP/1.0\r\n\r\n").await;
    start.is_some_and(|start| start[..2] == [ALERT, 3])
}

/// Whether the preface of HTTP/2 is answered with its settings.
async fn speaks_http2(url: &Url) -> bool {
    const SETTINGS: u8 = 4;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    start_of_answer(url, preface).await.is_some_and(|start| start[0] == 0 && start[3] == SETTINGS)
}

/// Returns the first bytes of the answer to `question`.
async fn start_of_answer(url: &Url, question: &[u8]) -> Option<[u8; 4]> {
    let asked = async {
        let address = (url.host_str()?.trim_matches(['[', ']']), url.port_or_known_default()?);
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(question).await.ok()?;
        let mut start = [0; 4];
        stream.read_exact(&mut start).await.ok()?;
        Some(start)
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_known_by_its_pages() {
        let page = |status: u16, body: &str| Page { status, body: body.to_owned(), location: None };
        let unknown = page(404, r#"{"code":"NOT_FOUND","message":"nothing is served at /config"}"#);
        let edge = page(404, r#"{"error":{"code":-31004,"data":{"reason":"path_unknown"}}}"#);
        let ok = page(200, "ok\n");
        for (health, config, found) in [
            (&ok, Some(&unknown), Answers::ControlPlane),
            (&ok, Some(&page(200, "{}")), Answers::EdgeOperations),
            (&edge, None, Answers::Edge),
            (&page(403, r#"{"error":{"data":{"reason":"host_not_allowed"}}}"#), None, Answers::Edge),
            (&ok, Some(&page(200, "<!DOCTYPE html>")), Answers::Web),
            (&page(404, "<!DOCTYPE html>"), None, Answers::Web),
            (&page(308, ""), None, Answers::Redirect(None)),
            (&page(502, "<html>"), None, Answers::Balancer(502)),
            (&page(400, "Client sent an HTTP request to an HTTPS server."), None, Answers::Tls),
        ] {
            assert_eq!(Answers::read(health, config), found);
        }
    }

    #[test]
    fn a_redirect_is_named_by_what_to_set() {
        let page = Url::parse("http://a.example/healthz").unwrap();
        for (location, named) in [
            ("https://a.example/healthz", "https://a.example"),
            ("https://u:p@b.example:1/x/healthz?k=s3cret#f", "https://b.example:1/x"),
            ("/login", "http://a.example/login"),
        ] {
            assert_eq!(origin_of(&page, location).as_deref(), Some(named));
        }
        assert_eq!(origin_of(&page, "mailto:x"), None);
    }
}
