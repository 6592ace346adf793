//! Connections to siblings: opened when first needed, kept while used. It must not know what is sent on them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint, Uri};
use trunkline::edge::v1::sibling_service_client::SiblingServiceClient;

use super::certificate::Certificate;
use super::pinned;
use crate::snapshot::{Current, Sibling};

/// The time limit of connecting, TLS included.
const CONNECT: Duration = Duration::from_secs(1);
/// The interval of HTTP/2 pings while an answer is awaited, and the time that a sibling has for each.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The time that an unused connection is kept.
const IDLE: Duration = Duration::from_secs(300);
/// The flow-control window of one stream.
const WINDOW: u32 = 1 << 20;

pub(super) type SiblingClient = SiblingServiceClient<Channel>;

/// Connections to the siblings in the snapshot.
#[derive(Debug)]
pub(super) struct SiblingClients {
    current: Arc<Current>,
    own: Arc<Certificate>,
    max_message: usize,
    open: Mutex<HashMap<(Box<str>, Purpose), PooledChannel>>,
}

/// The purpose of a connection: upstreams that do not read must not hold up messages between edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Purpose {
    Messages,
    Tunnels,
}

#[derive(Debug)]
struct PooledChannel {
    sibling: Sibling,
    channel: Channel,
    used: Instant,
}

impl SiblingClients {
    pub(super) fn new(current: Arc<Current>, own: Arc<Certificate>, max_message: usize) -> Self {
        Self { current, own, max_message, open: Mutex::default() }
    }

    /// A client of that edge, if the snapshot has it. To be called on the runtime of the fleet.
    pub(super) fn to(&self, edge: &str) -> Option<SiblingClient> {
        self.channel_for(edge, Purpose::Messages)
    }

    /// A client of that edge for streams to upstreams.
    pub(super) fn tunnels_through(&self, edge: &str) -> Option<SiblingClient> {
        self.channel_for(edge, Purpose::Tunnels)
    }

    fn channel_for(&self, edge: &str, purpose: Purpose) -> Option<SiblingClient> {
        let snapshot = self.current.load();
        let sibling = snapshot.siblings.get(edge)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.get_mut(&(edge.into(), purpose)).filter(|pooled| pooled.sibling == *sibling);
        let channel = match known {
            Some(pooled) => {
                pooled.used = Instant::now();
                pooled.channel.clone()
            }
            None => {
                let channel = connect(&self.own, sibling)?;
                let pooled = PooledChannel {
                    sibling: sibling.clone(),
                    channel: channel.clone(),
                    used: Instant::now(),
                };
                open.insert((edge.into(), purpose), pooled);
                channel
            }
        };
        Some(SiblingServiceClient::new(channel).max_decoding_message_size(self.max_message))
    }

    /// Closes connections that are unused, and those to edges that are gone.
    pub(super) fn sweep(&self) {
        let snapshot = self.current.load();
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(edge, _), pooled| {
            pooled.used.elapsed() < IDLE && snapshot.siblings.get(edge) == Some(&pooled.sibling)
        });
    }
}

fn connect(own: &Certificate, sibling: &Sibling) -> Option<Channel> {
    let tls = pinned::client(own, sibling.certificate)
        .inspect_err(|error| tracing::error!(%error, "cannot set up TLS to other edges"));
    let connector =
        Connector { address: sibling.address.clone(), tls: TlsConnector::from(Arc::new(tls.ok()?)) };
    // The scheme is what tonic does, not what the connector does, which is TLS.
    let uri = Uri::builder().scheme("http").authority(&*sibling.address).path_and_query("/").build().ok()?;
    let endpoint = Endpoint::from(uri)
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW);
    Some(endpoint.connect_with_connector_lazy(connector))
}

/// Connects to one sibling and checks its certificate.
struct Connector {
    address: Box<str>,
    tls: TlsConnector,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (address, tls) = (self.address.clone(), self.tls.clone());
        Box::pin(async move {
            let stream = TcpStream::connect(&*address).await?;
            stream.set_nodelay(true)?;
            // Certificates are checked by fingerprint, whatever name is in them.
            let name = ServerName::try_from("edge").map_err(io::Error::other)?;
            Ok(TokioIo::new(tls.connect(name, stream).await?))
        })
    }
}
