//! `UsageService`: takes counted calls from edges, and sums them for people.
//!
//! It must not know how edges count.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use trunkline::telemetry::v1::usage_service_server::UsageService;
use trunkline::telemetry::v1::{
    QueryUsageRequest, QueryUsageResponse, ReportUsageRequest, ReportUsageResponse,
};

use super::authenticate::{edge, ended};
use super::enrollment_watch::WatchedStream;
use super::fleet::Fleet;
use crate::auth::credential::EdgeClaims;
use crate::clock;
use crate::error::Error;
use crate::store::usage::{UsageQuery, UsageTable};

const MAX_RUN_ID: usize = 128;
/// The records of a batch: an edge sends 2,000.
const MAX_RECORDS: usize = 10_000;
const MAX_SUMS: i64 = 10_000;

/// The service.
#[derive(Debug, Clone)]
pub struct Usage {
    table: UsageTable,
    fleet: Arc<Fleet>,
}

type Acknowledgements = mpsc::Sender<Result<ReportUsageResponse, Status>>;

impl Usage {
    /// Counts into this table what edges of this fleet report.
    pub fn new(table: UsageTable, fleet: Arc<Fleet>) -> Self {
        Self { table, fleet }
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
                () = watched.ended() => Err(ended(&claims.sub).into()),
                batch = batches.message() => batch,
            };
            let answer = match batch {
                Ok(Some(batch)) => self.store(&claims, &batch).await,
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
        batch: &ReportUsageRequest,
    ) -> Result<ReportUsageResponse, Status> {
        if batch.run_id.is_empty() || batch.run_id.len() > MAX_RUN_ID {
            return Err(Error::field("run_id", format!("must have 1 to {MAX_RUN_ID} bytes")).into());
        }
        if batch.sequence < 1 {
            return Err(Error::field("sequence", "must count up from 1").into());
        }
        if batch.records.len() > MAX_RECORDS {
            return Err(Error::field("records", format!("has more than {MAX_RECORDS} entries")).into());
        }
        // Another replica may have ended the enrolment just now.
        if !self.fleet.knows(claims).await.map_err(Error::from)? {
            return Err(ended(&claims.sub).into());
        }
        let acked_sequence = self.table.store(&claims.sub, batch).await.map_err(Error::from)?;
        Ok(ReportUsageResponse { acked_sequence })
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
        let watched = self.fleet.watch(&claims).await.map_err(Error::from)?;
        let watched = watched.ok_or_else(|| ended(&claims.sub))?;
        let (out, answers) = mpsc::channel(4);
        tokio::spawn(self.clone().take(claims, watched, request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn query_usage(
        &self,
        request: Request<QueryUsageRequest>,
    ) -> Result<Response<QueryUsageResponse>, Status> {
        let request = request.into_inner();
        let query = UsageQuery {
            start_us: request.start_time.as_ref().map_or(0, clock::micros),
            end_us: request.end_time.as_ref().map_or_else(clock::now_us, clock::micros),
            server: request.server,
            token: request.token,
            limit: MAX_SUMS,
        };
        let records = self.table.query(&query).await.map_err(Error::from)?;
        Ok(Response::new(QueryUsageResponse { records }))
    }
}
