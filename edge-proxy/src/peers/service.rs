//! `PeerService`: what this edge does for the others. It must not know how they are reached.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};
use trunkline::edge::v1::peer_service_server::PeerService;
use trunkline::edge::v1::{
    DeliverRequest, DeliverResponse, ReachRequest, ReachResponse, RecallRequest, RecallResponse, TellRequest,
    TellResponse,
};

use super::certificate::fingerprint;
use super::{hear, reach, recall};
use crate::held::{Delivery, Undelivered};
use crate::snapshot::{Current, Sha256};
use crate::worker::Shared;

/// What may wait to be sent back to an edge that does not read.
const MAX_WAITING: usize = 64;

/// What this edge does for the others.
pub(super) struct Service {
    shared: Arc<Shared>,
}

/// Whether an edge with this certificate is of this fleet.
pub(super) fn knows(current: &Current, certificate: &Sha256) -> bool {
    current.load().peers.values().any(|peer| peer.certificate == *certificate)
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// A connection may be older than the stream's word that its edge is gone.
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let certificates = request.peer_certs();
        let presented = certificates.as_ref().and_then(|certificates| certificates.first());
        let known = presented.is_some_and(|found| knows(&self.shared.current, &fingerprint(found)));
        if known { Ok(()) } else { Err(Status::unauthenticated("no edge of this fleet")) }
    }
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl PeerService for Service {
    type DeliverStream = Streamed<DeliverResponse>;
    type RecallStream = Streamed<RecallResponse>;
    type ReachStream = Streamed<ReachResponse>;

    async fn deliver(
        &self,
        request: Request<DeliverRequest>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        self.admit(&request)?;
        let DeliverRequest { number, message, wants_answers } = request.into_inner();
        let (sender, answers) = mpsc::channel::<Bytes>(MAX_WAITING);
        let delivery = Delivery { message: message.into(), answers: wants_answers.then_some(sender) };
        self.shared.peers.held().deliver(number, delivery).map_err(|error| match error {
            Undelivered::Gone => Status::not_found(error.to_string()),
            Undelivered::Full => Status::resource_exhausted(error.to_string()),
        })?;
        let following = ReceiverStream::new(answers).map(|chunk| Ok(DeliverResponse { chunk: chunk.into() }));
        Ok(Response::new(Box::pin(following)))
    }

    async fn tell(&self, request: Request<TellRequest>) -> Result<Response<TellResponse>, Status> {
        self.admit(&request)?;
        for event in request.into_inner().events {
            hear::hear(&self.shared, event);
        }
        Ok(Response::new(TellResponse {}))
    }

    async fn recall(&self, request: Request<RecallRequest>) -> Result<Response<Self::RecallStream>, Status> {
        self.admit(&request)?;
        let parts = recall::everything(&self.shared).map(|events| Ok(RecallResponse { events }));
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn reach(
        &self,
        request: Request<Streaming<ReachRequest>>,
    ) -> Result<Response<Self::ReachStream>, Status> {
        self.admit(&request)?;
        let mut sent = request.into_inner();
        let first = sent.message().await?.ok_or_else(|| Status::invalid_argument("names no upstream"))?;
        let tunnels = &self.shared.tunnels;
        let tunnelled = tunnels.open_here(&first.upstream).await.map_err(|error| {
            if tunnels.is_here(&first.upstream) {
                return Status::unavailable(error.to_string());
            }
            Status::not_found("the upstream has no open tunnel here")
        })?;
        Ok(Response::new(Box::pin(reach::relay(sent, tunnelled))))
    }
}
