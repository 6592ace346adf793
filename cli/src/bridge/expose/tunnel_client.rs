//! Tunnels out of a network that accepts no connections: keeps one open to each gateway URL, and reopens it whenever it
//! breaks.
//!
//! It must not know how gateways accept tunnels, nor where credentials come from.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use mcp::client::TlsMaterial;
use mcp::endpoint::is_loopback;
use reqwest::{ClientBuilder, Upgraded};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_util::sync::CancellationToken;
use tunnel::{Role, SUBPROTOCOL, accept};
use url::Url;

use crate::bridge::expose::{Shared, http as expose_http};
use crate::context::Secret;
use crate::error::{Error, Result};
use crate::output::eprint;

const FIRST_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(15);
/// Uptime after which a tunnel counts as stable, and the retry delay starts over.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// Tunnels to gateways that are stopping, which are served until they end.
const MAX_DRAINING: usize = 4;
/// Time allowed for opening a tunnel.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The state shared by all tunnels of a command.
pub struct TunnelClient {
    /// Goes through the proxy that the environment names, if any.
    http: reqwest::Client,
    /// Goes through none, as everything does that leads to this machine.
    direct: reqwest::Client,
    shared: Arc<Shared>,
    label: String,
    /// The bearer that opens tunnels. The owner of the sender renews it.
    credential: watch::Receiver<Secret>,
    /// Signals that owner that the bearer was refused.
    refused: Arc<Notify>,
}

/// The reason why a tunnel is not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum TunnelError {
    #[error("{0}")]
    Unreachable(String),
    #[error("the credential was rejected")]
    Refused,
    #[error("HTTP {0}: {1}")]
    Status(u16, String),
    #[error("the gateway is stopping")]
    Draining,
    #[error("the server does not accept tunnels")]
    NotAGateway,
}

impl TunnelClient {
    /// Prepares tunnels to the command behind `shared`. `tls` is what they bring to TLS.
    pub fn new(
        shared: Arc<Shared>,
        label: String,
        tls: &TlsMaterial,
        credential: watch::Receiver<Secret>,
        refused: Arc<Notify>,
    ) -> Result<Arc<Self>> {
        let build = |http: ClientBuilder| {
            let built = tls.put_into(http).and_then(ClientBuilder::build);
            built.map_err(|error| Error::failure(format!("cannot create an HTTP client: {error}")))
        };
        // HTTP/2 has no upgrades.
        let http = || reqwest::Client::builder().http1_only().connect_timeout(OPEN_TIMEOUT);
        let (http, direct) = (build(http())?, build(http().no_proxy())?);
        Ok(Arc::new(Self { http, direct, shared, label, credential, refused }))
    }

    /// Keeps one tunnel open for ever. `open` shows whether it is open. When the gateway says that it is stopping, another
    /// tunnel is opened, where the URL leads to another gateway then, and the first is served until it ends.
    pub async fn keep_open(self: Arc<Self>, url: Url, open: watch::Sender<bool>) {
        let (mut delay, mut reported) = (FIRST_DELAY, None);
        let mut ending = JoinSet::new();
        loop {
            let opened = tokio::time::timeout(OPEN_TIMEOUT, self.open(&url)).await;
            let late = Err(TunnelError::Unreachable("no response in time".to_owned()));
            let error = match opened.unwrap_or(late) {
                Ok(socket) => {
                    self.report(&format!("tunnel to {} is open", url.origin().ascii_serialization()));
                    open.send_replace(true);
                    let (began, draining) = (Instant::now(), CancellationToken::new());
                    let mut served = Box::pin(Arc::clone(&self).serve(socket, draining.clone()));
                    let broke = tokio::select! {
                        broke = &mut served => Some(broke),
                        () = draining.cancelled() => None,
                    };
                    open.send_replace(false);
                    if began.elapsed() > STABLE_AFTER {
                        delay = FIRST_DELAY;
                    }
                    reported = None;
                    match broke {
                        Some(broke) => TunnelError::Unreachable(broke),
                        None => {
                            while ending.try_join_next().is_some() {}
                            if ending.len() < MAX_DRAINING {
                                ending.spawn(served);
                            }
                            TunnelError::Draining
                        }
                    }
                }
                Err(error) => error,
            };
            // An upstream that was deleted and created anew needs another credential.
            if matches!(error, TunnelError::Refused | TunnelError::Status(404, _)) {
                self.refused.notify_one();
            }
            let moves = error == TunnelError::Draining;
            if reported.as_ref() != Some(&error) {
                let url = url.origin().ascii_serialization();
                self.report(&format!("no tunnel to {url}: {error}. Retrying in the background"));
                reported = Some(error);
            }
            // A gateway that is stopping goes on serving for a while, and calls wait for the next tunnel already.
            if !(moves && delay == FIRST_DELAY) {
                tokio::time::sleep(delay.mul_f64(rand::random_range(0.5..1.5))).await;
            }
            delay = (delay * 2).min(MAX_DELAY);
        }
    }

    async fn open(&self, url: &Url) -> std::result::Result<Upgraded, TunnelError> {
        let bearer = self.credential.borrow().clone();
        let http = if is_loopback(url) { &self.direct } else { &self.http };
        let request = http
            .get(url.clone())
            .bearer_auth(bearer.expose())
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, generate_key())
            .header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        let unreachable = |error: reqwest::Error| TunnelError::Unreachable(cause(&error.without_url()));
        let mut response = request.send().await.map_err(unreachable)?;
        match response.status() {
            // A server that names the subprotocol accepts tunnels.
            StatusCode::SWITCHING_PROTOCOLS
                if response
                    .headers()
                    .get(header::SEC_WEBSOCKET_PROTOCOL)
                    .is_some_and(|p| p == SUBPROTOCOL) =>
            {
                response.upgrade().await.map_err(unreachable)
            }
            StatusCode::UNAUTHORIZED => Err(TunnelError::Refused),
            status if status.is_client_error() || status.is_server_error() => {
                // The first chunk is enough for a message.
                let text = response.chunk().await.ok().flatten().unwrap_or_default();
                Err(TunnelError::Status(status.as_u16(), reason(&String::from_utf8_lossy(&text))))
            }
            _ => Err(TunnelError::NotAGateway),
        }
    }

    /// Serves requests through a tunnel until it breaks. Returns the reason. Sets `draining` when the gateway is stopping.
    async fn serve(self: Arc<Self>, socket: Upgraded, draining: CancellationToken) -> String {
        let carrier = tunnel::websocket(socket, Role::Client, Vec::new()).await;
        let router = expose_http::router(self.shared.clone());
        let serve_stream = move |stream: tunnel::Stream| {
            let service = TowerToHyperService::new(router.clone());
            async move {
                let mut builder = Builder::new(TokioExecutor::new());
                builder.http1().timer(TokioTimer::new());
                // The other side knows why the stream ended.
                let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
                drop(served.await);
            }
        };
        cause(&accept(carrier, serve_stream, || draining.cancel()).await)
    }

    fn report(&self, text: &str) {
        eprint(format!("[{}] {text}", self.label));
    }
}

/// Extracts the reason from a refusal: the message of a JSON-RPC error, or the body.
fn reason(body: &str) -> String {
    let error: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let text = error["error"]["message"].as_str().unwrap_or(body);
    text.trim().chars().take(200).collect()
}

/// Returns the innermost cause: the outer ones only say that something failed.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
