//! A stdio MCP server, offered over Streamable HTTP, HTTP+SSE and WebSocket.
//!
//! [`relay`] maps ids between many clients and one child (pure); [`greeting`] asks
//! the child who it is; [`child`] keeps it alive; [`instance`] has one for all clients or one for each kind;
//! [`sessions`] knows who is there; [`http`] and [`line`] speak the transports,
//! to those who connect and, through the tunnels of [`dial`], to those who cannot.

pub mod handshake;
pub mod http;
pub mod instances;
pub mod modern_child;
pub mod multiplexer;
pub mod response;
pub mod sessions;
pub mod sse_websocket;
pub mod supervised_child;
pub mod tunnel_client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::bridge::child::Program;
use crate::error::{Error, Result};
use instances::{EnvFromHeader, Instances};
use sse_websocket::Inboxes;

/// Which eras are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Eras {
    /// Those that the command speaks: a second copy of it is asked once, and ended.
    Auto,
    /// Up to 2025-11-25 only.
    Legacy,
    /// 2026-07-28 and later only.
    Modern,
}

/// How to instance it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen, if anywhere.
    pub listen: Option<SocketAddr>,
    /// Host names, besides those of the listening address, under which clients may come.
    pub hosts: Vec<String>,
    /// Whether the command is started again when it ends.
    pub restart: bool,
    /// How long the command may take until it answers for the first time.
    pub start_timeout: Duration,
    /// Which eras are offered.
    pub eras: Eras,
    /// Variables of the child's environment that come from headers of requests.
    pub env_from_headers: Vec<EnvFromHeader>,
}

/// What the HTTP side works with.
#[derive(Debug)]
pub struct Shared {
    pub(crate) instances: Arc<Instances>,
    pub(crate) inboxes: Inboxes,
    pub(crate) hosts: Vec<String>,
}

/// A command that is being offered.
#[derive(Debug)]
pub struct Running {
    /// Where it is offered to those who connect.
    pub address: Option<SocketAddr>,
    /// What the HTTP side works with.
    pub shared: Arc<Shared>,
    stop: CancellationToken,
    server: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
}

/// Starts the command and instances it.
pub async fn start(program: Program, settings: Settings) -> Result<Running> {
    let listener = match settings.listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let stop = CancellationToken::new();
    let mut hosts = settings.hosts.clone();
    hosts.extend(address.map(|address| address.ip().to_string()));
    let instances = Arc::new(Instances::new(program, settings, stop.clone()));
    // Begins to start it, where it is one for all.
    let _started = instances.single();
    tokio::spawn(instances.clone().stop_idle());
    let shared = Arc::new(Shared { instances, inboxes: Inboxes::default(), hosts });
    let server = listener.map(|listener| {
        let server = axum::serve(listener, http::router(shared.clone()));
        tokio::spawn(server.with_graceful_shutdown(stop.clone().cancelled_owned()).into_future())
    });
    Ok(Running { address, shared, stop, server })
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| Error::failure(format!("cannot listen on {address}: {error}")))
}

impl Running {
    /// The URL to register, where it listens.
    pub fn url(&self) -> Option<String> {
        self.address.map(|address| format!("http://{address}/mcp"))
    }

    /// Waits until the command has answered; says who it is.
    pub async fn ready(&self) -> Result<String> {
        let Some(instance) = self.shared.instances.single() else {
            return Ok("started when a client comes".to_owned());
        };
        let child = match (&instance.legacy, &instance.modern) {
            (Some(legacy), _) => legacy.clone(),
            (None, Some(modern)) => {
                modern.child().await.ok_or_else(|| Error::failure("it is no modern server"))?
            }
            (None, None) => return Err(Error::usage("no era is offered")),
        };
        match child.ready().await {
            Ok(info) => Ok(info.describe()),
            Err(supervised_child::NotReady::Refused(_)) if instance.modern.is_some() => {
                Ok("modern only".into())
            }
            Err(error) => Err(Error::failure(error.to_string())),
        }
    }

    /// Waits until the command is gone for good.
    pub async fn ended(&self) {
        let Some(instance) = self.shared.instances.single() else { return std::future::pending().await };
        match (&instance.legacy, &instance.modern) {
            (Some(legacy), _) => legacy.ended().await,
            (None, Some(modern)) => modern.ended().await,
            (None, None) => {}
        }
    }

    /// Stops serving, ends the command, and waits for both.
    pub async fn stop(self) {
        self.stop.cancel();
        for instance in self.shared.instances.all() {
            instance.ended().await;
        }
        // Streams may be open for long; the command is gone, and so is what they wait for.
        if let Some(server) = self.server {
            let _ = tokio::time::timeout(Duration::from_secs(1), server).await;
        }
    }
}
