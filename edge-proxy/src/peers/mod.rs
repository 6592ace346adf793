//! The other edges: brings them what only they hold, and tells them what happened to sessions.
//!
//! It must not know what is brought. Everything that goes between edges runs on a thread of its own, so that nothing
//! on the road of a call waits for it but what asks for it. "Peer" within an edge always means another edge of the same
//! fleet.

mod certificate;
mod channels;
mod hear;
mod listener;
mod log;
mod recall;
mod service;
mod teller;

mod pinned;
mod reach;

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use trunkline::edge::v1::peer_service_server::PeerServiceServer;
use trunkline::edge::v1::{DeliverRequest, DeliverResponse, SessionEvent};

pub use certificate::Certificate;
use channels::Channels;
pub use reach::{Reached, Unreached};
use service::Service;
use teller::Tellers;

use crate::config::limits::Limits;
use crate::held::{Delivery, Held, Place, Undelivered};
use crate::observe::{Metrics, PeerDelivery};
use crate::snapshot::Current;
use crate::worker::Shared;

/// How long bringing something to another edge may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Messages about sessions are up to so large, whatever calls may carry.
const SMALLEST: usize = 8 << 20;
/// What a message takes besides what it carries.
const FRAMING: usize = 64 << 10;
/// Calls of one other edge at a time.
const MAX_CALLS: u32 = 1_024;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const SWEEP_EVERY: Duration = Duration::from_secs(10);
const WINDOW: u32 = 1 << 20;

/// The edges of this fleet, this one included.
#[derive(Debug)]
pub struct Peers {
    held: Arc<Held>,
    network: Option<Network>,
}

/// What reaches the others.
#[derive(Debug)]
struct Network {
    current: Arc<Current>,
    own: Arc<Certificate>,
    channels: Arc<Channels>,
    tellers: Tellers,
    metrics: Arc<Metrics>,
    max_message: usize,
    runtime: Handle,
}

impl Peers {
    /// This edge alone.
    pub fn new(held: Arc<Held>) -> Self {
        Self { held, network: None }
    }

    /// This edge among those that `current` names. `runtime` is the one on which `serve` will run.
    pub fn among(
        held: Arc<Held>,
        current: Arc<Current>,
        own: Certificate,
        limits: &Limits,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Self {
        let own = Arc::new(own);
        let largest = limits.max_body_bytes.max(limits.max_event_bytes).max(limits.max_answer_bytes);
        let max_message = largest.max(SMALLEST) + FRAMING;
        let channels = Arc::new(Channels::new(Arc::clone(&current), Arc::clone(&own), max_message));
        let tellers = Tellers::new(Arc::clone(&channels), Arc::clone(&metrics));
        let network = Network { current, own, channels, tellers, metrics, max_message, runtime };
        Self { held, network: Some(network) }
    }

    /// What this edge holds.
    pub fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Brings something to its holder, wherever that is.
    ///
    /// # Errors
    /// When its holder is gone, or does not keep up.
    pub async fn deliver(&self, place: &Place, delivery: Delivery) -> Result<(), Undelivered> {
        if *place.edge == *self.held.edge() {
            return self.held.deliver(place.number, delivery);
        }
        match &self.network {
            Some(network) => network.deliver(place, delivery).await,
            None => Err(Undelivered::Gone),
        }
    }

    /// Opens a connection to an upstream through a tunnel of another edge.
    ///
    /// # Errors
    /// When that edge has none, or cannot be reached.
    pub async fn reach(&self, edge: &str, upstream: &str) -> Result<Reached, Unreached> {
        let Some(network) = &self.network else { return Err(Unreached::Away) };
        let (channels, edge, upstream) =
            (Arc::clone(&network.channels), edge.to_owned(), upstream.to_owned());
        let opening = async move { reach::open(&channels, &edge, &upstream).await };
        // An error means that this edge is stopping.
        network.runtime.spawn(opening).await.unwrap_or(Err(Unreached::Away))
    }

    /// Tells all other edges, and waits until every one that can be reached has it in force. Those that cannot are told
    /// when they can.
    pub async fn tell(&self, event: SessionEvent) {
        if let Some(network) = &self.network {
            network.tellers.tell(event).await;
        }
    }

    /// Does this edge's part for the others, until `listener` fails or the future is dropped.
    ///
    /// # Errors
    /// When the socket or TLS cannot be used.
    pub async fn serve(listener: StdListener, shared: Arc<Shared>) -> io::Result<()> {
        let Some(network) = &shared.peers.network else { return Ok(()) };
        let known = Arc::clone(&network.current);
        let accepts = move |found: &_| service::knows(&known, found);
        let tls = pinned::server(&network.own, Box::new(accepts)).map_err(io::Error::other)?;
        let service = PeerServiceServer::new(Service::new(Arc::clone(&shared)))
            .max_decoding_message_size(network.max_message);
        let (accepted, connections) = mpsc::channel(64);
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .max_concurrent_streams(MAX_CALLS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .add_service(service)
            .serve_with_incoming(ReceiverStream::new(connections));
        let gauge = network.metrics.peer_connections.clone();
        let accepting = listener::accept(listener, TlsAcceptor::from(Arc::new(tls)), gauge, accepted);
        tokio::select! {
            served = server => served.map_err(io::Error::other),
            accepting = accepting => accepting,
            never = network.tellers.follow(&shared) => match never {},
            never = network.sweep() => match never {},
            never = network.join(&shared) => match never {},
        }
    }
}

impl Network {
    async fn deliver(&self, place: &Place, delivery: Delivery) -> Result<(), Undelivered> {
        let (channels, place) = (Arc::clone(&self.channels), place.clone());
        let delivering =
            async move { tokio::time::timeout(PATIENCE, bring(&channels, &place, delivery)).await };
        let outcome = match self.runtime.spawn(delivering).await {
            Ok(Ok(outcome)) => outcome,
            // No answer in time, or this edge is stopping.
            Ok(Err(_)) | Err(_) => PeerDelivery::Unreachable,
        };
        self.metrics.peer_deliveries(outcome).inc();
        match outcome {
            PeerDelivery::Delivered => Ok(()),
            PeerDelivery::Full => Err(Undelivered::Full),
            PeerDelivery::Gone | PeerDelivery::Unreachable => Err(Undelivered::Gone),
        }
    }

    /// Recalls what the others know before this edge takes traffic. By then they are told of it, too: what they learn
    /// meanwhile they tell it.
    async fn join(&self, shared: &Shared) -> Infallible {
        // An error is no reason to take no traffic.
        let _ = self.current.whole().wait_for(|whole| *whole).await;
        let mut published = self.current.subscribe();
        let mine = shared.peers.held().edge();
        let known = published.wait_for(|_| self.current.load().peers.contains_key(mine));
        if tokio::time::timeout(PATIENCE, known).await.is_err() {
            tracing::warn!("the control plane does not announce this edge to other edges");
        }
        recall::from_others(shared, &self.channels).await;
        self.current.set_recalled();
        std::future::pending().await
    }

    async fn sweep(&self) -> Infallible {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.channels.sweep();
        }
    }
}

/// Brings a delivery to the edge that holds its place; what follows on it is brought back by itself.
async fn bring(channels: &Channels, place: &Place, delivery: Delivery) -> PeerDelivery {
    let Some(mut edge) = channels.to(&place.edge) else { return PeerDelivery::Gone };
    let Delivery { message, answers } = delivery;
    let request =
        DeliverRequest { number: place.number, message: message.into(), wants_answers: answers.is_some() };
    let following = match edge.deliver(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return missed(&place.edge, &status),
    };
    if let Some(answers) = answers {
        tokio::spawn(bring_back(following, answers));
    }
    PeerDelivery::Delivered
}

async fn bring_back(mut following: tonic::Streaming<DeliverResponse>, answers: mpsc::Sender<bytes::Bytes>) {
    loop {
        let next = tokio::select! {
            next = following.message() => next,
            // Nobody wants to know any more; dropping the stream says so to the holder.
            () = answers.closed() => return,
        };
        let chunk = match next {
            Ok(Some(DeliverResponse { chunk })) => chunk,
            Ok(None) => return,
            Err(status) => return tracing::debug!(%status, "a response from another edge was interrupted"),
        };
        if answers.send(chunk.into()).await.is_err() {
            return;
        }
    }
}

fn missed(edge: &str, status: &tonic::Status) -> PeerDelivery {
    match status.code() {
        tonic::Code::NotFound => PeerDelivery::Gone,
        tonic::Code::ResourceExhausted => PeerDelivery::Full,
        _ => {
            tracing::warn!(edge, %status, "another edge is unreachable");
            PeerDelivery::Unreachable
        }
    }
}
