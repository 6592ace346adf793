//! The tasks of an edge beside the path of calls, and how they end. It must not know how they are put together.

use std::sync::Arc;
use std::time::Duration;

use inbound::tls;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::audit::AuditReporter;
use crate::limits::LeaseKeeper;
use crate::os::clock;
use crate::session::TerminatedFile;
use crate::snapshot::Current;
use crate::snapshot::client::Client;
use crate::snapshot::disk::Saver;
use crate::usage::Reporter;

/// Says when the edge takes traffic, as `/readyz` does.
async fn announce_ready(current: Arc<Current>) {
    current.ready().await;
    while !current.is_trust_fresh(clock::now()) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tracing::info!("the edge is ready");
}

/// The tasks beside the path of calls.
pub(super) struct Background {
    pub(super) current: Arc<Current>,
    pub(super) client: Client,
    pub(super) saver: Saver,
    pub(super) terminated: TerminatedFile,
    pub(super) reporter: Reporter,
    pub(super) keeper: Option<LeaseKeeper>,
    pub(super) audit: AuditReporter,
    pub(super) certificate: Option<(tls::Certificate, Arc<Notify>)>,
}

impl Background {
    /// Runs until the last worker has ended and its usage is delivered or kept.
    pub(super) async fn run(mut self) {
        let saver = tokio::spawn(self.saver.run());
        let client = tokio::spawn(self.client.run());
        tokio::spawn(announce_ready(self.current));
        let calls_ended = CancellationToken::new();
        if let Some((certificate, asked)) = self.certificate {
            tokio::spawn(certificate.keep_renewed(asked));
        }
        let keeper = self.keeper.map(|keeper| tokio::spawn(keeper.run(calls_ended.clone())));
        let audit = tokio::spawn(self.audit.run(calls_ended.clone()));
        tokio::select! {
            () = self.reporter.run() => {}
            never = self.terminated.run() => match never {},
        }
        self.terminated.save().await;
        calls_ended.cancel();
        if let Some(keeper) = keeper {
            let _ = keeper.await;
        }
        let _ = audit.await;
        // Aborting the client drops the images, which ends the saver after the last one is written.
        client.abort();
        let _ = client.await;
        let _ = saver.await;
    }
}
