//! `DiscoveryService`: accepts the streams of edges that say who they are.
//!
//! It must not know what happens on a stream: that is for `edge_stream`.

use std::sync::Arc;
use std::time::Duration;

use delta::server::OutgoingResponse;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use trunkline::discovery::v1::StreamResourcesRequest;

use super::announcement::{EDGE_ID, check, is_edge_id};
use super::authenticate::edge;
use super::edge_stream::EdgeStream;
use super::enrollment_watch::{StreamPurpose, WatchedStream};
use super::fleet::{ConnectionGuard, Fleet};
use super::stream_admission::StreamAdmission;
use crate::auth::credential::EdgeClaims;
use crate::error::Error;
use crate::snapshot::DatabaseHealth;
use crate::snapshot::content::Snapshot;

/// For the first message of a stream.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// Responses that an edge has not read yet: one of each type, and heartbeats. Past it, it is not reading.
const MAX_UNREAD: usize = 32;

/// A stream whose edge has said who it is.
struct Accepted {
    connection: ConnectionGuard,
    first: StreamResourcesRequest,
}

/// The gRPC service in front of the sessions.
#[derive(Debug, Clone)]
pub struct Discovery {
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) database: DatabaseHealth,
    fleet: Arc<Fleet>,
    pub(super) admission: Arc<StreamAdmission>,
    pub(super) drain: CancellationToken,
}

pub(super) type Outbound = mpsc::Sender<Result<OutgoingResponse, Status>>;
/// The responses of a stream.
pub(super) type OutgoingResponses = ReceiverStream<Result<OutgoingResponse, Status>>;

impl Discovery {
    /// Streams these snapshots until `drain` is cancelled.
    pub fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        database: DatabaseHealth,
        fleet: Arc<Fleet>,
        admission: Arc<StreamAdmission>,
        drain: CancellationToken,
    ) -> Self {
        Self { snapshots, database, fleet, admission, drain }
    }

    /// Opens the stream of an edge.
    pub(super) async fn stream_resources(
        &self,
        request: Request<Streaming<StreamResourcesRequest>>,
    ) -> Result<Response<OutgoingResponses>, Status> {
        let claims = edge(&request)?;
        // From here on the stream counts: of any number that an edge opens, only the last one goes on.
        let watched = self.fleet.watch(&claims, StreamPurpose::Resources).await?;
        let (out, answers) = mpsc::channel(MAX_UNREAD);
        tokio::spawn(self.clone().serve(claims, watched, request.into_inner(), out));
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn serve(
        self,
        claims: EdgeClaims,
        watched: WatchedStream,
        mut inbound: Streaming<StreamResourcesRequest>,
        out: Outbound,
    ) {
        let end = tokio::select! {
            biased;
            error = watched.over() => Err(error.into()),
            end = self.run(&claims, &mut inbound, &out) => end,
        };
        if let Err(status) = end {
            tracing::info!(edge = claims.sub, code = ?status.code(), reason = status.message(), "stream ended");
            let _ = out.try_send(Err(status));
        }
    }

    async fn run(
        &self,
        claims: &EdgeClaims,
        inbound: &mut Streaming<StreamResourcesRequest>,
        out: &Outbound,
    ) -> Result<(), Status> {
        let Accepted { connection, first } = self.accept(claims, inbound).await?;
        EdgeStream::new(self, &claims.sub, connection, out).run(first, inbound).await
    }

    async fn accept(
        &self,
        claims: &EdgeClaims,
        inbound: &mut Streaming<StreamResourcesRequest>,
    ) -> Result<Accepted, Status> {
        let first = timeout(FIRST_MESSAGE, inbound.message()).await;
        let first =
            first.map_err(|_| Status::deadline_exceeded("the first message did not arrive in time"))??;
        let mut first = first.ok_or_else(|| Status::cancelled("the stream ended before it began"))?;
        let edge = first.edge.take().unwrap_or_default();
        if !is_edge_id(&edge.id) {
            return Err(Error::field("edge.id", EDGE_ID).into());
        }
        if edge.id != claims.sub {
            return Err(other_edge(&edge.id, &claims.sub).into());
        }
        check(&edge)?;
        tracing::info!(edge = edge.id, version = edge.version, "edge connected");
        Ok(Accepted { connection: self.fleet.join(&edge, &claims.enrollment), first })
    }
}

fn other_edge(said: &str, enrolled: &str) -> Error {
    let message = format!("the credential belongs to edge `{enrolled}`, but the stream names `{said}`");
    Error::new(Code::PermissionDenied, "EDGE_MISMATCH", message).with("edge", said).with("enrolled", enrolled)
}
