//! The fleet that this edge belongs to: messages for what waits at a sibling, and events of sessions for all siblings.
//!
//! It must not know what the messages say. All traffic between edges runs on a thread of its own, so that a call waits
//! for it only where the call itself sends something to a sibling.

mod broadcaster;
mod certificate;
mod event_log;
mod listener;
mod local_edge;
mod pinned;
mod service;
mod sibling_clients;
mod sync;
mod tunnel_stream;
mod waiters;

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use inbound::Connections;
use inbound::http::http2;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use trunkline::edge::v1::sibling_service_server::SiblingServiceServer;
use trunkline::edge::v1::{DeliverRequest, DeliverResponse, SessionEvent};

use broadcaster::Broadcaster;
pub use certificate::Certificate;
pub use local_edge::LocalEdge;
use service::Service;
use sibling_clients::SiblingClients;
pub use tunnel_stream::{SiblingError, SiblingStream};
pub use waiters::{Delivery, Undelivered, Waiter, Waiters};

use crate::config::limits::Limits;
use crate::observe::{DeliveryOutcome, Metrics};
use crate::session::WaiterAddress;
use crate::snapshot::Current;

/// The time limit of a delivery to a sibling.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The size that messages may have at least, because events of sessions do not depend on the limits of calls.
const MIN_MESSAGE: usize = 8 << 20;
/// The bytes of a message besides its payload.
const FRAMING: usize = 64 << 10;
/// Calls of one sibling at a time.
const MAX_CALLS: u32 = 1_024;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const SWEEP_EVERY: Duration = Duration::from_secs(10);
const WINDOW: u32 = 1 << 20;

/// The edges of this fleet, this one included.
#[derive(Debug)]
pub struct Fleet {
    waiters: Arc<Waiters>,
    network: Option<Network>,
}

/// The connections to the siblings.
#[derive(Debug)]
struct Network {
    current: Arc<Current>,
    own: Arc<Certificate>,
    sibling_clients: Arc<SiblingClients>,
    broadcaster: Broadcaster,
    metrics: Arc<Metrics>,
    connections: Connections,
    max_message: usize,
    runtime: Handle,
}

impl Fleet {
    /// A fleet of this edge alone.
    pub fn alone(waiters: Arc<Waiters>) -> Self {
        Self { waiters, network: None }
    }

    /// A fleet with the siblings that `current` names. `runtime` is the one that `serve` will run on.
    pub fn with_siblings(
        waiters: Arc<Waiters>,
        current: Arc<Current>,
        own: Certificate,
        limits: &Limits,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Self {
        let own = Arc::new(own);
        let largest = limits.max_body_bytes.max(limits.max_event_bytes).max(limits.max_answer_bytes);
        let max_message = largest.max(MIN_MESSAGE) + FRAMING;
        let sibling_clients =
            Arc::new(SiblingClients::new(Arc::clone(&current), Arc::clone(&own), max_message));
        let broadcaster = Broadcaster::new(Arc::clone(&sibling_clients), Arc::clone(&metrics));
        let connections = listener::connections();
        let network = Network {
            current,
            own,
            sibling_clients,
            broadcaster,
            metrics,
            connections,
            max_message,
            runtime,
        };
        Self { waiters, network: Some(network) }
    }

    /// The connections of siblings to this edge, if it has any.
    pub fn connections(&self) -> Option<&Connections> {
        self.network.as_ref().map(|network| &network.connections)
    }

    /// The waiters of this edge.
    pub fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    /// Delivers a message to a waiter at whichever edge.
    ///
    /// # Errors
    /// If it no longer waits, or does not keep up.
    pub async fn deliver(&self, address: &WaiterAddress, delivery: Delivery) -> Result<(), Undelivered> {
        if *address.edge == *self.waiters.edge() {
            return self.waiters.deliver(address.number, delivery);
        }
        match &self.network {
            Some(network) => network.deliver(address, delivery).await,
            None => Err(Undelivered::Gone),
        }
    }

    /// Opens a connection to an upstream through a tunnel of a sibling.
    ///
    /// # Errors
    /// If the sibling has none, or cannot be reached.
    pub async fn open_tunnel_stream(
        &self,
        edge: &str,
        upstream: &str,
    ) -> Result<SiblingStream, SiblingError> {
        let Some(network) = &self.network else { return Err(SiblingError::Unreachable) };
        let (sibling_clients, edge, upstream) =
            (Arc::clone(&network.sibling_clients), edge.to_owned(), upstream.to_owned());
        let opening = async move { tunnel_stream::open(&sibling_clients, &edge, &upstream).await };
        // An error means that this edge is stopping.
        network.runtime.spawn(opening).await.unwrap_or(Err(SiblingError::Unreachable))
    }

    /// Sends an event to all siblings, and waits until every one that can be reached has applied it. The others get it
    /// when they can be reached.
    pub async fn broadcast(&self, event: SessionEvent) {
        if let Some(network) = &self.network {
            network.broadcaster.broadcast(event).await;
        }
    }

    /// Serves the siblings until `listener` fails or `stop`: then no further connection is accepted, and what siblings have
    /// begun is served to its end.
    ///
    /// # Errors
    /// If the socket or TLS cannot be used.
    pub async fn serve(
        listener: StdListener,
        local: Arc<impl LocalEdge>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let Some(network) = &local.fleet().network else { return Ok(()) };
        let known = Arc::clone(&network.current);
        let accepts = move |found: &_| service::is_sibling(&known, found);
        let tls = pinned::server(&network.own, Box::new(accepts)).map_err(io::Error::other)?;
        let service = SiblingServiceServer::new(Service::new(Arc::clone(&local)))
            .max_decoding_message_size(network.max_message);
        let (accepted, connections) = mpsc::channel(64);
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .max_concurrent_streams(MAX_CALLS)
            .http2_max_header_list_size(http2::MAX_HEADER_LIST)
            .http2_max_pending_accept_reset_streams(Some(http2::MAX_PENDING_RESETS))
            .http2_max_local_error_reset_streams(Some(http2::MAX_ERROR_RESETS))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .add_service(service)
            .serve_with_incoming_shutdown(ReceiverStream::new(connections), stop.clone().cancelled_owned());
        let gauge = network.metrics.sibling_connections.clone();
        let tls = TlsAcceptor::from(Arc::new(tls));
        let accepting = listener::accept(listener, tls, network.connections.clone(), gauge, accepted);
        let accepting = async {
            match stop.run_until_cancelled(accepting).await {
                Some(Err(error)) => Err(error),
                // The server takes no more of them, and ends by itself.
                Some(Ok(())) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            served = server => served.map_err(io::Error::other),
            accepting = accepting => accepting,
            never = network.broadcaster.run(&local) => match never {},
            never = network.sweep() => match never {},
            never = network.join(&*local) => match never {},
        }
    }
}

impl Network {
    async fn deliver(&self, address: &WaiterAddress, delivery: Delivery) -> Result<(), Undelivered> {
        let (sibling_clients, address) = (Arc::clone(&self.sibling_clients), address.clone());
        let delivering = async move {
            tokio::time::timeout(TIMEOUT, deliver_to(&sibling_clients, &address, delivery)).await
        };
        let outcome = match self.runtime.spawn(delivering).await {
            Ok(Ok(outcome)) => outcome,
            // No answer in time, or this edge is stopping.
            Ok(Err(_)) | Err(_) => DeliveryOutcome::Unreachable,
        };
        self.metrics.sibling_deliveries(outcome).inc();
        match outcome {
            DeliveryOutcome::Delivered => Ok(()),
            DeliveryOutcome::Full => Err(Undelivered::Full),
            DeliveryOutcome::Gone | DeliveryOutcome::Unreachable => Err(Undelivered::Gone),
        }
    }

    /// Syncs from siblings before this edge takes traffic. By then they have a feed to it, for what happens meanwhile.
    async fn join(&self, local: &impl LocalEdge) -> Infallible {
        // An error is no reason to take no traffic.
        let _ = self.current.complete().wait_for(|whole| *whole).await;
        let mut published = self.current.subscribe();
        let own_id = local.fleet().waiters().edge();
        let known = published.wait_for(|_| self.current.load().siblings.contains_key(own_id));
        if tokio::time::timeout(TIMEOUT, known).await.is_err() {
            tracing::warn!("the control plane does not announce this edge to other edges");
        }
        sync::from_siblings(local, &self.sibling_clients).await;
        self.current.set_synced();
        std::future::pending().await
    }

    async fn sweep(&self) -> Infallible {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.sibling_clients.sweep();
        }
    }
}

/// Sends a delivery to the edge of its address, and relays what follows on it in the background.
async fn deliver_to(
    sibling_clients: &SiblingClients,
    address: &WaiterAddress,
    delivery: Delivery,
) -> DeliveryOutcome {
    let Some(mut sibling) = sibling_clients.to(&address.edge) else { return DeliveryOutcome::Gone };
    let Delivery { message, answers } = delivery;
    let request =
        DeliverRequest { number: address.number, message: message.into(), wants_answers: answers.is_some() };
    let following = match sibling.deliver(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return outcome_of(&address.edge, &status),
    };
    if let Some(answers) = answers {
        tokio::spawn(relay_answers(following, answers));
    }
    DeliveryOutcome::Delivered
}

async fn relay_answers(
    mut following: tonic::Streaming<DeliverResponse>,
    answers: mpsc::Sender<bytes::Bytes>,
) {
    loop {
        let next = tokio::select! {
            next = following.message() => next,
            // The sender no longer listens; dropping the stream tells the waiter.
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

fn outcome_of(edge: &str, status: &tonic::Status) -> DeliveryOutcome {
    match status.code() {
        tonic::Code::NotFound => DeliveryOutcome::Gone,
        tonic::Code::ResourceExhausted => DeliveryOutcome::Full,
        _ => {
            tracing::warn!(edge, %status, "another edge is unreachable");
            DeliveryOutcome::Unreachable
        }
    }
}
