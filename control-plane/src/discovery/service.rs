//! `DiscoveryService`: carries events to a session and its actions to the edge.
//!
//! It must not decide what is sent: that is for `session`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use trunkline::discovery::v1::discovery_service_server::DiscoveryService;
use trunkline::discovery::v1::{StreamResourcesRequest, StreamResourcesResponse};

use super::caller::edge;
use super::fleet::{Fleet, Seat};
use super::session::{Action, Event, Session};
use crate::auth::credential::EdgeClaims;
use crate::clock;
use crate::error::Error;
use crate::snapshot::Freshness;
use crate::snapshot::world::World;

/// Between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Without an answer from the database for so long, nobody here can say that nothing is newer.
const UNSURE: Duration = Duration::from_secs(15);
/// For the first message of a stream.
const GREETING: Duration = Duration::from_secs(10);
/// Responses that an edge has not read yet: one of each type, and heartbeats. Past it, it is not reading.
const UNREAD: usize = 32;

/// The rim of the stream.
#[derive(Debug, Clone)]
pub struct Discovery {
    worlds: watch::Receiver<Arc<World>>,
    fresh: Freshness,
    fleet: Arc<Fleet>,
    drain: CancellationToken,
}

type Outbound = mpsc::Sender<Result<StreamResourcesResponse, Status>>;

impl Discovery {
    /// Streams these worlds until `drain` is cancelled.
    pub fn new(
        worlds: watch::Receiver<Arc<World>>,
        fresh: Freshness,
        fleet: Arc<Fleet>,
        drain: CancellationToken,
    ) -> Self {
        Self { worlds, fresh, fleet, drain }
    }

    async fn serve(self, claims: EdgeClaims, mut inbound: Streaming<StreamResourcesRequest>, out: Outbound) {
        let end = match self.greet(&claims, &mut inbound).await {
            Ok((seat, first)) => self.converse(&seat, first, &mut inbound, &out).await,
            Err(status) => Err(status),
        };
        if let Err(status) = end {
            tracing::info!(edge = claims.sub, code = ?status.code(), reason = status.message(), "stream ended");
            let _ = out.try_send(Err(status));
        }
    }

    async fn greet(
        &self,
        claims: &EdgeClaims,
        inbound: &mut Streaming<StreamResourcesRequest>,
    ) -> Result<(Seat, StreamResourcesRequest), Status> {
        let first = timeout(GREETING, inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no first message in time"))??;
        let mut first = first.ok_or_else(|| Status::cancelled("the stream ended before it began"))?;
        let edge = first.edge.take().unwrap_or_default();
        if edge.id != claims.sub {
            return Err(other_edge(&edge.id, &claims.sub).into());
        }
        tracing::info!(edge = edge.id, version = edge.version, "edge connected");
        Ok((self.fleet.join(&edge, claims.enrolled), first))
    }

    async fn converse(
        &self,
        seat: &Seat,
        first: StreamResourcesRequest,
        inbound: &mut Streaming<StreamResourcesRequest>,
        out: &Outbound,
    ) -> Result<(), Status> {
        let mut worlds = self.worlds.clone();
        let mut world = worlds.borrow_and_update().clone();
        let mut session = Session::new(uuid::Uuid::new_v4().simple().to_string(), world.clone());
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        let mut event = Event::Request(first);
        loop {
            for action in session.on(event) {
                match action {
                    Action::Send(response) => send(out, response)?,
                    Action::Progress(progress) => seat.report(&progress, world.revision),
                    Action::Close => return Ok(()),
                }
            }
            event = tokio::select! {
                biased;
                () = self.drain.cancelled() => Event::Drain,
                replaced = seat.evicted() => return Err(evicted(replaced)),
                changed = worlds.changed() => {
                    if changed.is_err() { Event::Drain } else {
                        world = worlds.borrow_and_update().clone();
                        Event::World(world.clone())
                    }
                }
                message = inbound.message() => match message? {
                    Some(request) => Event::Request(request),
                    None => return Ok(()),
                },
                () = self.beat(&mut heartbeat) => Event::Heartbeat,
            };
        }
    }

    /// Heartbeats stop while it cannot be known that nothing is newer: a revocation may be what is unknown.
    /// Edges then try another replica, and meanwhile go on with what they have, up to the bundle's `max_age`,
    /// which is an hour at the least: a database that is slow for seconds refuses nobody.
    async fn beat(&self, heartbeat: &mut tokio::time::Interval) {
        loop {
            heartbeat.tick().await;
            if self.fresh.within(UNSURE) {
                return;
            }
        }
    }
}

fn send(out: &Outbound, mut response: StreamResourcesResponse) -> Result<(), Status> {
    response.send_time = Some(clock::timestamp(clock::now_us()));
    out.try_send(Ok(response)).map_err(|_| Status::resource_exhausted("the edge does not read"))
}

/// Only an edge that was deleted must throw its credential away.
fn evicted(replaced: bool) -> Status {
    if replaced {
        Error::new(Code::Aborted, "EDGE_REPLACED", "the edge connected again").into()
    } else {
        Error::new(Code::Unauthenticated, "EDGE_UNKNOWN", "the edge was deleted: enrol again").into()
    }
}

fn other_edge(said: &str, enrolled: &str) -> Error {
    let message = format!("the credential is of edge `{enrolled}`, and the stream says `{said}`");
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
        let (out, answers) = mpsc::channel(UNREAD);
        tokio::spawn(self.clone().serve(claims, request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}
