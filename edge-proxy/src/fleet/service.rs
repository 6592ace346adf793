//! The service that siblings call. It must not know how they are reached.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};
use trunkline::edge::v1::sibling_service_server::SiblingService;
use trunkline::edge::v1::{
    ApplyEventsRequest, ApplyEventsResponse, DeliverRequest, DeliverResponse, OpenTunnelStreamRequest,
    OpenTunnelStreamResponse, SyncRequest, SyncResponse,
};

use super::certificate::fingerprint;
use super::local_edge::LocalEdge;
use super::tunnel_stream;
use super::waiters::{Delivery, Undelivered};
use crate::snapshot::{Current, Sha256};

/// Answers that wait for a sibling to read; each may be as large as an event.
const MAX_WAITING: usize = 1;

/// The service that siblings call.
pub(super) struct Service<L> {
    local: Arc<L>,
}

/// Returns whether a certificate is one of this fleet.
pub(super) fn is_sibling(current: &Current, certificate: &Sha256) -> bool {
    current.load().siblings.values().any(|sibling| sibling.certificate == *certificate)
}

impl<L: LocalEdge> Service<L> {
    pub(super) fn new(local: Arc<L>) -> Self {
        Self { local }
    }

    /// Checks the caller again, because its connection may be older than the snapshot that no longer has it.
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let certificates = request.peer_certs();
        let presented = certificates.as_ref().and_then(|certificates| certificates.first());
        let known = presented.is_some_and(|found| is_sibling(self.local.current(), &fingerprint(found)));
        if known {
            Ok(())
        } else {
            Err(Status::unauthenticated("the certificate belongs to no edge of this fleet"))
        }
    }
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<L: LocalEdge> SiblingService for Service<L> {
    type DeliverStream = Streamed<DeliverResponse>;
    type SyncStream = Streamed<SyncResponse>;
    type OpenTunnelStreamStream = Streamed<OpenTunnelStreamResponse>;

    async fn deliver(
        &self,
        request: Request<DeliverRequest>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        self.admit(&request)?;
        let DeliverRequest { number, message, wants_answers } = request.into_inner();
        let (sender, answers) = mpsc::channel::<Bytes>(MAX_WAITING);
        let delivery = Delivery { message: message.into(), answers: wants_answers.then_some(sender) };
        self.local.fleet().waiters().deliver(number, delivery).map_err(|error| match error {
            Undelivered::Gone => Status::not_found(error.to_string()),
            Undelivered::Full => Status::resource_exhausted(error.to_string()),
        })?;
        let following = ReceiverStream::new(answers).map(|chunk| Ok(DeliverResponse { chunk: chunk.into() }));
        Ok(Response::new(Box::pin(following)))
    }

    async fn apply_events(
        &self,
        request: Request<ApplyEventsRequest>,
    ) -> Result<Response<ApplyEventsResponse>, Status> {
        self.admit(&request)?;
        for event in request.into_inner().events {
            self.local.apply(event);
        }
        Ok(Response::new(ApplyEventsResponse {}))
    }

    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<Self::SyncStream>, Status> {
        self.admit(&request)?;
        let parts = self.local.all_events().map(|events| Ok(SyncResponse { events }));
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn open_tunnel_stream(
        &self,
        request: Request<Streaming<OpenTunnelStreamRequest>>,
    ) -> Result<Response<Self::OpenTunnelStreamStream>, Status> {
        self.admit(&request)?;
        let mut sent = request.into_inner();
        let first = sent.message().await?.ok_or_else(|| Status::invalid_argument("names no upstream"))?;
        let tunnelled = self.local.open_tunnel_stream(&first.upstream).await.map_err(|error| {
            if self.local.has_tunnel(&first.upstream) {
                return Status::unavailable(error.to_string());
            }
            Status::not_found("the upstream has no open tunnel here")
        })?;
        Ok(Response::new(Box::pin(tunnel_stream::relay(sent, tunnelled))))
    }
}
