//! `UsageService`: takes counted calls from edges, and sums them for people.
//!
//! It must not know how edges count.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use inbound::LineLimit;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use trunkline::common::v1::Permission;
use trunkline::telemetry::v1::usage_service_server::UsageService;
use trunkline::telemetry::v1::{
    ListLastUsesRequest, ListLastUsesResponse, QueryUsageRequest, QueryUsageResponse, ReportUsageRequest,
    ReportUsageResponse,
};

use super::authenticate::{edge, ended};
use super::enrollment_watch::{StreamPurpose, WatchedStream};
use super::fleet::Fleet;
use super::usage_bounds::{SetAside, check};
use crate::auth::caller::Caller;
use crate::auth::credential::EdgeClaims;
use crate::clock;
use crate::error::Error;
use crate::store::Viewer;
use crate::store::usage::{LastUsesQuery, UsageQuery, UsageTable};

const MAX_SUMS: i64 = 10_000;

/// The service.
#[derive(Debug, Clone)]
pub struct Usage {
    table: UsageTable,
    fleet: Arc<Fleet>,
    /// Age at which counts are forgotten.
    retention: Duration,
    set_aside: Arc<AtomicU64>,
    lines: Arc<LineLimit<String>>,
}

type Acknowledgements = mpsc::Sender<Result<ReportUsageResponse, Status>>;

impl Usage {
    /// Counts into this table what edges of this fleet report, unless it is older than `retention`.
    pub fn new(table: UsageTable, fleet: Arc<Fleet>, retention: Duration) -> Self {
        Self { table, fleet, retention, set_aside: Arc::default(), lines: Arc::new(LineLimit::new()) }
    }

    /// The records that this replica has set aside, because they cannot be counted.
    pub fn set_aside(&self) -> u64 {
        self.set_aside.load(Ordering::Relaxed)
    }

    async fn take(
        self,
        claims: EdgeClaims,
        watched: WatchedStream,
        mut batches: Streaming<ReportUsageRequest>,
        out: Acknowledgements,
    ) {
        loop {
            let batch = tokio::select! {
                biased;
                error = watched.over() => Err(error.into()),
                batch = batches.message() => batch,
            };
            let answer = match batch {
                Ok(Some(batch)) => self.store(&claims, batch).await,
                Ok(None) => return,
                Err(status) => Err(status),
            };
            let ended = answer.is_err();
            if out.send(answer).await.is_err() || ended {
                return;
            }
        }
    }

    async fn store(
        &self,
        claims: &EdgeClaims,
        mut batch: ReportUsageRequest,
    ) -> Result<ReportUsageResponse, Status> {
        let set_aside = check(&mut batch, clock::now_us(), self.retention)?;
        // Another replica may have ended the enrolment just now.
        if !self.fleet.knows(claims).await? {
            return Err(ended(&claims.sub).into());
        }
        let acked_sequence = self.table.store(&claims.sub, &batch).await.map_err(Error::from)?;
        let set_aside_records = set_aside.map_or(0, |set_aside| self.count(&claims.sub, &set_aside));
        Ok(ReportUsageResponse { acked_sequence, set_aside_records })
    }

    /// Counts what was set aside. Returns the number of records.
    fn count(&self, edge: &str, SetAside { records, reason }: &SetAside) -> i64 {
        self.set_aside.fetch_add(*records, Ordering::Relaxed);
        if let Some(times) = self.lines.count(edge.to_owned()) {
            tracing::warn!(edge, records, reason, times, "set aside usage that cannot be counted");
        }
        i64::try_from(*records).unwrap_or(i64::MAX)
    }
}

#[tonic::async_trait]
impl UsageService for Usage {
    type ReportUsageStream = Pin<Box<dyn Stream<Item = Result<ReportUsageResponse, Status>> + Send>>;

    async fn report_usage(
        &self,
        request: Request<Streaming<ReportUsageRequest>>,
    ) -> Result<Response<Self::ReportUsageStream>, Status> {
        let claims = edge(&request)?;
        let watched = self.fleet.watch(&claims, StreamPurpose::Usage).await?;
        let (out, answers) = mpsc::channel(4);
        tokio::spawn(self.clone().take(claims, watched, request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn query_usage(
        &self,
        request: Request<QueryUsageRequest>,
    ) -> Result<Response<QueryUsageResponse>, Status> {
        let rights = Caller::rights(&request);
        let request = request.into_inner();
        let query = UsageQuery {
            start_us: request.start_time.as_ref().map_or(0, clock::micros),
            end_us: request.end_time.as_ref().map_or_else(clock::now_us, clock::micros),
            server: request.server,
            token: request.token,
            limit: MAX_SUMS,
            viewer: Viewer::of(&rights, Permission::UsageRead),
        };
        let records = self.table.query(&query).await.map_err(Error::from)?;
        Ok(Response::new(QueryUsageResponse { records }))
    }

    async fn list_last_uses(
        &self,
        request: Request<ListLastUsesRequest>,
    ) -> Result<Response<ListLastUsesResponse>, Status> {
        let viewer = Viewer::of(&Caller::rights(&request), Permission::UsageRead);
        let ListLastUsesRequest { server, token } = request.into_inner();
        let query = LastUsesQuery { server, token, limit: MAX_SUMS, viewer };
        let last_uses = self.table.last_uses(&query).await.map_err(Error::from)?;
        let since_us = clock::now_us().saturating_sub(clock::duration_us(self.retention));
        Ok(Response::new(ListLastUsesResponse { last_uses, since_time: Some(clock::timestamp(since_us)) }))
    }
}
