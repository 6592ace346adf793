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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// A web server that leads elsewhere.
    Redirect,
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
        let config = match health.0 {
            200 => page(&client, &url, "/config").await,
            _ => None,
        };
        match Self::read(&health, config.as_ref()) {
            // A proxy may serve gRPC beside pages that it does not know.
            Self::Web if url.scheme() == "http" && speaks_http2(&url).await => Self::Unknown,
            found => found,
        }
    }

    /// Reads the two pages.
    fn read(health: &(u16, String), config: Option<&(u16, String)>) -> Self {
        let is_ok = health.0 == 200 && health.1.trim() == "ok";
        match (health, config) {
            ((_, body), _) if body.contains("HTTPS") && health.0 == 400 => Self::Tls,
            ((404, body), _) if body.contains("path_unknown") => Self::Edge,
            ((300..400, _), _) => Self::Redirect,
            (_, Some((200, body))) if is_ok && body.trim_start().starts_with('{') => Self::EdgeOperations,
            (_, Some((404, body))) if is_ok && body.contains("nothing is served at") => Self::ControlPlane,
            _ => Self::Web,
        }
    }

    /// Says what it is, where a control plane was looked for.
    pub fn instead_of_a_control_plane(self) -> Option<&'static str> {
        Some(match self {
            Self::Unknown | Self::ControlPlane => return None,
            Self::Tls => "it speaks TLS: its URL begins with https://",
            Self::Edge => {
                "that is the port of an edge for clients: set it with --edge, and the control plane with --control"
            }
            Self::EdgeOperations => {
                "that is the port of an edge for operators; the control plane has one of its own"
            }
            Self::Redirect => "what answers there leads to another URL: set that one",
            Self::Web => "a web server answers there, and no control plane",
        })
    }

    /// Says what it is, where an edge was looked for.
    pub fn instead_of_an_edge(self) -> Option<&'static str> {
        Some(match self {
            Self::Unknown | Self::Edge => return None,
            Self::Tls => "it speaks TLS: its URL begins with https://",
            Self::ControlPlane => {
                "that is a control plane: set it with --control, and with --edge the port of an edge for clients"
            }
            Self::EdgeOperations => {
                "that is the port of the edge for operators; clients have one of their own"
            }
            Self::Redirect => "what answers there leads to another URL: set that one",
            Self::Web => "a web server answers there, and no edge",
        })
    }
}

/// Returns the status of a page and the start of its body.
async fn page(client: &reqwest::Client, url: &Url, path: &str) -> Option<(u16, String)> {
    let mut response = client.get(url.join(path).ok()?).send().await.ok()?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.len() < MAX_BODY_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    Some((status, String::from_utf8_lossy(&body).into_owned()))
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
        let page = |status: u16, body: &str| (status, body.to_owned());
        let unknown = page(404, r#"{"code":"NOT_FOUND","message":"nothing is served at /config"}"#);
        let edge = page(404, r#"{"error":{"code":-31004,"data":{"reason":"path_unknown"}}}"#);
        let ok = page(200, "ok\n");
        for (health, config, found) in [
            (&ok, Some(&unknown), Answers::ControlPlane),
            (&ok, Some(&page(200, "{}")), Answers::EdgeOperations),
            (&edge, None, Answers::Edge),
            (&ok, Some(&page(200, "<!DOCTYPE html>")), Answers::Web),
            (&page(404, "<!DOCTYPE html>"), None, Answers::Web),
            (&page(308, ""), None, Answers::Redirect),
            (&page(400, "Client sent an HTTP request to an HTTPS server."), None, Answers::Tls),
        ] {
            assert_eq!(Answers::read(health, config), found);
        }
    }
}
