//! Delivery of the workers' counts to a control plane, repeated until it acknowledges them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use trunkline::telemetry::v1::usage_service_client::UsageServiceClient;
use trunkline::telemetry::v1::{ReportUsageRequest, ReportUsageResponse};

use super::Counts;
use super::backlog::Backlog;
use crate::observe::Metrics;
use crate::os::{clock, files};
use crate::snapshot::client::Link;

const REPORT_EVERY: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of delivering when the edge stops. The rest is written to disk.
const FINAL_DELIVERY: Duration = Duration::from_secs(3);
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

/// A stream on which batches are delivered one after the other.
struct Delivery {
    /// The run of its batches, because acknowledgements name none.
    run_id: String,
    out: mpsc::Sender<ReportUsageRequest>,
    acknowledged: Streaming<ReportUsageResponse>,
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
        let mut delivery = None;
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
                        deliver(&mut backlog, &mut delivery, &here, &path).await;
                    }
                }
            }
            metrics.usage_backlog.set(i64::try_from(backlog.len()).unwrap_or(i64::MAX));
        }
        let here = link.borrow().clone();
        if let Some(here) = here {
            let last = deliver(&mut backlog, &mut delivery, &here, &path);
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

/// Sends batch after batch, each when the one before is stored, until none waits or one fails.
async fn deliver(
    backlog: &mut Backlog,
    delivery: &mut Option<Delivery>,
    link: &Link,
    path: &std::path::Path,
) {
    let mut delivered = false;
    while let Some(batch) = backlog.next(clock::now()).cloned() {
        match timeout(TIMEOUT, send(delivery, link, batch.clone())).await {
            Ok(Ok(())) => backlog.acknowledge(&batch.run_id, batch.sequence),
            Ok(Err(status)) => {
                tracing::warn!(code = %status.code(), reason = status.message(), "cannot deliver usage");
                *delivery = None;
                return;
            }
            Err(_) => {
                tracing::warn!("usage was not acknowledged in time");
                *delivery = None;
                return;
            }
        }
        delivered = true;
    }
    // The batches of an earlier run are stored now.
    if delivered && let Err(error) = files::remove(path) {
        tracing::warn!(%error, "cannot remove the unsent usage of an earlier run");
    }
}

/// Sends one batch and waits until it is stored.
async fn send(
    delivery: &mut Option<Delivery>,
    link: &Link,
    batch: ReportUsageRequest,
) -> Result<(), tonic::Status> {
    let sequence = batch.sequence;
    let stream = match delivery {
        Some(open) if open.run_id == batch.run_id => {
            let closed = |_| tonic::Status::unavailable("the control plane ended the stream");
            open.out.send(batch).await.map_err(closed)?;
            open
        }
        _ => delivery.insert(Delivery::open(link, batch).await?),
    };
    loop {
        let answer = stream.acknowledged.message().await?;
        let answer =
            answer.ok_or_else(|| tonic::Status::unavailable("the control plane ended the stream"))?;
        if answer.acked_sequence >= sequence {
            return Ok(());
        }
    }
}

impl Delivery {
    /// Opens a stream with its first batch, because a server may answer only when it has seen one.
    async fn open(link: &Link, first: ReportUsageRequest) -> Result<Delivery, tonic::Status> {
        let run_id = first.run_id.clone();
        let (out, outgoing) = mpsc::channel(1);
        let closed = |_| tonic::Status::internal("the stream ended before it began");
        out.send(first).await.map_err(closed)?;
        let mut client = UsageServiceClient::new(link.channel.clone());
        let request = link.credential.authorise(ReceiverStream::new(outgoing));
        let acknowledged = client.report_usage(request).await?.into_inner();
        Ok(Delivery { run_id, out, acknowledged })
    }
}

fn keep(backlog: &mut Backlog, path: &std::path::Path) {
    let left = backlog.serialize(clock::now());
    let kept = if left.is_empty() { files::remove(path) } else { files::write(path, &left) };
    match kept {
        Ok(()) if !left.is_empty() => {
            tracing::info!(records = backlog.len(), "saved unsent usage for the next start")
        }
        Ok(()) => {}
        Err(error) => tracing::error!(path = %path.display(), %error, "cannot save unsent usage"),
    }
}
