//! Takes the workers' counts, and delivers them to the control plane until it says that they are stored.

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
use crate::snapshot::client::Link;
use crate::{clock, files};

const REPORT_EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a stopping edge tries to deliver; what is left is written to disk.
const LAST_WORDS: Duration = Duration::from_secs(3);
const HANDED_OVER_AT_ONCE: usize = 256;

/// Delivers counts, for as long as the edge runs.
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
    /// Acknowledgements name no run, so a stream carries the batches of one.
    run_id: String,
    out: mpsc::Sender<ReportUsageRequest>,
    acknowledged: Streaming<ReportUsageResponse>,
}

impl Reporter {
    /// A reporter that delivers over `link`. What cannot be delivered before the edge ends is kept at `path`.
    pub fn new(link: watch::Receiver<Option<Link>>, metrics: Arc<Metrics>, path: PathBuf) -> Reporter {
        let (shards, incoming) = mpsc::channel(HANDED_OVER_AT_ONCE);
        let mut backlog = Backlog::new(uuid::Uuid::now_v7().to_string(), clock::now());
        match files::read(&path) {
            Ok(Some(left)) if !backlog.thaw(&left) => {
                tracing::error!(path = %path.display(), "a part of the unsent usage of an earlier run is damaged");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(path = %path.display(), %error, "cannot read the unsent usage"),
        }
        Reporter { backlog, incoming, shards, link, metrics, path }
    }

    /// Where one more worker's shard hands its counts over.
    pub(crate) fn counts(&self) -> mpsc::Sender<Counts> {
        self.shards.clone()
    }

    /// Runs until the last shard is gone, then delivers or keeps what is left.
    pub async fn run(self) {
        let Reporter { mut backlog, mut incoming, shards, link, metrics, path } = self;
        // From here on only shards hold the sending end: when they are gone, `incoming` ends.
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
            let _ = timeout(LAST_WORDS, last).await;
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
        match timeout(PATIENCE, send(delivery, link, batch.clone())).await {
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
    // What an earlier run left is stored now.
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
    /// The first batch goes out with the stream: a server may answer only when it has seen one.
    async fn open(link: &Link, first: ReportUsageRequest) -> Result<Delivery, tonic::Status> {
        let run_id = first.run_id.clone();
        let (out, outgoing) = mpsc::channel(1);
        let closed = |_| tonic::Status::internal("the stream ended before it began");
        out.send(first).await.map_err(closed)?;
        let mut client = UsageServiceClient::new(link.channel.clone());
        let request = link.bearer.authorise(ReceiverStream::new(outgoing));
        let acknowledged = client.report_usage(request).await?.into_inner();
        Ok(Delivery { run_id, out, acknowledged })
    }
}

fn keep(backlog: &mut Backlog, path: &std::path::Path) {
    let left = backlog.freeze(clock::now());
    let kept = if left.is_empty() { files::remove(path) } else { files::write(path, &left) };
    match kept {
        Ok(()) if !left.is_empty() => {
            tracing::info!(records = backlog.len(), "saved unsent usage for the next start")
        }
        Ok(()) => {}
        Err(error) => tracing::error!(path = %path.display(), %error, "cannot save unsent usage"),
    }
}
