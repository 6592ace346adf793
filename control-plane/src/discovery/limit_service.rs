//! `LimitService`: shares the rates and quotas of tokens out among the edges that use them.
//!
//! Quotas are counted in the database, for all replicas; rates are shared by each replica among its edges, of which it has a part. It must
//! not know how edges count.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use access::limit::{Limit, LimitKind, Period};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use trunkline::policy::v1::limit_service_server::LimitService;
use trunkline::policy::v1::{LeaseLimitsRequest, LeaseLimitsResponse, LimitDemand, LimitLease};

use super::authenticate::{edge, ended};
use super::edge_counts::{EdgeCounter, EdgeCounts};
use super::enrollment_watch::{StreamPurpose, WatchedStream};
use super::fleet::Fleet;
use super::limit_buckets::LimitBuckets;
use super::rate_parts::{PartDemand, RateParts};
use super::rate_shares::{RateShares, SharedRate, TTL};
use crate::auth::credential::EdgeClaims;
use crate::clock;
use crate::error::Error;
use crate::store::Store;
use crate::store::quotas::{QuotaDemand, QuotaGrant, Quotas};

/// Longest name of a run, in bytes.
const MAX_RUN_ID: usize = 128;
/// Demands of a request.
const MAX_DEMANDS: usize = 2_000;
/// Of what is left of a quota, all edges together hold one part in so many.
const PART: i64 = 4;
/// Buckets of quotas that a replica remembers an edge to have leased from, so that it may give back.
const MAX_HELD: usize = 100_000;
/// The calls that an edge may have let through before they were leased.
const MOST_ON_CREDIT: i64 = 16;
/// Edges whose runs a replica remembers.
const MAX_RUNS: usize = 10_000;

/// The service.
#[derive(Debug, Clone)]
pub struct LimitLeases(Arc<SharedLimits>);

#[derive(Debug)]
struct SharedLimits {
    fleet: Arc<Fleet>,
    edges: EdgeCounter,
    buckets: LimitBuckets,
    quotas: Quotas,
    parts: RateParts,
    rates: Mutex<RateShares>,
    runs: Mutex<HashMap<String, Run>>,
}

/// The present run of an edge, as far as it was served here.
#[derive(Debug, Default)]
struct Run {
    id: String,
    /// The last request, and its answer.
    sequence: i64,
    leases: Vec<LimitLease>,
    /// What was leased of quotas and not used, by bucket.
    held: HashMap<String, Held>,
}

/// Calls of a period that were leased, and are neither used nor given back.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    start_us: i64,
    calls: i64,
}

type Answers = mpsc::Sender<Result<LeaseLimitsResponse, Status>>;

impl LimitLeases {
    /// Shares the limits of the tokens of this registry out among the edges of this fleet. Replicas agree on rates in Redis, if there is
    /// one.
    pub fn new(store: &Store, fleet: Arc<Fleet>, redis: Option<redis::Client>) -> Self {
        Self(Arc::new(SharedLimits {
            edges: EdgeCounter::new(fleet.clone()),
            buckets: LimitBuckets::new(store.clone()),
            quotas: Quotas::new(store),
            parts: RateParts::new(fleet.replica.clone(), redis),
            rates: Mutex::default(),
            runs: Mutex::default(),
            fleet,
        }))
    }
}

impl SharedLimits {
    async fn serve(
        self: Arc<Self>,
        claims: EdgeClaims,
        watched: WatchedStream,
        mut requests: Streaming<LeaseLimitsRequest>,
        out: Answers,
    ) {
        loop {
            let request = tokio::select! {
                biased;
                error = watched.over() => Err(error.into()),
                request = requests.message() => request,
            };
            let answer = match request {
                Ok(Some(request)) => self.answer(&claims, request).await.map_err(Status::from),
                Ok(None) => return,
                Err(status) => Err(status),
            };
            let is_last = answer.is_err();
            if out.send(answer).await.is_err() || is_last {
                return;
            }
        }
    }

    async fn answer(
        &self,
        claims: &EdgeClaims,
        request: LeaseLimitsRequest,
    ) -> Result<LeaseLimitsResponse, Error> {
        check(&request)?;
        // Another replica may have ended the enrolment just now.
        if !self.fleet.knows(claims).await? {
            return Err(ended(&claims.sub));
        }
        let sequence = request.sequence;
        if let Some(leases) = self.answered(&claims.sub, &request) {
            return Ok(LeaseLimitsResponse { sequence, leases });
        }
        let leases = self.lease(&claims.sub, &request).await?;
        self.note(&claims.sub, &request, &leases);
        Ok(LeaseLimitsResponse { sequence, leases })
    }

    /// The answer to a request that was taken already.
    fn answered(&self, edge: &str, request: &LeaseLimitsRequest) -> Option<Vec<LimitLease>> {
        let runs = self.runs();
        let run = runs.get(edge).filter(|run| run.id == request.run_id)?;
        let is_last = run.sequence == request.sequence;
        let leases = || if is_last { run.leases.clone() } else { Vec::new() };
        (request.sequence <= run.sequence).then(leases)
    }

    async fn lease(&self, edge: &str, request: &LeaseLimitsRequest) -> Result<Vec<LimitLease>, Error> {
        let names: Vec<&str> = request.demands.iter().map(|demand| demand.bucket.as_str()).collect();
        let limits = self.buckets.limits(&names).await?;
        let known = request.demands.iter().zip(limits).filter_map(|(demand, limit)| Some((demand, limit?)));
        let (rates, quotas): (Vec<_>, Vec<_>) = known.partition(|(_, limit)| limit.kind == LimitKind::Rate);
        let edges = self.edges.count().await?;
        let mut leases = self.lease_rates(&format!("{edge}/{}", request.run_id), &rates, edges).await;
        leases.extend(self.lease_quotas(edge, &request.run_id, &quotas, edges).await?);
        Ok(leases)
    }

    async fn lease_rates(
        &self,
        run: &str,
        demands: &[(&LimitDemand, Limit)],
        edges: EdgeCounts,
    ) -> Vec<LimitLease> {
        let parts = self.parts.of(&self.part_demands(run, demands), edges).await;
        let (mut rates, now) = (self.rates(), Instant::now());
        let ttl = prost_types::Duration::try_from(TTL).ok();
        let lease = |((demand, limit), per_second): (&(&LimitDemand, Limit), f64)| {
            let rate =
                SharedRate { per_second, burst: limit.calls as f64 * per_second / each_second(*limit) };
            let share = rates.give(&demand.bucket, run, rate, demand.wanted, now);
            LimitLease {
                bucket: demand.bucket.clone(),
                milli_per_second: share.milli_per_second,
                burst: share.burst,
                ttl,
                ..LimitLease::default()
            }
        };
        demands.iter().zip(parts).map(lease).collect()
    }

    fn part_demands<'a>(&self, run: &str, demands: &[(&'a LimitDemand, Limit)]) -> Vec<PartDemand<'a>> {
        let (rates, now) = (self.rates(), Instant::now());
        let part = |(demand, limit): &(&'a LimitDemand, Limit)| {
            let (others, in_force) = rates.standing(&demand.bucket, run, now);
            PartDemand {
                bucket: &demand.bucket,
                per_second: each_second(*limit),
                wanted: others + demand.wanted.max(0) as f64,
                in_force,
            }
        };
        demands.iter().map(part).collect()
    }

    async fn lease_quotas(
        &self,
        edge: &str,
        run: &str,
        demands: &[(&LimitDemand, Limit)],
        edges: EdgeCounts,
    ) -> Result<Vec<LimitLease>, Error> {
        if demands.is_empty() {
            return Ok(Vec::new());
        }
        let now_s = clock::now_us().div_euclid(1_000_000);
        let periods: Vec<(i64, i64)> = demands.iter().map(|(_, limit)| limit.period.bounds(now_s)).collect();
        let asked: Vec<QuotaDemand> = demands
            .iter()
            .zip(&periods)
            .map(|((demand, limit), (start_s, _))| {
                let start_us = start_s.saturating_mul(1_000_000);
                let held = self.held(edge, run, demand, start_us);
                let returned = demand.returned.clamp(0, held.max(0));
                QuotaDemand {
                    bucket: demand.bucket.clone(),
                    start_us,
                    limit: i64::try_from(limit.calls).unwrap_or(i64::MAX),
                    wanted: demand.wanted.max(0),
                    part: PART.saturating_mul(edges.all),
                    held: held - returned,
                    returned,
                }
            })
            .collect();
        let grants = self.quotas.lease(&asked).await.map_err(Error::from)?;
        let lease = |((demand, (_, end_s)), grant): ((&QuotaDemand, &(i64, i64)), QuotaGrant)| LimitLease {
            bucket: demand.bucket.clone(),
            calls: grant.calls,
            period_end_time: Some(clock::timestamp(end_s.saturating_mul(1_000_000))),
            remaining: grant.remaining,
            ..LimitLease::default()
        };
        self.remember(edge, run, &asked, &grants);
        Ok(asked.iter().zip(&periods).zip(grants).map(lease).collect())
    }

    /// What a run holds of this period, by what it was leased here and says to have used: nobody makes a quota larger by giving back what
    /// is not theirs.
    fn held(&self, edge: &str, run: &str, demand: &LimitDemand, start_us: i64) -> i64 {
        let runs = self.runs();
        let known =
            runs.get(edge).filter(|known| known.id == run).and_then(|known| known.held.get(&demand.bucket));
        let held = known.filter(|held| held.start_us == start_us).map_or(0, |held| held.calls);
        held.saturating_sub(demand.spent.max(0)).max(-MOST_ON_CREDIT)
    }

    /// Remembers what a run holds from now on.
    fn remember(&self, edge: &str, run: &str, demands: &[QuotaDemand], grants: &[QuotaGrant]) {
        let mut runs = self.runs();
        let known = begin(&mut runs, edge, run);
        if known.held.len() > MAX_HELD {
            known.held.clear();
        }
        for (demand, grant) in demands.iter().zip(grants) {
            let held = Held { start_us: demand.start_us, calls: demand.held + grant.calls };
            known.held.insert(demand.bucket.clone(), held);
        }
    }

    /// Notes a request that was answered, in case the answer does not arrive.
    fn note(&self, edge: &str, request: &LeaseLimitsRequest, leases: &[LimitLease]) {
        let mut runs = self.runs();
        let run = begin(&mut runs, edge, &request.run_id);
        (run.sequence, run.leases) = (request.sequence, leases.to_vec());
    }

    fn rates(&self) -> MutexGuard<'_, RateShares> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<String, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes on with the run of an edge, or begins another one.
fn begin<'a>(runs: &'a mut HashMap<String, Run>, edge: &str, id: &str) -> &'a mut Run {
    if runs.len() >= MAX_RUNS && !runs.contains_key(edge) {
        runs.clear();
    }
    let run = runs.entry(edge.to_owned()).or_default();
    if run.id != id {
        *run = Run { id: id.to_owned(), ..Run::default() };
    }
    run
}

/// The calls a second of a rate.
fn each_second(limit: Limit) -> f64 {
    limit.calls as f64 / if limit.period == Period::Second { 1.0 } else { 60.0 }
}

fn check(request: &LeaseLimitsRequest) -> Result<(), Error> {
    if request.run_id.is_empty() || request.run_id.len() > MAX_RUN_ID {
        return Err(Error::field("run_id", format!("must have 1 to {MAX_RUN_ID} bytes")));
    }
    if request.sequence < 1 {
        return Err(Error::field("sequence", "must count up from 1"));
    }
    if request.demands.len() > MAX_DEMANDS {
        return Err(Error::field("demands", format!("has more than {MAX_DEMANDS} entries")));
    }
    Ok(())
}

#[tonic::async_trait]
impl LimitService for LimitLeases {
    type LeaseLimitsStream = Pin<Box<dyn Stream<Item = Result<LeaseLimitsResponse, Status>> + Send>>;

    async fn lease_limits(
        &self,
        request: Request<Streaming<LeaseLimitsRequest>>,
    ) -> Result<Response<Self::LeaseLimitsStream>, Status> {
        let claims = edge(&request)?;
        let watched = self.0.fleet.watch(&claims, StreamPurpose::Limits).await?;
        let (out, answers) = mpsc::channel(4);
        tokio::spawn(self.0.clone().serve(claims, watched, request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}
