//! What counts of the workers are delivered to a control plane, and what is kept of those that are not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use trunkline::telemetry::v1::usage_service_client::UsageServiceClient;
use trunkline::telemetry::v1::{ReportUsageRequest, ReportUsageResponse};

use super::Counts;
use super::backlog::Backlog;
use crate::delivery::{Batch, BatchDelivery, Outbox};
use crate::observe::Metrics;
use crate::os::{clock, files};
use crate::snapshot::client::Link;

const REPORT_EVERY: Duration = Duration::from_secs(5);
/// The time limit of delivering when the edge stops. The rest is written to disk.
const FINAL_DELIVERY: Duration = Duration::from_secs(3);
/// What is kept on disk at most, of all runs that found no control plane together.
const KEPT_BYTES: usize = 64 << 20;
const MAX_QUEUED: usize = 256;

/// A task that delivers counts, for as long as the edge runs.
#[derive(Debug)]
pub struct Reporter {
    backlog: Backlog,
    incoming: mpsc::Receiver<Counts>,
    shards: mpsc::Sender<Counts>,
    link: watch::Receiver<Option<Link>>,
    metrics: Arc<Metrics>,
    path: PathBuf,
}

/// The counts that are to be delivered.
struct UnstoredCounts<'a> {
    backlog: &'a mut Backlog,
    metrics: &'a Metrics,
}

impl Reporter {
    /// Creates a reporter that delivers over `link`. What cannot be delivered before the edge ends is kept at `path`.
    pub fn new(link: watch::Receiver<Option<Link>>, metrics: Arc<Metrics>, path: PathBuf) -> Reporter {
        let (shards, incoming) = mpsc::channel(MAX_QUEUED);
        let mut backlog = Backlog::new(uuid::Uuid::now_v7().to_string(), clock::now());
        match files::read(&path) {
            Ok(Some(left)) if !backlog.restore(&left) => {
                tracing::error!(path = %path.display(), "a part of the unsent usage of an earlier run is damaged");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(path = %path.display(), %error, "cannot read the unsent usage"),
        }
        Reporter { backlog, incoming, shards, link, metrics, path }
    }

    /// Returns the queue for the counts of one more worker.
    pub(crate) fn counts(&self) -> mpsc::Sender<Counts> {
        self.shards.clone()
    }

    /// Runs until the last shard is gone, then delivers or keeps the rest.
    pub async fn run(self) {
        let Reporter { mut backlog, mut incoming, shards, link, metrics, path } = self;
        // From here on only shards have senders: when they are gone, `incoming` ends.
        drop(shards);
        let mut tick = interval(REPORT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut delivery = BatchDelivery::default();
        loop {
            tokio::select! {
                counts = incoming.recv() => match counts {
                    Some(counts) => take(&mut backlog, &counts, &metrics),
                    None => break,
                },
                _ = tick.tick() => {
                    let here = link.borrow().clone();
                    if let Some(here) = here {
                        // Counts wait in their channel meanwhile, and in their shards after that.
                        deliver(&mut backlog, &mut delivery, &here, &metrics, &path).await;
                    }
                }
            }
            metrics.usage_backlog.set(i64::try_from(backlog.len()).unwrap_or(i64::MAX));
        }
        let here = link.borrow().clone();
        if let Some(here) = here {
            let last = deliver(&mut backlog, &mut delivery, &here, &metrics, &path);
            let _ = timeout(FINAL_DELIVERY, last).await;
        }
        keep(&mut backlog, &path);
    }
}

fn take(backlog: &mut Backlog, counts: &Counts, metrics: &Metrics) {
    for (key, sums) in counts.iter() {
        metrics.count_calls(key.method(), key.outcome(), sums.calls(), sums.duration_us());
    }
    metrics.usage_overflow.add(backlog.add(counts));
}

/// Delivers all that waits, if that can be done now.
async fn deliver(
    backlog: &mut Backlog,
    delivery: &mut BatchDelivery<ReportUsageRequest>,
    link: &Link,
    metrics: &Metrics,
    path: &std::path::Path,
) {
    let delivered = delivery.deliver(&mut UnstoredCounts { backlog, metrics }, link).await;
    // The batches of an earlier run are stored now.
    if delivered && let Err(error) = files::remove(path) {
        tracing::warn!(%error, "cannot remove the unsent usage of an earlier run");
    }
}

impl Outbox for UnstoredCounts<'_> {
    type Batch = ReportUsageRequest;

    fn next(&mut self) -> Option<ReportUsageRequest> {
        self.backlog.next(clock::now()).cloned()
    }

    fn stored(&mut self, batch: &ReportUsageRequest, set_aside: u64) {
        if set_aside > 0 {
            self.metrics.usage_lost.add(set_aside);
            tracing::error!(
                records = set_aside,
                "lost usage: the control plane cannot count it; its log says why"
            );
        }
        self.backlog.acknowledge(&batch.run_id, batch.sequence);
    }

    fn refused(&mut self, batch: &ReportUsageRequest, status: &Status) {
        let records = batch.records.len();
        self.metrics.usage_lost.add(u64::try_from(records).unwrap_or(u64::MAX));
        tracing::error!(
            records,
            code = %status.code(),
            reason = status.message(),
            "lost usage: the control plane does not take the batch"
        );
        self.backlog.acknowledge(&batch.run_id, batch.sequence);
    }

    fn failed(&self, status: Option<&Status>) {
        match status {
            Some(status) => {
                tracing::warn!(code = %status.code(), reason = status.message(), "cannot deliver usage");
            }
            None => tracing::warn!("usage was not acknowledged in time"),
        }
    }
}

impl Batch for ReportUsageRequest {
    type Answer = ReportUsageResponse;

    fn run_id(&self) -> &str {
        &self.run_id
    }

    fn sequence(&self) -> i64 {
        self.sequence
    }

    fn acknowledged(answer: &ReportUsageResponse) -> (i64, i64) {
        (answer.acked_sequence, answer.set_aside_records)
    }

    async fn open(
        link: &Link,
        batches: ReceiverStream<Self>,
    ) -> Result<Streaming<ReportUsageResponse>, Status> {
        let mut client = UsageServiceClient::new(link.channel.clone());
        Ok(client.report_usage(link.credential.authorise(batches)).await?.into_inner())
    }
}

fn keep(backlog: &mut Backlog, path: &std::path::Path) {
    let (left, lost) = backlog.serialize(clock::now(), KEPT_BYTES);
    if lost > 0 {
        tracing::error!(records = lost, "dropped the oldest unsent usage: there is too much to keep");
    }
    let kept = if left.is_empty() { files::remove(path) } else { files::write(path, &left) };
    match kept {
        Ok(()) if !left.is_empty() => {
            tracing::info!(records = backlog.len(), "saved unsent usage for the next start")
        }
        Ok(()) => {}
        Err(error) => tracing::error!(path = %path.display(), %error, "cannot save unsent usage"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Mutex;

    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport::{Channel, Server};
    use tonic::{Code, Request, Response};
    use tonic_types::{ErrorDetails, StatusExt as _};
    use trunkline::telemetry::v1::usage_service_server::{UsageService, UsageServiceServer};
    use trunkline::telemetry::v1::{
        ListLastUsesRequest, ListLastUsesResponse, QueryUsageRequest, QueryUsageResponse,
    };

    use super::*;
    use crate::enrollment::EdgeCredential;
    use crate::usage::{CallRecord, Outcome};

    /// A control plane that answers batches by their number, and notes which it was sent.
    #[derive(Clone, Default)]
    struct ControlPlane(Arc<Mutex<Vec<i64>>>);

    #[tonic::async_trait]
    impl UsageService for ControlPlane {
        type ReportUsageStream = ReceiverStream<Result<ReportUsageResponse, Status>>;

        async fn report_usage(
            &self,
            request: Request<Streaming<ReportUsageRequest>>,
        ) -> Result<Response<Self::ReportUsageStream>, Status> {
            let (out, answers) = mpsc::channel(4);
            let (mut batches, sent) = (request.into_inner(), self.0.clone());
            tokio::spawn(async move {
                while let Ok(Some(batch)) = batches.message().await {
                    sent.lock().unwrap().push(batch.sequence);
                    let answer = match batch.sequence {
                        1 => Err(Status::invalid_argument("records are odd")),
                        2 => Err(too_large()),
                        3 => Ok(ReportUsageResponse { acked_sequence: 3, set_aside_records: 7 }),
                        4 => Err(Status::resource_exhausted("come again")),
                        acked_sequence => Ok(ReportUsageResponse { acked_sequence, set_aside_records: 0 }),
                    };
                    let is_last = answer.is_err();
                    if out.send(answer).await.is_err() || is_last {
                        return;
                    }
                }
            });
            Ok(Response::new(ReceiverStream::new(answers)))
        }

        async fn query_usage(
            &self,
            _: Request<QueryUsageRequest>,
        ) -> Result<Response<QueryUsageResponse>, Status> {
            Err(Status::unimplemented(""))
        }

        async fn list_last_uses(
            &self,
            _: Request<ListLastUsesRequest>,
        ) -> Result<Response<ListLastUsesResponse>, Status> {
            Err(Status::unimplemented(""))
        }
    }

    fn too_large() -> Status {
        let details = ErrorDetails::with_error_info("BODY_TOO_LARGE", "trunkline.dev", []);
        Status::with_error_details(Code::ResourceExhausted, "too large", details)
    }

    fn one_call() -> Counts {
        let mut counts = Counts::new(10);
        counts.record(&CallRecord {
            server: "servers/dev",
            token: "tokens/t",
            method: "tools/call",
            target: "",
            outcome: Outcome::Ok,
            duration: Duration::ZERO,
            request_bytes: 0,
            response_bytes: 0,
            address: None,
        });
        counts
    }

    #[tokio::test]
    async fn a_batch_that_is_never_taken_does_not_hold_up_the_others() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let control_plane = ControlPlane::default();
        let service = UsageServiceServer::new(control_plane.clone());
        let serve = Server::builder().add_service(service);
        tokio::spawn(serve.serve_with_incoming(TcpListenerStream::new(listener)));
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        let link = Link { channel, credential: EdgeCredential::for_tests() };
        let (metrics, folder) = (Metrics::default(), tempfile::tempdir().unwrap());
        let (mut backlog, mut delivery) = (Backlog::new("run".into(), 0), BatchDelivery::default());
        let mut waiting = Vec::new();
        for _ in 0..4 {
            backlog.add(&one_call());
            deliver(&mut backlog, &mut delivery, &link, &metrics, &folder.path().join("usage")).await;
            waiting.push(backlog.len());
        }
        assert_eq!(*control_plane.0.lock().unwrap(), [1, 2, 3, 4]);
        // One record each of the first two, seven by the word of the control plane; only the last one is sent again.
        assert_eq!(metrics.usage_lost.get(), 1 + 1 + 7);
        assert_eq!(waiting, [0, 0, 0, 1]);
        deliver(&mut backlog, &mut delivery, &link, &metrics, &folder.path().join("usage")).await;
        assert_eq!(control_plane.0.lock().unwrap()[4..], [4]);
    }
}
