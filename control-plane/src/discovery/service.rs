//! `DiscoveryService`: carries events to a session and its actions to the edge.
//!
//! It must not decide what is sent: that is for `delta`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use delta::server::{Action, Event, Session};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use trunkline::discovery::v1::discovery_service_server::DiscoveryService;
use trunkline::discovery::v1::{StreamResourcesRequest, StreamResourcesResponse};
use trunkline::edge::v1::StreamType;

use super::announcement::{EDGE_ID, check, is_edge_id};
use super::authenticate::{edge, ended};
use super::enrollment_watch::{StreamPurpose, WatchedStream, replaced};
use super::fleet::{ConnectionGuard, Fleet};
use crate::auth::credential::EdgeClaims;
use crate::clock;
use crate::error::Error;
use crate::snapshot::DatabaseHealth;
use crate::snapshot::content::Snapshot;

/// Interval of heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Without an answer from the database for so long, nobody here can say that nothing is newer.
const DATABASE_SILENCE: Duration = Duration::from_secs(15);
/// For the first message of a stream.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// Responses that an edge has not read yet: one of each type, and heartbeats. Past it, it is not reading.
const MAX_UNREAD: usize = 32;
/// The longest reason of a refusal that is kept, in bytes.
const MAX_REASON: usize = 1_024;

/// A stream whose edge has said who it is.
struct Accepted {
    connection: ConnectionGuard,
    first: StreamResourcesRequest,
}

/// The gRPC service in front of the sessions.
#[derive(Debug, Clone)]
pub struct Discovery {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    database: DatabaseHealth,
    fleet: Arc<Fleet>,
    drain: CancellationToken,
}

type Outbound = mpsc::Sender<Result<StreamResourcesResponse, Status>>;

impl Discovery {
    /// Streams these snapshots until `drain` is cancelled.
    pub fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        database: DatabaseHealth,
        fleet: Arc<Fleet>,
        drain: CancellationToken,
    ) -> Self {
        Self { snapshots, database, fleet, drain }
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
        let accepted = self.accept(claims, inbound).await?;
        self.run_session(&claims.sub, accepted, inbound, out).await
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

    async fn run_session(
        &self,
        edge: &str,
        Accepted { connection, first }: Accepted,
        inbound: &mut Streaming<StreamResourcesRequest>,
        out: &Outbound,
    ) -> Result<(), Status> {
        let mut snapshots = self.snapshots.clone();
        let mut snapshot = snapshots.borrow_and_update().clone();
        let mut session = Session::new(uuid::Uuid::new_v4().simple().to_string(), snapshot.clone());
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        let mut event = request(first);
        loop {
            for action in session.on(event) {
                match action {
                    Action::Send(response) => send(out, response)?,
                    Action::Progress(progress) => connection.report(&progress, snapshot.revision),
                    Action::Close => return Ok(()),
                    Action::Refuse { max_bytes } => return Err(asks_too_much(max_bytes)),
                }
            }
            event = tokio::select! {
                biased;
                () = self.drain.cancelled() => Event::Drain,
                has_another = connection.evicted() => return Err(evicted(has_another, edge)),
                changed = snapshots.changed() => {
                    if changed.is_err() { Event::Drain } else {
                        snapshot = snapshots.borrow_and_update().clone();
                        Event::Snapshot(snapshot.clone())
                    }
                }
                message = inbound.message() => match message? {
                    Some(message) => request(message),
                    None => return Ok(()),
                },
                () = self.next_heartbeat(&mut heartbeat) => Event::Heartbeat,
            };
        }
    }

    /// Heartbeats stop while it cannot be known that nothing is newer: a revocation may be what is unknown.
    /// Edges then try another replica, and meanwhile go on with what they have, up to the bundle's `max_age`,
    /// which is an hour at the least: a database that is slow for seconds refuses nobody.
    async fn next_heartbeat(&self, heartbeat: &mut tokio::time::Interval) {
        loop {
            heartbeat.tick().await;
            if self.database.within(DATABASE_SILENCE) {
                return;
            }
        }
    }
}

fn send(out: &Outbound, mut response: StreamResourcesResponse) -> Result<(), Status> {
    response.send_time = Some(clock::timestamp(clock::now_us()));
    out.try_send(Ok(response))
        .map_err(|_| Status::resource_exhausted("the edge does not keep up with the stream"))
}

/// Only an edge whose enrolment has ended must throw its credential away.
fn evicted(has_another: bool, edge: &str) -> Status {
    if has_another { replaced().into() } else { ended(edge).into() }
}

fn asks_too_much(max_bytes: usize) -> Status {
    let message = format!(
        "the edge claims to hold, or subscribes to, more than {max_bytes} bytes of names that are not in the registry; \
         if it holds a registry that has changed altogether, delete the copy of the snapshot in its --data-dir"
    );
    Error::new(Code::ResourceExhausted, "TOO_MANY_NAMES", message).into()
}

/// A message of the edge, with its texts cut off where they are too long to be kept.
fn request(mut message: StreamResourcesRequest) -> Event<StreamType> {
    for refusal in &mut message.refusals {
        let end = refusal.reason.floor_char_boundary(MAX_REASON);
        refusal.reason.truncate(end);
    }
    Event::Request(message)
}

fn other_edge(said: &str, enrolled: &str) -> Error {
    let message = format!("the credential belongs to edge `{enrolled}`, but the stream names `{said}`");
    Error::new(Code::PermissionDenied, "EDGE_MISMATCH", message).with("edge", said).with("enrolled", enrolled)
}

#[tonic::async_trait]
impl DiscoveryService for Discovery {
    type StreamResourcesStream = Pin<Box<dyn Stream<Item = Result<StreamResourcesResponse, Status>> + Send>>;

    async fn stream_resources(
        &self,
        request: Request<Streaming<StreamResourcesRequest>>,
    ) -> Result<Response<Self::StreamResourcesStream>, Status> {
        let claims = edge(&request)?;
        // From here on the stream counts: of any number that an edge opens, only the last one goes on.
        let watched = self.fleet.watch(&claims, StreamPurpose::Resources).await?;
        let (out, answers) = mpsc::channel(MAX_UNREAD);
        tokio::spawn(self.clone().serve(claims, watched, request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}
