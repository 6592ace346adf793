//! Connections to other edges: opened when first needed, kept while used. It must not know what is said on them.

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
use trunkline::edge::v1::peer_service_client::PeerServiceClient;

use super::certificate::Certificate;
use super::pinned;
use crate::snapshot::{Current, EdgePeer};

/// How long connecting may take, TLS included.
const CONNECT: Duration = Duration::from_secs(1);
/// How often another edge is asked for a sign of life while something is waited for, and how long for one.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(300);
/// What is on its way in one stream before the reader has read it.
const WINDOW: u32 = 1 << 20;

pub(super) type Client = PeerServiceClient<Channel>;

/// Connections to the edges that the stream knows.
#[derive(Debug)]
pub(super) struct Channels {
    current: Arc<Current>,
    own: Arc<Certificate>,
    max_message: usize,
    open: Mutex<HashMap<(Box<str>, Purpose), Line>>,
}

/// What a connection is for: upstreams that do not read must not hold up what edges have to say to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Purpose {
    Talk,
    Reach,
}

#[derive(Debug)]
struct Line {
    peer: EdgePeer,
    channel: Channel,
    used: Instant,
}

impl Channels {
    pub(super) fn new(current: Arc<Current>, own: Arc<Certificate>, max_message: usize) -> Self {
        Self { current, own, max_message, open: Mutex::default() }
    }

    /// A client of that edge, unless the stream knows of none. To be called on the runtime of the peers.
    pub(super) fn to(&self, edge: &str) -> Option<Client> {
        self.line(edge, Purpose::Talk)
    }

    /// The same, for what goes through that edge to upstreams.
    pub(super) fn through(&self, edge: &str) -> Option<Client> {
        self.line(edge, Purpose::Reach)
    }

    fn line(&self, edge: &str, purpose: Purpose) -> Option<Client> {
        let snapshot = self.current.load();
        let peer = snapshot.peers.get(edge)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.get_mut(&(edge.into(), purpose)).filter(|line| line.peer == *peer);
        let channel = match known {
            Some(line) => {
                line.used = Instant::now();
                line.channel.clone()
            }
            None => {
                let channel = connect(&self.own, peer)?;
                let line = Line { peer: peer.clone(), channel: channel.clone(), used: Instant::now() };
                open.insert((edge.into(), purpose), line);
                channel
            }
        };
        Some(PeerServiceClient::new(channel).max_decoding_message_size(self.max_message))
    }

    /// Lets go of connections that nobody uses, and of those to edges that are gone.
    pub(super) fn sweep(&self) {
        let snapshot = self.current.load();
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(edge, _), line| {
            line.used.elapsed() < IDLE && snapshot.peers.get(edge) == Some(&line.peer)
        });
    }
}

fn connect(own: &Certificate, peer: &EdgePeer) -> Option<Channel> {
    let tls = pinned::client(own, peer.certificate)
        .inspect_err(|error| tracing::error!(%error, "cannot set up TLS to other edges"));
    let connector = Connector { address: peer.address.clone(), tls: TlsConnector::from(Arc::new(tls.ok()?)) };
    // The scheme is what tonic does, not what the connector does, which is TLS.
    let uri = Uri::builder().scheme("http").authority(&*peer.address).path_and_query("/").build().ok()?;
    let endpoint = Endpoint::from(uri)
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW);
    Some(endpoint.connect_with_connector_lazy(connector))
}

/// Connects to one edge and sees that it is that one.
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
            // Certificates are known by their fingerprint, whatever they are made out to.
            let name = ServerName::try_from("edge").map_err(io::Error::other)?;
            Ok(TokioIo::new(tls.connect(name, stream).await?))
        })
    }
}
