//! The stream of an edge: carries events to its session and the session's actions to the edge, when it is the stream's turn.
//!
//! It must not decide what is sent: that is for `delta`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use delta::server::{Action, Event, OutgoingResponse, Session};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::{Code, Status, Streaming};
use trunkline::discovery::v1::StreamResourcesRequest;
use trunkline::edge::v1::StreamType;

use super::authenticate::ended;
use super::enrollment_watch::replaced;
use super::fleet::ConnectionGuard;
use super::service::{Discovery, Outbound};
use super::stream_admission::StreamPlace;
use crate::clock;
use crate::error::Error;
use crate::snapshot::content::Snapshot;

/// Interval of heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Without an answer from the database for so long, nobody here can say that nothing is newer.
const DATABASE_SILENCE: Duration = Duration::from_secs(15);
/// The longest reason of a refusal that is kept, in bytes.
const MAX_REASON: usize = 1_024;
/// A response of more bytes needs a place among the streams that are sent much.
const MUCH: usize = 64 << 10;

/// One stream.
pub(super) struct EdgeStream<'a> {
    discovery: &'a Discovery,
    edge: &'a str,
    connection: ConnectionGuard,
    out: &'a Outbound,
    /// While the edge is sent much.
    place: Option<StreamPlace>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    snapshot: Arc<Snapshot>,
    heartbeat: Interval,
}

impl<'a> EdgeStream<'a> {
    /// The stream of `edge`, whose responses go to `out`.
    pub(super) fn new(
        discovery: &'a Discovery,
        edge: &'a str,
        connection: ConnectionGuard,
        out: &'a Outbound,
    ) -> Self {
        let (snapshots, snapshot) = (discovery.snapshots.clone(), Arc::default());
        Self { discovery, edge, connection, out, place: None, snapshots, snapshot, heartbeat: heartbeats() }
    }

    /// Runs the stream to its end. `first` is the first message of the edge.
    pub(super) async fn run(
        mut self,
        first: StreamResourcesRequest,
        inbound: &mut Streaming<StreamResourcesRequest>,
    ) -> Result<(), Status> {
        // Nothing is kept for an edge that waits, but for its first message.
        self.take_place().await?;
        self.snapshot = self.snapshots.borrow_and_update().clone();
        let stream = uuid::Uuid::new_v4().simple().to_string();
        let mut session = Session::new(stream, self.snapshot.clone());
        let mut event = Some(request(first));
        while let Some(next) = event {
            for action in session.on(next) {
                match action {
                    Action::Send(response) => self.send(response).await?,
                    Action::Progress(progress) => self.connection.report(&progress, self.snapshot.revision),
                    Action::Close => return Ok(()),
                    Action::Refuse { max_bytes } => return Err(asks_too_much(max_bytes)),
                }
            }
            if session.is_settled() {
                self.place = None;
            }
            event = self.next(inbound).await?;
        }
        Ok(())
    }

    /// Waits for what happens next. `None`: the edge ended the stream.
    async fn next(
        &mut self,
        inbound: &mut Streaming<StreamResourcesRequest>,
    ) -> Result<Option<Event<StreamType>>, Status> {
        loop {
            tokio::select! {
                biased;
                () = self.discovery.drain.cancelled() => return Ok(Some(Event::Drain)),
                has_another = self.connection.evicted() => return Err(evicted(has_another, self.edge)),
                changed = self.snapshots.changed() => {
                    if changed.is_err() {
                        return Ok(Some(Event::Drain));
                    }
                    self.snapshot = self.snapshots.borrow_and_update().clone();
                    return Ok(Some(Event::Snapshot(self.snapshot.clone())));
                }
                message = inbound.message() => return Ok(message?.map(request)),
                () = next_heartbeat(self.discovery, &mut self.heartbeat) => return Ok(Some(Event::Heartbeat)),
                () = over(self.place.as_ref()) => self.place = None,
            }
        }
    }

    async fn send(&mut self, response: OutgoingResponse) -> Result<(), Status> {
        if self.place.is_none() && response.encoded_len() > MUCH {
            self.take_place().await?;
        }
        send(self.out, response)
    }

    /// Waits for the stream's turn, and tells the edge of it from time to time. A control plane that stops waits no longer.
    async fn take_place(&mut self) -> Result<(), Status> {
        let mut admitted = pin!(self.discovery.admission.admit());
        let mut signs = heartbeats();
        loop {
            tokio::select! {
                biased;
                () = self.discovery.drain.cancelled() => return Ok(()),
                has_another = self.connection.evicted() => return Err(evicted(has_another, self.edge)),
                () = self.out.closed() => return Err(Status::cancelled("the edge went away")),
                place = &mut admitted => {
                    self.place = Some(place);
                    return Ok(());
                }
                _ = signs.tick() => send(self.out, OutgoingResponse::waiting())?,
            }
        }
    }
}

/// Heartbeats stop while it cannot be known that nothing is newer: a revocation may be what is unknown.
/// Edges then try another replica, and meanwhile go on with what they have, up to the bundle's `max_age`,
/// which is an hour at the least: a database that is slow for seconds refuses nobody.
async fn next_heartbeat(discovery: &Discovery, heartbeat: &mut Interval) {
    loop {
        heartbeat.tick().await;
        if discovery.database.within(DATABASE_SILENCE) {
            return;
        }
    }
}

fn heartbeats() -> Interval {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    heartbeat
}

/// Waits until a place has been kept for long enough; for ever where there is none.
async fn over(place: Option<&StreamPlace>) {
    match place {
        Some(place) => place.over().await,
        None => std::future::pending().await,
    }
}

fn send(out: &Outbound, mut response: OutgoingResponse) -> Result<(), Status> {
    response.set_send_time(clock::timestamp(clock::now_us()));
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

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;
    use trunkline::discovery::v1::Edge;

    use super::*;
    use crate::discovery::fleet::Fleet;
    use crate::discovery::stream_admission::StreamAdmission;
    use crate::snapshot::DatabaseHealth;
    use crate::store::Store;
    use crate::store::edges::Edges;

    #[tokio::test]
    async fn an_edge_that_waits_is_told_so_from_time_to_time() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let fleet = Arc::new(Fleet::new(Edges::new(&store), "here".to_owned()));
        let admission = Arc::new(StreamAdmission::new(1));
        let (_publisher, snapshots) = watch::channel(Arc::default());
        let stop = CancellationToken::new();
        let discovery =
            Discovery::new(snapshots, DatabaseHealth::default(), fleet.clone(), admission.clone(), stop);
        let taken = admission.admit().await;
        tokio::time::pause();
        let (out, mut told) = mpsc::channel(4);
        let connection = fleet.join(&Edge { id: "e1".to_owned(), ..Edge::default() }, "enrolled");
        let mut stream = EdgeStream::new(&discovery, "e1", connection, &out);
        {
            let mut waiting = pin!(stream.take_place());
            for _ in 0..2 {
                let sign = tokio::select! {
                    biased;
                    _ = &mut waiting => panic!("the place is taken"),
                    sign = told.recv() => sign.unwrap().unwrap(),
                };
                assert_eq!(sign, OutgoingResponse::waiting());
            }
            drop(taken);
            waiting.await.unwrap();
        }
        assert!(stream.place.is_some());
    }
}
