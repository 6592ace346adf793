//! The exchange of limits with a control plane: what was spent and is wanted against shares, one request after the other.
//!
//! A request that was not answered is sent again as it was, so that a control plane that has seen it changes nothing. It must not know
//! how shares are counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use trunkline::policy::v1::limit_service_client::LimitServiceClient;
use trunkline::policy::v1::{LeaseLimitsRequest, LeaseLimitsResponse, LimitDemand};

use super::{Bucket, LimitTable};
use crate::snapshot::client::Link;

/// Between two requests for limits that are in use and need nothing at once.
const ROUND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);
/// The time for what is given back when the edge stops.
const FAREWELL: Duration = Duration::from_secs(3);
/// Demands of one request; a control plane refuses more.
const MAX_DEMANDS: usize = 2_000;

/// The task that keeps shares of limits, for as long as the edge runs.
#[derive(Debug)]
pub struct LeaseKeeper {
    table: Arc<LimitTable>,
    asked: mpsc::Receiver<Arc<Bucket>>,
    link: watch::Receiver<Option<Link>>,
    run_id: String,
    sequence: i64,
    /// What was sent and is not answered.
    pending: Option<Pending>,
}

/// A request, and the buckets that it is about.
#[derive(Debug)]
struct Pending {
    request: LeaseLimitsRequest,
    buckets: HashMap<Box<str>, Arc<Bucket>>,
    /// When it was sent first, by the clock of the buckets. Shares are good from then on, however often it is sent: the control plane
    /// counts from when it took it.
    made: u64,
}

/// A stream on which one request after the other is answered.
struct Exchange {
    out: mpsc::Sender<LeaseLimitsRequest>,
    answers: Streaming<LeaseLimitsResponse>,
}

impl LeaseKeeper {
    /// Creates the task for the buckets of `table`, which asks over `link`. `None`: the table has one already.
    pub fn new(table: &Arc<LimitTable>, link: watch::Receiver<Option<Link>>) -> Option<Self> {
        let asked = table.take_asked()?;
        let run_id = uuid::Uuid::now_v7().to_string();
        Some(Self { table: Arc::clone(table), asked, link, run_id, sequence: 0, pending: None })
    }

    /// Runs until `stop`, then gives back what is left of quotas.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.keep() => {}
            }
        }
        if timeout(FAREWELL, self.give_back()).await.is_err() {
            tracing::warn!("what was left of quotas was not given back in time; it is lost for its period");
        }
    }

    /// Asks one control plane until it no longer answers. Safe to cancel: what was sent and not answered stays pending.
    async fn keep(&mut self) {
        let Some(link) = self.linked().await else { return sleep(RETRY).await };
        self.table.set_reachable(true);
        let ended = self.exchange_over(&link).await;
        self.table.set_reachable(false);
        if let Err(status) = ended {
            tracing::debug!(code = %status.code(), reason = status.message(), "cannot lease limits");
            sleep(RETRY).await;
        }
    }

    /// Waits for a control plane.
    async fn linked(&mut self) -> Option<Link> {
        self.link.wait_for(Option::is_some).await.ok()?.clone()
    }

    async fn exchange_over(&mut self, link: &Link) -> Result<(), Status> {
        let (mut exchange, mut gone) = (None, self.link.clone());
        gone.mark_unchanged();
        let mut round = interval(ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.pending.is_none() {
                tokio::select! {
                    _ = gone.changed() => return Ok(()),
                    _ = round.tick() => self.gather_active(),
                    asked = self.asked.recv() => match asked {
                        Some(bucket) => self.gather_asked(bucket),
                        None => return Ok(()),
                    },
                }
            }
            if self.pending.is_some() {
                self.ask(&mut exchange, link).await?;
            }
        }
    }

    /// Makes a request about all that is in use.
    fn gather_active(&mut self) {
        let clock = self.table.clock();
        let active = |bucket: &&Arc<Bucket>| bucket.is_active(clock);
        let mut buckets: Vec<_> =
            self.table.buckets().iter().map(|(_, bucket)| bucket).filter(active).cloned().collect();
        // The others are asked for as soon as calls need them.
        buckets.truncate(MAX_DEMANDS);
        self.gather(buckets);
    }

    /// Makes a request about a bucket and whatever else waits.
    fn gather_asked(&mut self, first: Arc<Bucket>) {
        let more = std::iter::from_fn(|| self.asked.try_recv().ok());
        let buckets = std::iter::once(first).chain(more).take(MAX_DEMANDS).collect();
        self.gather(buckets);
    }

    fn gather(&mut self, buckets: Vec<Arc<Bucket>>) {
        let clock = self.table.clock();
        let buckets: HashMap<_, _> = buckets.into_iter().map(|bucket| (bucket.key.clone(), bucket)).collect();
        let demands = buckets.values().map(|bucket| bucket.demand(clock)).collect();
        self.begin(demands, buckets);
    }

    fn begin(&mut self, demands: Vec<LimitDemand>, buckets: HashMap<Box<str>, Arc<Bucket>>) {
        if demands.is_empty() {
            return;
        }
        self.sequence += 1;
        let request = LeaseLimitsRequest { run_id: self.run_id.clone(), sequence: self.sequence, demands };
        self.pending = Some(Pending { request, buckets, made: self.table.clock().now });
    }

    /// Sends what is pending, and applies the answer.
    async fn ask(&mut self, exchange: &mut Option<Exchange>, link: &Link) -> Result<(), Status> {
        let Some(pending) = &self.pending else { return Ok(()) };
        let answered = timeout(TIMEOUT, answer(exchange, link, pending.request.clone())).await;
        let answer = answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))?;
        let clock = self.table.clock();
        for lease in &answer.leases {
            if let Some(bucket) = pending.buckets.get(lease.bucket.as_str()) {
                bucket.apply(lease, pending.made, clock);
            }
        }
        self.pending = None;
        Ok(())
    }

    /// Gives back what is left of quotas. From now on no call takes from them.
    async fn give_back(&mut self) {
        let link = self.link.borrow().clone();
        self.table.set_reachable(false);
        let Some(link) = link else { return };
        let clock = self.table.clock();
        let left: Vec<_> = self.table.buckets().iter().filter_map(|(_, bucket)| bucket.end(clock)).collect();
        let mut exchange = None;
        let mut sent = self.ask(&mut exchange, &link).await;
        for demands in left.chunks(MAX_DEMANDS) {
            if sent.is_ok() {
                self.begin(demands.to_vec(), HashMap::new());
                sent = self.ask(&mut exchange, &link).await;
            }
        }
        if let Err(status) = sent {
            let (code, reason) = (status.code(), status.message());
            tracing::warn!(%code, reason, "cannot give back what is left of quotas; it is lost for its period");
        }
    }
}

/// Sends a request, on a stream that is opened with it where there is none, and waits for its answer.
async fn answer(
    exchange: &mut Option<Exchange>,
    link: &Link,
    request: LeaseLimitsRequest,
) -> Result<LeaseLimitsResponse, Status> {
    let sequence = request.sequence;
    let closed = || Status::unavailable("the control plane ended the stream");
    let open = match exchange {
        Some(open) => {
            open.out.send(request).await.map_err(|_| closed())?;
            open
        }
        None => exchange.insert(Exchange::open(link, request).await?),
    };
    loop {
        let answer = open.answers.message().await?.ok_or_else(closed)?;
        if answer.sequence == sequence {
            return Ok(answer);
        }
    }
}

impl Exchange {
    /// Opens a stream with its first request, because a server may answer only when it has seen one.
    async fn open(link: &Link, first: LeaseLimitsRequest) -> Result<Self, Status> {
        let (out, outgoing) = mpsc::channel(1);
        out.send(first).await.map_err(|_| Status::internal("the stream ended before it began"))?;
        let mut client = LimitServiceClient::new(link.channel.clone());
        let request = link.credential.authorise(ReceiverStream::new(outgoing));
        let answers = client.lease_limits(request).await?.into_inner();
        Ok(Self { out, answers })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Mutex;

    use access::limit::{Limit, Period};
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport::{Channel, Server};
    use tonic::{Request, Response};
    use trunkline::policy::v1::LimitLease;
    use trunkline::policy::v1::limit_service_server::{LimitService, LimitServiceServer};

    use super::*;
    use crate::enrollment::EdgeCredential;
    use crate::limits::quota::end_of;
    use crate::limits::{Counted, LimitCache};
    use crate::os::clock;
    use crate::snapshot::TokenLimit;

    /// A control plane that leases whatever is wanted, whose first answer is lost.
    #[derive(Clone, Default)]
    struct ControlPlane(Arc<Mutex<Vec<LeaseLimitsRequest>>>);

    impl ControlPlane {
        fn requests(&self) -> Vec<LeaseLimitsRequest> {
            self.0.lock().unwrap().clone()
        }
    }

    #[tonic::async_trait]
    impl LimitService for ControlPlane {
        type LeaseLimitsStream = ReceiverStream<Result<LeaseLimitsResponse, Status>>;

        async fn lease_limits(
            &self,
            request: Request<Streaming<LeaseLimitsRequest>>,
        ) -> Result<Response<Self::LeaseLimitsStream>, Status> {
            let (out, answers) = mpsc::channel(4);
            let (mut requests, seen) = (request.into_inner(), self.clone());
            tokio::spawn(async move {
                while let Ok(Some(request)) = requests.message().await {
                    seen.0.lock().unwrap().push(request.clone());
                    if seen.requests().len() == 1 {
                        return;
                    }
                    let seconds = i64::try_from(end_of(Period::Day, clock::now())).unwrap();
                    let lease = |demand: &LimitDemand| LimitLease {
                        bucket: demand.bucket.clone(),
                        calls: demand.wanted,
                        period_end_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
                        remaining: 50,
                        ..LimitLease::default()
                    };
                    let leases = request.demands.iter().map(lease).collect();
                    let answer = LeaseLimitsResponse { sequence: request.sequence, leases };
                    if out.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
            });
            Ok(Response::new(ReceiverStream::new(answers)))
        }
    }

    async fn eventually(what: &str, holds: impl Fn() -> bool) {
        let waiting = async {
            while !holds() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("{what}"));
    }

    #[tokio::test]
    async fn what_was_not_answered_is_sent_again_as_it_was_and_what_is_left_goes_back() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let control_plane = ControlPlane::default();
        let serve = Server::builder().add_service(LimitServiceServer::new(control_plane.clone()));
        tokio::spawn(serve.serve_with_incoming(TcpListenerStream::new(listener)));
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        let link = Link { channel, credential: EdgeCredential::for_tests() };

        let table = Arc::new(LimitTable::new(Arc::default()));
        let (_linked, link) = watch::channel(Some(link));
        let keeper = LeaseKeeper::new(&table, link.clone()).unwrap();
        assert!(LeaseKeeper::new(&table, link).is_none(), "a table has one");
        let stop = CancellationToken::new();
        let running = tokio::spawn(keeper.run(stop.clone()));
        let cache = LimitCache::new(Arc::clone(&table));
        let limits = [TokenLimit { id: "q0".into(), limit: Limit::quota("100/day").ok() }];
        let call = || cache.charge(Counted { token: "u", server: "dev", target: "t" }, &limits).is_ok();
        eventually("a call passes on credit", call).await;
        assert!(!call(), "there is nothing yet");
        let leased = || {
            table
                .buckets()
                .iter()
                .any(|(_, bucket)| bucket.left(table.clock()).is_some_and(|(calls, _)| calls > 50))
        };
        eventually("the answer came at last", leased).await;
        // One of sixteen has passed on credit.
        assert_eq!((0..5).filter(|_| call()).count(), 5);

        stop.cancel();
        running.await.unwrap();
        let requests = control_plane.requests();
        let said = |request: &LeaseLimitsRequest| {
            let demand = &request.demands[0];
            (request.sequence, demand.bucket.clone(), demand.wanted, demand.returned)
        };
        let said: Vec<_> = requests.iter().map(said).collect();
        let bucket = || "u/q0/-/-".to_owned();
        assert_eq!(said, [(1, bucket(), 16, 0), (1, bucket(), 16, 0), (2, bucket(), 0, 10)]);
        assert_eq!(requests[0], requests[1]);
        assert_eq!(requests[1..].iter().map(|request| request.demands[0].spent).sum::<i64>(), 6);
        assert!(!call(), "what was given back is nobody's");
    }
}
