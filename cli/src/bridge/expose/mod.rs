//! A stdio MCP server, offered over Streamable HTTP.
//!
//! [`relay`] maps ids between many clients and one child (pure); [`greeting`] asks
//! the child who it is; [`backend`] keeps it alive; [`sessions`]
//! knows who is there; [`http`] speaks the transport.

pub mod backend;
pub mod greeting;
pub mod http;
pub mod modern;
pub mod relay;
pub mod reply;
pub mod sessions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mcp::revision::Era;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::bridge::child::Program;
use crate::error::{Error, Result};
use backend::Backend;
use sessions::Sessions;

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

/// How to offer it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Host names, besides those of the listening address, under which clients may come.
    pub hosts: Vec<String>,
    /// Whether the command is started again when it ends.
    pub restart: bool,
    /// How long the command may take until it answers for the first time.
    pub start_timeout: Duration,
    /// Which eras are offered.
    pub eras: Eras,
}

/// What the HTTP side works with.
#[derive(Debug)]
pub struct Shared {
    pub(crate) legacy: Option<Arc<Backend>>,
    pub(crate) modern: Option<modern::Probed>,
    pub(crate) sessions: Sessions,
    pub(crate) hosts: Vec<String>,
}

/// A command that is being offered.
#[derive(Debug)]
pub struct Running {
    /// Where it is offered.
    pub address: SocketAddr,
    /// What the HTTP side works with.
    pub shared: Arc<Shared>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// Starts the command and offers it.
pub async fn start(program: Program, settings: Settings) -> Result<Running> {
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| Error::failure(format!("cannot listen on {}: {error}", settings.listen)))?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let legacy = (settings.eras != Eras::Modern)
        .then(|| Backend::start(program.clone(), Era::Legacy, &settings, stop.clone()));
    let modern =
        (settings.eras != Eras::Legacy).then(|| modern::Probed::new(program, settings.clone(), stop.clone()));
    let mut hosts = settings.hosts;
    hosts.push(address.ip().to_string());
    let shared = Arc::new(Shared { legacy, modern, sessions: Sessions::default(), hosts });
    tokio::spawn(find_out_eras(shared.clone()));
    let server = axum::serve(listener, http::router(shared.clone()));
    let server = tokio::spawn(server.with_graceful_shutdown(stop.clone().cancelled_owned()).into_future());
    Ok(Running { address, shared, stop, server })
}

/// Asks for the modern era ahead of the first client that does, but not before the command has started once.
async fn find_out_eras(shared: Arc<Shared>) {
    if let (Some(legacy), Some(modern)) = (&shared.legacy, &shared.modern) {
        let _ = legacy.ready().await;
        modern.is_modern().await;
    }
}

impl Running {
    /// The URL to register.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Waits until the command has answered; says who it is.
    pub async fn ready(&self) -> Result<String> {
        let backend = match (&self.shared.legacy, &self.shared.modern) {
            (Some(legacy), _) => legacy.clone(),
            (None, Some(modern)) => {
                modern.backend().await.ok_or_else(|| Error::failure("it is no modern server"))?
            }
            (None, None) => return Err(Error::usage("no era is offered")),
        };
        match backend.ready().await {
            Ok(facts) => Ok(facts.describe()),
            Err(backend::Unready::Refused(_)) if self.shared.modern.is_some() => Ok("modern only".into()),
            Err(error) => Err(Error::failure(error.to_string())),
        }
    }

    /// Waits until the command is gone for good.
    pub async fn ended(&self) {
        match (&self.shared.legacy, &self.shared.modern) {
            (Some(legacy), _) => legacy.ended().await,
            (None, Some(modern)) => modern.ended().await,
            (None, None) => {}
        }
    }

    /// Stops serving, ends the command, and waits for both.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Some(legacy) = &self.shared.legacy {
            legacy.ended().await;
        }
        if let Some(modern) = &self.shared.modern {
            modern.ended().await;
        }
        // Streams may be open for long; the command is gone, and so is what they wait for.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.server).await;
    }
}
