//! What records are delivered to a control plane, and what becomes of those that are not.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use trunkline::admin::v1::audit_service_client::AuditServiceClient;
use trunkline::admin::v1::{ReportAuditRequest, ReportAuditResponse};

use super::AuditLog;
use crate::delivery::{Batch, BatchDelivery, Outbox};
use crate::snapshot::client::Link;

const REPORT_EVERY: Duration = Duration::from_secs(1);
/// The time limit of delivering when the edge stops. The rest is lost.
const FINAL_DELIVERY: Duration = Duration::from_secs(3);
/// Records of one batch.
const BATCH: usize = 500;

/// A task that delivers records, for as long as the edge runs.
#[derive(Debug)]
pub struct AuditReporter {
    outgoing: UnstoredRecords,
    link: watch::Receiver<Option<Link>>,
    delivery: BatchDelivery<ReportAuditRequest>,
}

/// The records that are to be delivered.
#[derive(Debug)]
struct UnstoredRecords {
    log: Arc<AuditLog>,
    run_id: String,
    sequence: i64,
    /// Perhaps stored already: it never changes.
    unacknowledged: Option<ReportAuditRequest>,
    /// Whether what is repeated is told now.
    all: bool,
}

impl AuditReporter {
    /// Delivers what is in this log over `link`.
    pub fn new(log: Arc<AuditLog>, link: watch::Receiver<Option<Link>>) -> Self {
        let run_id = uuid::Uuid::now_v7().to_string();
        let outgoing = UnstoredRecords { log, run_id, sequence: 0, unacknowledged: None, all: false };
        Self { outgoing, link, delivery: BatchDelivery::default() }
    }

    /// Runs until the calls have ended, then delivers the rest.
    pub async fn run(mut self, calls_ended: CancellationToken) {
        let mut tick = interval(REPORT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.deliver().await,
                () = calls_ended.cancelled() => break,
            }
        }
        self.outgoing.all = true;
        let _ = timeout(FINAL_DELIVERY, self.deliver()).await;
        let lost = self.outgoing.give_up();
        if lost > 0 {
            tracing::error!(
                records = lost,
                "lost audit records: no control plane took them before the edge ended"
            );
        }
    }

    async fn deliver(&mut self) {
        let Some(link) = self.link.borrow().clone() else { return };
        self.delivery.deliver(&mut self.outgoing, &link).await;
    }
}

impl UnstoredRecords {
    /// Takes all that is left. Returns how many records that is.
    fn give_up(self) -> usize {
        let sent = self.unacknowledged.map_or(0, |batch| batch.records.len());
        sent + self.log.take(usize::MAX / 2, true).len()
    }
}

impl Outbox for UnstoredRecords {
    type Batch = ReportAuditRequest;

    fn next(&mut self) -> Option<ReportAuditRequest> {
        if self.unacknowledged.is_none() {
            let records = self.log.take(BATCH, self.all);
            if records.is_empty() {
                return None;
            }
            self.sequence += 1;
            let (run_id, sequence) = (self.run_id.clone(), self.sequence);
            self.unacknowledged = Some(ReportAuditRequest { run_id, sequence, records });
        }
        self.unacknowledged.clone()
    }

    fn stored(&mut self, _: &ReportAuditRequest, set_aside: u64) {
        self.unacknowledged = None;
        if set_aside > 0 {
            tracing::error!(
                records = set_aside,
                "lost audit records: the control plane set them aside; its log says why"
            );
            self.log.lose(set_aside);
        }
    }

    fn refused(&mut self, batch: &ReportAuditRequest, status: &Status) {
        tracing::error!(code = %status.code(), reason = status.message(), "lost audit records: the control plane does not take them");
        self.unacknowledged = None;
        self.log.lose(u64::try_from(batch.records.len()).unwrap_or(u64::MAX));
    }

    fn failed(&self, status: Option<&Status>) {
        match status {
            // One of before this takes none.
            Some(status) => {
                tracing::debug!(code = %status.code(), reason = status.message(), "cannot deliver audit records");
            }
            None => tracing::debug!("audit records were not acknowledged in time"),
        }
    }
}

impl Batch for ReportAuditRequest {
    type Answer = ReportAuditResponse;

    fn run_id(&self) -> &str {
        &self.run_id
    }

    fn sequence(&self) -> i64 {
        self.sequence
    }

    fn acknowledged(answer: &ReportAuditResponse) -> (i64, i64) {
        (answer.acked_sequence, answer.set_aside_records)
    }

    async fn open(
        link: &Link,
        batches: ReceiverStream<Self>,
    ) -> Result<Streaming<ReportAuditResponse>, Status> {
        let mut client = AuditServiceClient::new(link.channel.clone());
        Ok(client.report_audit(link.credential.authorise(batches)).await?.into_inner())
    }
}
