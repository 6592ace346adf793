//! Delivery of records to a control plane, each batch until it is acknowledged, and stored once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};
use trunkline::admin::v1::audit_service_client::AuditServiceClient;
use trunkline::admin::v1::{ReportAuditRequest, ReportAuditResponse};

use super::AuditLog;
use crate::snapshot::client::Link;

const REPORT_EVERY: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of delivering when the edge stops. The rest is lost.
const FINAL_DELIVERY: Duration = Duration::from_secs(3);
/// Records of one batch.
const BATCH: usize = 500;

/// A task that delivers records, for as long as the edge runs.
#[derive(Debug)]
pub struct AuditReporter {
    log: Arc<AuditLog>,
    link: watch::Receiver<Option<Link>>,
    run_id: String,
    sequence: i64,
    /// Perhaps stored already: it never changes.
    unacknowledged: Option<ReportAuditRequest>,
    delivery: Option<RecordDelivery>,
}

/// A stream on which batches are delivered one after the other.
#[derive(Debug)]
struct RecordDelivery {
    out: mpsc::Sender<ReportAuditRequest>,
    acknowledged: Streaming<ReportAuditResponse>,
}

impl AuditReporter {
    /// Delivers what is in this log over `link`.
    pub fn new(log: Arc<AuditLog>, link: watch::Receiver<Option<Link>>) -> Self {
        let run_id = uuid::Uuid::now_v7().to_string();
        Self { log, link, run_id, sequence: 0, unacknowledged: None, delivery: None }
    }

    /// Runs until the calls have ended, then delivers the rest.
    pub async fn run(mut self, calls_ended: CancellationToken) {
        let mut tick = interval(REPORT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.deliver(false).await,
                () = calls_ended.cancelled() => break,
            }
        }
        let _ = timeout(FINAL_DELIVERY, self.deliver(true)).await;
        let sent = self.unacknowledged.map_or(0, |batch| batch.records.len());
        let lost = sent + self.log.take(usize::MAX / 2, true).len();
        if lost > 0 {
            tracing::error!(
                records = lost,
                "lost audit records: no control plane took them before the edge ended"
            );
        }
    }

    /// Sends batch after batch, each when the one before is stored, until none waits or one fails.
    async fn deliver(&mut self, all: bool) {
        let Some(link) = self.link.borrow().clone() else { return };
        while let Some(batch) = self.next(all) {
            match timeout(TIMEOUT, self.send(&link, batch)).await {
                Ok(Ok(set_aside)) => self.acknowledged(set_aside),
                Ok(Err(status)) if matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) => {
                    tracing::error!(code = %status.code(), reason = status.message(), "lost audit records: the control plane does not take them");
                    self.delivery = None;
                    let lost = self.unacknowledged.take().map_or(0, |batch| batch.records.len());
                    self.log.lose(u64::try_from(lost).unwrap_or(u64::MAX));
                }
                // One of before this takes none.
                Ok(Err(status)) => {
                    tracing::debug!(code = %status.code(), reason = status.message(), "cannot deliver audit records");
                    self.delivery = None;
                    return;
                }
                Err(_) => {
                    tracing::debug!("audit records were not acknowledged in time");
                    self.delivery = None;
                    return;
                }
            }
        }
    }

    /// The batch that is to be sent, or sent again.
    fn next(&mut self, all: bool) -> Option<ReportAuditRequest> {
        if self.unacknowledged.is_none() {
            let records = self.log.take(BATCH, all);
            if records.is_empty() {
                return None;
            }
            self.sequence += 1;
            let (run_id, sequence) = (self.run_id.clone(), self.sequence);
            self.unacknowledged = Some(ReportAuditRequest { run_id, sequence, records });
        }
        self.unacknowledged.clone()
    }

    fn acknowledged(&mut self, set_aside: u64) {
        self.unacknowledged = None;
        if set_aside > 0 {
            tracing::error!(
                records = set_aside,
                "lost audit records: the control plane set them aside; its log says why"
            );
            self.log.lose(set_aside);
        }
    }

    /// Sends a batch and waits until it is stored. Returns how many of its records were set aside.
    async fn send(&mut self, link: &Link, batch: ReportAuditRequest) -> Result<u64, tonic::Status> {
        let sequence = batch.sequence;
        let closed = || tonic::Status::unavailable("the control plane ended the stream");
        let stream = match &mut self.delivery {
            Some(open) => {
                open.out.send(batch).await.map_err(|_| closed())?;
                open
            }
            none => none.insert(RecordDelivery::open(link, batch).await?),
        };
        loop {
            let answer = stream.acknowledged.message().await?.ok_or_else(closed)?;
            if answer.acked_sequence >= sequence {
                return Ok(u64::try_from(answer.set_aside_records).unwrap_or(0));
            }
        }
    }
}

impl RecordDelivery {
    /// Opens a stream with its first batch, because a server may answer only when it has seen one.
    async fn open(link: &Link, first: ReportAuditRequest) -> Result<Self, tonic::Status> {
        let (out, outgoing) = mpsc::channel(1);
        let closed = |_| tonic::Status::internal("the stream ended before it began");
        out.send(first).await.map_err(closed)?;
        let mut client = AuditServiceClient::new(link.channel.clone());
        let request = link.credential.authorise(ReceiverStream::new(outgoing));
        let acknowledged = client.report_audit(request).await?.into_inner();
        Ok(Self { out, acknowledged })
    }
}
