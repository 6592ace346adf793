//! The IO of the stream: connects to control planes in turn, and carries out what the subscriber decides.

use std::sync::Arc;
use std::time::Duration;

use delta::client::{Action, Event};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use trunkline::TypeTable as _;
use trunkline::discovery::v1::discovery_service_client::DiscoveryServiceClient;
use trunkline::discovery::v1::{Edge, StreamResourcesRequest, StreamResourcesResponse};

use super::Subscriber;
use super::backoff::Backoff;
use super::missing::MissingLog;
use crate::config::ControlPlanes;
use crate::enrollment::{AdvertisedAddress, CredentialError, EdgeCredential, Enrollment, unreached};
use crate::observe::Metrics;
use crate::os::clock;
use crate::snapshot::Current;
use crate::snapshot::build::{Builder, Compiled};
use crate::snapshot::disk::Image;

/// The silence that ends a burst, and the longest that a burst may last.
const QUIET: Duration = Duration::from_millis(3);
const LONGEST_BURST: Duration = Duration::from_millis(50);
/// The silence after which a control plane counts as dead; it sends something every 10 s.
const SILENCE: Duration = Duration::from_secs(35);
const TIMEOUT: Duration = Duration::from_secs(5);
/// Requests that wait to be sent, at least.
const QUEUE: usize = 64;

/// A control plane that answers, for other clients of it.
#[derive(Debug, Clone)]
pub struct Link {
    /// The connection.
    pub channel: Channel,
    /// The credential that authorises this edge there.
    pub credential: EdgeCredential,
}

/// The channels and state that a new snapshot is published to.
#[derive(Debug)]
pub struct Publication {
    /// The snapshot in force.
    pub current: Arc<Current>,
    /// The image that the copy on disk is made of.
    pub image: watch::Sender<Option<Arc<Image>>>,
    /// The control plane that the stream runs to, while it runs.
    pub link: watch::Sender<Option<Link>>,
    /// What was missing from the snapshot before.
    pub missing: MissingLog,
    /// The counters and gauges.
    pub metrics: Arc<Metrics>,
}

/// The edge's end of the stream, for as long as the edge runs.
#[derive(Debug)]
pub struct Client {
    /// Announced on every stream.
    edge: Edge,
    subscriber: Subscriber,
    control_planes: Arc<ControlPlanes>,
    enrollment: Arc<Enrollment>,
    advertised: AdvertisedAddress,
    publication: Publication,
}

/// The reason that a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamEnd {
    #[error("it is unreachable: {}", unreached(.0))]
    Connect(#[from] tonic::transport::Error),
    #[error("it did not respond within {} s", TIMEOUT.as_secs())]
    Slow,
    #[error(transparent)]
    Enroll(#[from] CredentialError),
    #[error("it ended the stream: {} ({})", .0.message(), .0.code())]
    Status(#[from] Box<tonic::Status>),
    #[error("it ended the stream")]
    Closed,
    #[error("it was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("it is stopping")]
    Draining,
}

impl Client {
    /// Creates the client of `edge`, which tries `control_planes` in turn, and tells them the address `advertised` for siblings.
    pub fn new(
        edge: Edge,
        subscriber: Subscriber,
        control_planes: Arc<ControlPlanes>,
        enrollment: Arc<Enrollment>,
        advertised: AdvertisedAddress,
        publication: Publication,
    ) -> Client {
        Client { edge, subscriber, control_planes, enrollment, advertised, publication }
    }

    /// Keeps a stream open to one of the control planes, for ever.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        for at in (0..self.control_planes.count()).cycle() {
            let control_plane = self.control_planes.endpoint(at);
            let began = Instant::now();
            let end = self.stream(&control_plane).await;
            self.disconnected(&control_plane, &end);
            backoff.ended_after(began.elapsed());
            // A control plane that stops announces it, so there is no overload to avoid.
            let another = self.control_planes.count() > 1;
            if !(matches!(end, StreamEnd::Draining) && another) {
                sleep(backoff.next(rand::random())).await;
            }
        }
    }

    fn disconnected(&mut self, control_plane: &Endpoint, end: &StreamEnd) {
        let uri = control_plane.uri();
        match end {
            StreamEnd::Draining => tracing::info!(control_plane = %uri, "the control plane is stopping"),
            _ => tracing::warn!(control_plane = %uri, reason = %end, "no stream from the control plane"),
        }
        self.publication.metrics.stream_connected.set(0);
        self.publication.link.send_replace(None);
        for action in self.subscriber.on(Event::Disconnected) {
            // There is no stream to send on; what was accepted is put in force.
            self.act_locally(action);
        }
    }

    /// Runs one stream, from connecting to its end.
    async fn stream(&mut self, control_plane: &Endpoint) -> StreamEnd {
        match self.try_stream(control_plane).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn try_stream(&mut self, control_plane: &Endpoint) -> Result<Never, StreamEnd> {
        let channel = timeout(TIMEOUT, control_plane.connect()).await.map_err(|_| StreamEnd::Slow)??;
        let credential =
            timeout(TIMEOUT, self.enrollment.credential(&channel)).await.map_err(|_| StreamEnd::Slow)??;
        self.edge.sibling_address = self.advertised.for_control_plane(control_plane.uri()).await;
        let actions = self.subscriber.on(Event::Connected(self.edge.clone()));
        // Nobody reads them until the stream is open, and an edge that holds much has much to say.
        let (out, outgoing) = mpsc::channel(QUEUE.max(actions.len()));
        for action in actions {
            self.act(action, &out).await?;
        }
        let incoming = self.open(channel.clone(), &credential, outgoing).await?;
        tracing::info!(control_plane = %control_plane.uri(), "streaming from the control plane");
        self.publication.metrics.stream_connected.set(1);
        self.publication.link.send_replace(Some(Link { channel: channel.clone(), credential }));
        self.follow(channel, incoming, out).await
    }

    async fn open(
        &self,
        channel: Channel,
        credential: &EdgeCredential,
        outgoing: mpsc::Receiver<StreamResourcesRequest>,
    ) -> Result<Streaming<StreamResourcesResponse>, StreamEnd> {
        let mut client =
            DiscoveryServiceClient::new(channel).max_decoding_message_size(delta::MAX_MESSAGE_BYTES);
        let request = credential.authorise(ReceiverStream::new(outgoing));
        let answer = timeout(TIMEOUT, client.stream_resources(request)).await.map_err(|_| StreamEnd::Slow)?;
        answer.map(tonic::Response::into_inner).map_err(|status| self.status(status))
    }

    fn status(&self, status: tonic::Status) -> StreamEnd {
        if status.code() == tonic::Code::Unauthenticated {
            self.enrollment.refused();
        }
        StreamEnd::Status(Box::new(status))
    }

    async fn follow(
        &mut self,
        channel: Channel,
        mut incoming: Streaming<StreamResourcesResponse>,
        out: mpsc::Sender<StreamResourcesRequest>,
    ) -> Result<Never, StreamEnd> {
        let mut burst = Burst::default();
        let enrollment = Arc::clone(&self.enrollment);
        let mut renewal = std::pin::pin!(enrollment.keep_renewed(&channel));
        loop {
            let event = tokio::select! {
                message = timeout(SILENCE, incoming.message()) => match message {
                    Err(_) => return Err(StreamEnd::Silent),
                    Ok(Err(status)) => return Err(self.status(status)),
                    Ok(Ok(None)) => return Err(StreamEnd::Closed),
                    Ok(Ok(Some(response))) => Event::Received(response),
                },
                () = burst.over() => Event::Quiet,
                credential = &mut renewal => {
                    self.publication.link.send_replace(Some(Link { channel: channel.clone(), credential }));
                    renewal.set(enrollment.keep_renewed(&channel));
                    continue;
                }
            };
            if matches!(event, Event::Quiet) {
                burst = Burst::default();
            }
            for action in self.subscriber.on(event) {
                if matches!(action, Action::AwaitQuiet) {
                    burst.more(Instant::now());
                }
                self.act(action, &out).await?;
            }
        }
    }

    async fn act(
        &mut self,
        action: Action<Builder>,
        out: &mpsc::Sender<StreamResourcesRequest>,
    ) -> Result<(), StreamEnd> {
        match action {
            Action::Send(request) => out.send(request).await.map_err(|_| StreamEnd::Closed),
            Action::Leave => Err(StreamEnd::Draining),
            action => {
                self.act_locally(action);
                Ok(())
            }
        }
    }

    fn act_locally(&mut self, action: Action<Builder>) {
        match action {
            Action::Publish(compiled) => {
                self.publication.publish(&self.subscriber, compiled);
            }
            Action::Contact(send_time) => {
                self.publication.note_contact(send_time);
                self.publication.count_refused(&self.subscriber);
            }
            Action::Ready => self.publication.current.set_complete(),
            Action::Refused(refusal) => tracing::warn!(
                kind = refusal.kind.name(),
                name = refusal.name,
                reason = refusal.reason,
                "a resource is refused; its last good version stays in force"
            ),
            Action::Send(_) | Action::Leave | Action::AwaitQuiet => {}
        }
    }
}

impl Publication {
    /// Puts a compiled snapshot in force, and passes its image to the copy on disk.
    pub fn publish(&self, subscriber: &Subscriber, compiled: Compiled) {
        self.missing.tell(&compiled.missing);
        for unusable in &compiled.unusable {
            tracing::error!(
                name = &*unusable.name,
                problem = unusable.problem,
                "a part of a token or grant cannot be evaluated, and denies"
            );
        }
        self.metrics.policy_unusable.set(i64::try_from(compiled.unusable_count).unwrap_or(i64::MAX));
        // What was taken away waits for nothing.
        if let Some(ahead) = compiled.ahead {
            self.current.publish(ahead);
        }
        let lists_in_use = compiled.views_in_use.compute();
        let revision = compiled.snapshot.revision;
        let (servers, tokens) = (compiled.snapshot.servers.len(), compiled.snapshot.tokens.len());
        self.current.publish(compiled.snapshot);
        lists_in_use.render();
        self.metrics.revision.set(revision);
        self.count_refused(subscriber);
        let made_of = Arc::new(Image::of(subscriber, self.current.last_contact()));
        // In one step, so that the saver never mistakes an older copy for this one.
        self.image.send_modify(|image| {
            *image = Some(made_of);
            self.metrics.disk_behind.set(1);
        });
        tracing::info!(revision, servers, tokens, "a snapshot is in force");
    }

    fn count_refused(&self, subscriber: &Subscriber) {
        self.metrics.refused.set(i64::try_from(subscriber.sink().refused_count()).unwrap_or(i64::MAX));
    }

    /// Notes the contact. A control plane's clock that runs ahead must not lengthen the life of bearers.
    fn note_contact(&self, send_time: Option<u64>) {
        let now = clock::now();
        self.current.note_contact(send_time.map_or(now, |sent| sent.min(now)));
    }
}

/// A burst of responses that are published together.
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

    /// Waits until the burst is over; for ever, if none began.
    async fn over(&self) {
        match (self.began, self.last) {
            (Some(began), Some(last)) => sleep_until((last + QUIET).min(began + LONGEST_BURST)).await,
            _ => std::future::pending().await,
        }
    }
}

/// A value that cannot exist: a stream has no good end.
enum Never {}
