//! Connects to control planes in turn, and does what the machine says.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use trunkline::discovery::v1::discovery_service_client::DiscoveryServiceClient;
use trunkline::discovery::v1::{StreamResourcesRequest, StreamResourcesResponse};

use super::backoff::Backoff;
use super::{Action, Event, Machine};
use crate::advertise::Advertised;
use crate::clock;
use crate::enroll::{Bearer, EnrollError, Enrollment};
use crate::observe::Metrics;
use crate::snapshot::Current;
use crate::snapshot::disk::Image;

/// How long nothing must arrive for a burst to be over, and how long a burst may last.
const QUIET: Duration = Duration::from_millis(3);
const LONGEST_BURST: Duration = Duration::from_millis(50);
/// A control plane says something every 10 s; after this long it is taken for dead.
const SILENCE: Duration = Duration::from_secs(35);
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// A control plane that answers, for those who report to it.
#[derive(Debug, Clone)]
pub struct Link {
    /// The connection.
    pub channel: Channel,
    /// What authorises this edge there.
    pub bearer: Bearer,
}

/// What is told to others in the process.
#[derive(Debug)]
pub struct Publication {
    /// The snapshot in force.
    pub current: Arc<Current>,
    /// What the copy on disk is made of.
    pub image: watch::Sender<Option<Arc<Image>>>,
    /// The control plane that the stream runs to, while it runs.
    pub link: watch::Sender<Option<Link>>,
    /// The numbers of this edge.
    pub metrics: Arc<Metrics>,
}

/// The edge's end of the stream, for as long as the edge runs.
#[derive(Debug)]
pub struct Client {
    machine: Machine,
    targets: Vec<Endpoint>,
    enrollment: Arc<Enrollment>,
    advertised: Advertised,
    told: Publication,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("it is unreachable: {}", innermost(.0))]
    Connect(#[from] tonic::transport::Error),
    #[error("it did not respond within {} s", PATIENCE.as_secs())]
    Slow,
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    #[error("it ended the stream: {} ({})", .0.message(), .0.code())]
    Status(#[from] Box<tonic::Status>),
    #[error("it ended the stream")]
    Closed,
    #[error("it was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("it is stopping")]
    Draining,
}

/// The innermost cause: the outer ones only say "transport error".
fn innermost(error: &tonic::transport::Error) -> &dyn std::error::Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

impl Client {
    /// A client that tries `targets` in turn, and says that other edges reach this one where it is `advertised`.
    pub fn new(
        machine: Machine,
        targets: Vec<Endpoint>,
        enrollment: Arc<Enrollment>,
        advertised: Advertised,
        told: Publication,
    ) -> Client {
        Client { machine, targets, enrollment, advertised, told }
    }

    /// Keeps a stream open to one of the control planes, for ever.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        for at in (0..self.targets.len()).cycle() {
            let target = self.targets[at].clone();
            let mut healthy = false;
            let ended = self.stream(&target, &mut healthy).await;
            self.disconnected(&target, &ended);
            if healthy {
                backoff.reset();
            }
            // One that says it stops has told us before it did: there is nobody to spare.
            let another = self.targets.len() > 1;
            if !(matches!(ended, Ended::Draining) && another) {
                sleep(backoff.next(rand::random())).await;
            }
        }
    }

    fn disconnected(&mut self, target: &Endpoint, ended: &Ended) {
        let uri = target.uri();
        match ended {
            Ended::Draining => tracing::info!(control_plane = %uri, "the control plane is stopping"),
            _ => tracing::warn!(control_plane = %uri, reason = %ended, "no stream from the control plane"),
        }
        self.told.metrics.stream_connected.set(0);
        self.told.link.send_replace(None);
        for action in self.machine.on(Event::Disconnected) {
            // There is nobody to send to; what was taken is put in force.
            self.act_locally(action);
        }
    }

    /// One stream, from connecting to its end.
    async fn stream(&mut self, target: &Endpoint, healthy: &mut bool) -> Ended {
        match self.try_stream(target, healthy).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn try_stream(&mut self, target: &Endpoint, healthy: &mut bool) -> Result<Never, Ended> {
        let channel = timeout(PATIENCE, target.connect()).await.map_err(|_| Ended::Slow)??;
        let bearer = timeout(PATIENCE, self.enrollment.bearer(&channel)).await.map_err(|_| Ended::Slow)??;
        self.machine.reached_at(self.advertised.to(target.uri()).await);
        let (out, outgoing) = mpsc::channel(64);
        for action in self.machine.on(Event::Connected) {
            self.act(action, &out).await?;
        }
        let incoming = self.open(channel.clone(), &bearer, outgoing).await?;
        tracing::info!(control_plane = %target.uri(), "streaming from the control plane");
        self.told.metrics.stream_connected.set(1);
        self.told.link.send_replace(Some(Link { channel: channel.clone(), bearer }));
        self.follow(channel, incoming, out, healthy).await
    }

    async fn open(
        &self,
        channel: Channel,
        bearer: &Bearer,
        outgoing: mpsc::Receiver<StreamResourcesRequest>,
    ) -> Result<Streaming<StreamResourcesResponse>, Ended> {
        let mut client = DiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let request = bearer.authorise(ReceiverStream::new(outgoing));
        let answer = timeout(PATIENCE, client.stream_resources(request)).await.map_err(|_| Ended::Slow)?;
        answer.map(tonic::Response::into_inner).map_err(|status| self.status(status))
    }

    fn status(&self, status: tonic::Status) -> Ended {
        if status.code() == tonic::Code::Unauthenticated {
            self.enrollment.refused();
        }
        Ended::Status(Box::new(status))
    }

    async fn follow(
        &mut self,
        channel: Channel,
        mut incoming: Streaming<StreamResourcesResponse>,
        out: mpsc::Sender<StreamResourcesRequest>,
        healthy: &mut bool,
    ) -> Result<Never, Ended> {
        let mut burst = Burst::default();
        let enrollment = Arc::clone(&self.enrollment);
        let mut renewal = std::pin::pin!(enrollment.keep_renewed(&channel));
        loop {
            let event = tokio::select! {
                message = timeout(SILENCE, incoming.message()) => match message {
                    Err(_) => return Err(Ended::Silent),
                    Ok(Err(status)) => return Err(self.status(status)),
                    Ok(Ok(None)) => return Err(Ended::Closed),
                    Ok(Ok(Some(response))) => {
                        *healthy = true;
                        Event::Received(response)
                    }
                },
                () = burst.over() => Event::Settled,
                bearer = &mut renewal => {
                    self.told.link.send_replace(Some(Link { channel: channel.clone(), bearer }));
                    renewal.set(enrollment.keep_renewed(&channel));
                    continue;
                }
            };
            if matches!(event, Event::Settled) {
                burst = Burst::default();
            }
            for action in self.machine.on(event) {
                if matches!(action, Action::AwaitSettled) {
                    burst.more(Instant::now());
                }
                self.act(action, &out).await?;
            }
        }
    }

    async fn act(&mut self, action: Action, out: &mpsc::Sender<StreamResourcesRequest>) -> Result<(), Ended> {
        match action {
            Action::Send(request) => out.send(request).await.map_err(|_| Ended::Closed),
            Action::Leave => Err(Ended::Draining),
            action => {
                self.act_locally(action);
                Ok(())
            }
        }
    }

    fn act_locally(&mut self, action: Action) {
        match action {
            Action::Publish(compiled) => {
                self.told.publish(&self.machine, compiled);
            }
            Action::Heard(send_time) => {
                self.told.heard(send_time);
                self.told.count_refused(&self.machine);
            }
            Action::Ready => self.told.current.set_whole(),
            Action::Refused(refusal) => tracing::warn!(
                kind = refusal.kind.as_str(),
                name = refusal.name,
                reason = refusal.reason,
                "a resource is refused; its last good version stays in force"
            ),
            Action::Send(_) | Action::Leave | Action::AwaitSettled => {}
        }
    }
}

impl Publication {
    /// Puts a compiled snapshot in force and hands what it was made of to the copy on disk.
    pub fn publish(&self, machine: &Machine, compiled: super::super::build::Compiled) {
        for gap in &compiled.gaps {
            tracing::warn!(
                from = &*gap.from,
                to = &*gap.to,
                "left out an entry whose target is not in the snapshot"
            );
        }
        let revision = compiled.snapshot.revision;
        let (servers, tokens) = (compiled.snapshot.servers.len(), compiled.snapshot.tokens.len());
        self.current.publish(compiled.snapshot);
        self.metrics.revision.set(revision);
        self.count_refused(machine);
        let made_of = Arc::new(Image::of(machine, self.current.heard_at()));
        // In one step, so that the saver never takes an older copy for this one.
        self.image.send_modify(|image| {
            *image = Some(made_of);
            self.metrics.disk_behind.set(1);
        });
        tracing::info!(revision, servers, tokens, "a snapshot is in force");
    }

    fn count_refused(&self, machine: &Machine) {
        self.metrics.refused.set(i64::try_from(machine.builder().refused_count()).unwrap_or(i64::MAX));
    }

    /// A clock of the control plane that runs ahead must not lengthen anybody's life.
    fn heard(&self, send_time: Option<u64>) {
        let now = clock::now();
        self.current.heard(send_time.map_or(now, |sent| sent.min(now)));
    }
}

/// Responses that follow each other closely and are published together.
#[derive(Debug, Default)]
struct Burst {
    began: Option<Instant>,
    last: Option<Instant>,
}

impl Burst {
    fn more(&mut self, now: Instant) {
        self.began.get_or_insert(now);
        self.last = Some(now);
    }

    /// Ends when the burst is over; never, where none began.
    async fn over(&self) {
        match (self.began, self.last) {
            (Some(began), Some(last)) => sleep_until((last + QUIET).min(began + LONGEST_BURST)).await,
            _ => std::future::pending().await,
        }
    }
}

/// A stream has no good end.
enum Never {}
