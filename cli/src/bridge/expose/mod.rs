//! A stdio MCP server behind Streamable HTTP, HTTP+SSE and WebSocket.
//!
//! [`multiplexer`] maps ids between many clients and one child (pure); [`handshake`] initializes the child;
//! [`supervised_child`] keeps it running; [`instances`] holds one for all clients, or one for each set of header values;
//! [`sessions`] holds the legacy sessions; [`share`] leaves some of all of them to others; [`http`] and [`sse_websocket`] speak the transports, to clients that connect and,
//! through the tunnels of [`tunnel_client`], to gateways that cannot connect.

pub mod child_output;
pub mod handshake;
pub mod http;
pub mod instances;
pub mod modern_child;
pub mod multiplexer;
pub mod response;
pub mod sessions;
pub mod share;
pub mod sse_websocket;
pub mod supervised_child;
pub mod tunnel_client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use inbound::names::AllowedNames;
use inbound::{BodyBudget, ConnectionLimits, Connections};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::bridge::child::Program;
use crate::error::{Error, Result};
use instances::{EnvFromHeader, Instances};
use sse_websocket::Inboxes;

/// Maximum number of connections. Nobody presents a credential here: a connection counts as known once a request on it
/// was served, and at most three quarters of them are not.
const MAX_CONNECTIONS: usize = 4_096;
/// Maximum number of those of one address that are not.
const MAX_IDLE_PER_ADDRESS: usize = 1_024;
/// Time allowed from connecting to a request that is served.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Memory for request bodies, in bytes.
const BODY_MEMORY: usize = 128 << 20;
/// Time for which open streams are waited for at the end: the command that would write to them has ended.
const GRACE: Duration = Duration::from_secs(1);

/// The eras to expose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Eras {
    /// Those that the command speaks, found out by probing a second copy of it once.
    Auto,
    /// Only 2025-11-25 and earlier.
    Legacy,
    /// Only 2026-07-28 and later.
    Modern,
}

/// The settings of `expose`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address to listen on, if any.
    pub listen: Option<SocketAddr>,
    /// Host names that clients may use besides localhost and the listening address.
    pub hosts: Vec<String>,
    /// Origins of pages that may call it besides those of these hosts.
    pub origins: Vec<String>,
    /// True to restart the command when it ends.
    pub restart: bool,
    /// Time allowed for the command's handshake.
    pub start_timeout: Duration,
    /// The eras to expose.
    pub eras: Eras,
    /// Environment variables of the child that come from request headers.
    pub env_from_headers: Vec<EnvFromHeader>,
}

/// The state shared by the HTTP handlers.
#[derive(Debug)]
pub struct Shared {
    pub(crate) instances: Arc<Instances>,
    pub(crate) inboxes: Inboxes,
    /// The names that it answers to, if it listens.
    pub(crate) names: Option<AllowedNames>,
    /// The memory for request bodies.
    pub(crate) bodies: Arc<BodyBudget>,
}

/// An exposed command.
#[derive(Debug)]
pub struct Running {
    /// The address that it listens on.
    pub address: Option<SocketAddr>,
    /// The state shared by the HTTP handlers.
    pub shared: Arc<Shared>,
    stop: CancellationToken,
    server: Option<tokio::task::JoinHandle<bool>>,
}

/// Starts the command and exposes it.
pub async fn start(program: Program, settings: Settings) -> Result<Running> {
    let listener = match settings.listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let stop = CancellationToken::new();
    let names =
        address.map(|address| AllowedNames::new(address, &settings.hosts, &settings.origins).only_named());
    let instances = Arc::new(Instances::new(program, settings, stop.clone()));
    // Starts the shared instance, if there is one.
    let _started = instances.single();
    tokio::spawn(instances.clone().stop_idle());
    let bodies = Arc::new(BodyBudget::new(BODY_MEMORY));
    let shared = Arc::new(Shared { instances, inboxes: Inboxes::default(), names, bodies });
    let server = listener.map(|listener| {
        let (router, stop) = (http::router(shared.clone()), stop.clone());
        let handshake = |stream| std::future::ready(Ok(stream));
        tokio::spawn(inbound::http::serve(listener, connections(), handshake, router, stop, GRACE))
    });
    Ok(Running { address, shared, stop, server })
}

/// Creates the table of connections, of which there are none yet.
fn connections() -> Connections {
    let max_connections = inbound::within_file_limit(MAX_CONNECTIONS);
    let limits = ConnectionLimits::authenticated(max_connections, MAX_IDLE_PER_ADDRESS, Vec::new());
    Connections::new(limits, Some(FIRST_REQUEST_TIMEOUT))
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| Error::failure(format!("cannot listen on {address}: {error}")))
}

/// The URL of a command that is exposed at an address.
pub fn url_at(address: SocketAddr) -> String {
    format!("http://{address}/mcp")
}

impl Running {
    /// Returns the URL to register, if it listens.
    pub fn url(&self) -> Option<String> {
        self.address.map(url_at)
    }

    /// Waits for the command's handshake. Returns the description of the server.
    pub async fn ready(&self) -> Result<String> {
        let Some(instance) = self.shared.instances.single() else {
            return Ok("starts with its first client".to_owned());
        };
        let child = match (&instance.legacy, &instance.modern) {
            (Some(legacy), _) => legacy.clone(),
            (None, Some(modern)) => modern
                .child()
                .await
                .ok_or_else(|| Error::failure("the command does not speak 2026-07-28 or later"))?,
            (None, None) => return Err(Error::usage("no era is exposed")),
        };
        match child.ready().await {
            Ok(info) => Ok(info.describe()),
            Err(supervised_child::NotReady::Refused(_)) if instance.modern.is_some() => {
                Ok("speaks only 2026-07-28 or later".into())
            }
            Err(error) => Err(Error::failure(error.to_string())),
        }
    }

    /// Waits until the command has ended for good.
    pub async fn ended(&self) {
        let Some(instance) = self.shared.instances.single() else { return std::future::pending().await };
        match (&instance.legacy, &instance.modern) {
            (Some(legacy), _) => legacy.ended().await,
            (None, Some(modern)) => modern.ended().await,
            (None, None) => {}
        }
    }

    /// Stops serving, ends the command and waits for both.
    pub async fn stop(self) {
        self.stop.cancel();
        for instance in self.shared.instances.all() {
            instance.ended().await;
        }
        if let Some(server) = self.server {
            let _ = server.await;
        }
    }
}
