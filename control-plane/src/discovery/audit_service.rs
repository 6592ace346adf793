//! `AuditService`: takes records from edges, and shows all to those who may see them.
//!
//! It must not know how changes are recorded.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use inbound::LineLimit;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use trunkline::admin::v1::audit_service_server::AuditService;
use trunkline::admin::v1::{
    AuditFilter, AuditRecord, ExportAuditRequest, ExportAuditResponse, ListAuditRecordsRequest,
    ListAuditRecordsResponse, ReportAuditRequest, ReportAuditResponse, VerifyAuditRequest,
    VerifyAuditResponse,
};

use super::audit_bounds::check;
use super::authenticate::{edge, ended};
use super::enrollment_watch::{StreamPurpose, WatchedStream};
use super::fleet::Fleet;
use super::page::Pages;
use crate::audit::verify;
use crate::auth::audit_seal::AuditSeals;
use crate::auth::credential::EdgeClaims;
use crate::auth::vault::Vault;
use crate::clock;
use crate::error::Error;
use crate::store::Store;
use crate::store::audit::AuditQuery;

/// Records of one response of an export.
const PART: i64 = 200;
/// The longest text to look for, in bytes.
const MAX_TEXT: usize = 2_048;

/// The service.
#[derive(Debug, Clone)]
pub struct AuditApi {
    store: Store,
    fleet: Arc<Fleet>,
    seals: AuditSeals,
    pages: Pages,
    set_aside: Arc<AtomicU64>,
    lines: Arc<LineLimit<String>>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl AuditApi {
    /// Shows the log of this database, and takes records from edges of this fleet.
    pub fn new(store: Store, fleet: Arc<Fleet>, seals: AuditSeals, vault: Arc<Vault>) -> Self {
        let pages = Pages::new(vault, "page of audit records");
        Self { store, fleet, seals, pages, set_aside: Arc::default(), lines: Arc::new(LineLimit::new()) }
    }

    /// The records of edges that this replica has set aside, because they cannot be right.
    pub fn set_aside(&self) -> u64 {
        self.set_aside.load(Ordering::Relaxed)
    }

    async fn take(
        self,
        claims: EdgeClaims,
        watched: WatchedStream,
        mut batches: Streaming<ReportAuditRequest>,
        out: mpsc::Sender<Result<ReportAuditResponse, Status>>,
    ) {
        loop {
            let batch = tokio::select! {
                biased;
                error = watched.over() => Err(error.into()),
                batch = batches.message() => batch,
            };
            let answer = match batch {
                Ok(Some(batch)) => self.store_batch(&claims, batch).await,
                Ok(None) => return,
                Err(status) => Err(status),
            };
            let ended = answer.is_err();
            if out.send(answer).await.is_err() || ended {
                return;
            }
        }
    }

    async fn store_batch(
        &self,
        claims: &EdgeClaims,
        mut batch: ReportAuditRequest,
    ) -> Result<ReportAuditResponse, Status> {
        let set_aside = check(&mut batch, &claims.sub, clock::now_us())?;
        // Another replica may have ended the enrolment just now.
        if !self.fleet.knows(claims).await? {
            return Err(ended(&claims.sub).into());
        }
        let acked_sequence = self.store.append_audit_of(&claims.sub, batch).await.map_err(Error::from)?;
        let set_aside_records = set_aside.map_or(0, |set_aside| self.count(&claims.sub, set_aside));
        Ok(ReportAuditResponse { acked_sequence, set_aside_records })
    }

    /// Counts what was set aside. Returns the number of records.
    fn count(&self, edge: &str, (records, reason): (u64, &'static str)) -> i64 {
        self.set_aside.fetch_add(records, Ordering::Relaxed);
        if let Some(times) = self.lines.count(edge.to_owned()) {
            tracing::warn!(edge, records, reason, times, "set aside audit records that cannot be right");
        }
        i64::try_from(records).unwrap_or(i64::MAX)
    }

    async fn export(self, filter: AuditFilter, out: mpsc::Sender<Result<ExportAuditResponse, Status>>) {
        let mut query = AuditQuery { filter, limit: PART, ..AuditQuery::default() };
        loop {
            let answer = self.store.audit_records(&query).await;
            let records = match answer {
                Ok(records) => records,
                Err(error) => return drop(out.send(Err(Error::from(error).into())).await),
            };
            let Some(last) = records.last() else { return };
            query.filter.after_sequence = last.sequence;
            let is_last = (records.len() as i64) < PART;
            if out.send(Ok(ExportAuditResponse { records })).await.is_err() || is_last {
                return;
            }
        }
    }
}

/// Checks what is looked for. Absent: everything.
fn checked(filter: Option<AuditFilter>) -> Result<AuditFilter, Error> {
    let filter = filter.unwrap_or_default();
    for (field, text) in [
        ("actor", &filter.actor),
        ("action", &filter.action),
        ("resource", &filter.resource),
        ("reason", &filter.reason),
    ] {
        if text.len() > MAX_TEXT || text.contains('\0') {
            let text = format!("must have at most {MAX_TEXT} bytes, without NUL");
            return Err(Error::field(&format!("filter.{field}"), text));
        }
    }
    Ok(filter)
}

#[tonic::async_trait]
impl AuditService for AuditApi {
    type VerifyAuditStream = Answers<VerifyAuditResponse>;
    type ExportAuditStream = Answers<ExportAuditResponse>;
    type ReportAuditStream = Answers<ReportAuditResponse>;

    async fn list_audit_records(
        &self,
        request: Request<ListAuditRecordsRequest>,
    ) -> Result<Response<ListAuditRecordsResponse>, Status> {
        let request = request.into_inner();
        let size = Pages::size(request.page_size)?;
        let after = self.pages.after(&request.page_token)?;
        let query = AuditQuery {
            filter: checked(request.filter)?,
            before: after.parse().unwrap_or(0),
            newest_first: true,
            limit: size + 1,
        };
        let found = self.store.audit_records(&query).await.map_err(Error::from)?;
        let mut found: Vec<(String, AuditRecord)> =
            found.into_iter().map(|record| (record.sequence.to_string(), record)).collect();
        let next_page_token = self.pages.cut(&mut found, size, |(sequence, _)| sequence)?;
        let records = found.into_iter().map(|(_, record)| record).collect();
        Ok(Response::new(ListAuditRecordsResponse { records, next_page_token }))
    }

    async fn verify_audit(
        &self,
        _: Request<VerifyAuditRequest>,
    ) -> Result<Response<Self::VerifyAuditStream>, Status> {
        let (out, answers) = mpsc::channel(16);
        let (progress, mut told) = mpsc::channel(16);
        let this = self.clone();
        tokio::spawn(async move {
            let walk = async {
                // Dropped at the end, so that what was told comes before what was found.
                let progress = progress;
                verify(&this.store, &this.seals, &progress).await
            };
            let tell = async {
                while let Some(response) = told.recv().await {
                    if out.send(Ok(response)).await.is_err() {
                        // Nobody listens: the walk ends when it tells the next.
                        return told.close();
                    }
                }
            };
            let (found, ()) = tokio::join!(walk, tell);
            let found = found.map_err(|error| Status::from(Error::from(error)));
            drop(out.send(found).await);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn export_audit(
        &self,
        request: Request<ExportAuditRequest>,
    ) -> Result<Response<Self::ExportAuditStream>, Status> {
        let filter = checked(request.into_inner().filter)?;
        let (out, answers) = mpsc::channel(4);
        tokio::spawn(self.clone().export(filter, out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn report_audit(
        &self,
        request: Request<Streaming<ReportAuditRequest>>,
    ) -> Result<Response<Self::ReportAuditStream>, Status> {
        let claims = edge(&request)?;
        let watched = self.fleet.watch(&claims, StreamPurpose::Audit).await?;
        let (out, answers) = mpsc::channel(4);
        tokio::spawn(self.clone().take(claims, watched, request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}
