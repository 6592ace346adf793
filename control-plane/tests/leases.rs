//! What edges lease of the limits of tokens, and when tokens were last used: the tables, and the service over a socket. Run on SQLite and,
//! where `TEST_POSTGRES_URL` is set, on PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/control.rs"]
mod control;
#[macro_use]
#[path = "support/database.rs"]
mod database;
#[path = "support/edge_end.rs"]
mod edge_end;

use control::{Control, with_bearer};
use database::Database;
use edge_end::{EdgeEnd, Held, PATIENCE};
use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use trunkline::identity::v1::token_service_client::TokenServiceClient;
use trunkline::identity::v1::{Conditions, CreateTokenRequest, RevokeTokenRequest, Scope, Token};
use trunkline::policy::v1::limit_service_client::LimitServiceClient;
use trunkline::policy::v1::{LeaseLimitsRequest, LeaseLimitsResponse, LimitDemand, LimitLease};
use trunkline::telemetry::v1::{LastUse, ReportUsageRequest, UsageOutcome, UsageRecord};
use trunkline_control_plane::store::quotas::{QuotaDemand, Quotas};
use trunkline_control_plane::store::usage::{LastUsesQuery, UsageTable};

suite! {
    a_token_is_last_used_when_and_where_the_newest_report_says,
    quotas_are_leased_to_their_end_and_no_further,
    replicas_that_lease_at_once_share_one_quota,
    edges_lease_what_a_token_may_and_nothing_else,
    what_was_answered_is_answered_again_and_nobody_gives_back_what_is_not_theirs,
    a_rate_is_shared_by_the_edges_that_use_it,
    replicas_lease_of_one_quota,
    replicas_give_out_their_parts_of_a_rate,
    replicas_agree_on_a_rate_in_redis,
}

fn record(server: &str, token: &str) -> UsageRecord {
    UsageRecord {
        server: server.to_owned(),
        token: token.to_owned(),
        method: "tools/call".to_owned(),
        target: "upstreams/up/tools/echo".to_owned(),
        outcome: UsageOutcome::Ok.into(),
        calls: 1,
        ..UsageRecord::default()
    }
}

fn batch(run_id: &str, sequence: i64, end: i64, records: Vec<UsageRecord>) -> ReportUsageRequest {
    let end_time = Some(Timestamp { seconds: end, nanos: 0 });
    ReportUsageRequest { run_id: run_id.to_owned(), sequence, records, start_time: None, end_time }
}

async fn a_token_is_last_used_when_and_where_the_newest_report_says(database: Database) {
    let store = database.open().await;
    let usage = UsageTable::new(&store);
    let from = |token: &str, server: &str, address: &str| UsageRecord {
        last_address: address.to_owned(),
        ..record(server, token)
    };
    let (echo, second) = ("upstreams/up/tools/echo", 1_000_000);
    let first = vec![
        from("tokens/t", "servers/a", "192.0.2.1"),
        from("tokens/t", "servers/b", ""),
        from("tokens/other-one", "servers/a", ""),
        // What was folded, and callers who could not be told, are nobody's use.
        from("other", "servers/a", "192.0.2.9"),
        from("", "servers/a", "192.0.2.9"),
        UsageRecord { target: "other".to_owned(), ..from("tokens/t", "other", "") },
    ];
    usage.store("e1", &batch("run", 1, 600, first)).await.unwrap();
    let last = |server: &str, target: &str, seconds: i64| LastUse {
        server: server.to_owned(),
        target: target.to_owned(),
        last_use_time: Some(Timestamp { seconds, nanos: 0 }),
    };
    let of = async |token: &str| {
        let query = LastUsesQuery { token: token.to_owned(), limit: 10, ..LastUsesQuery::default() };
        usage.last_uses(&query).await.unwrap()
    };
    let at = |servers: [i64; 2]| {
        let [a, b] = servers;
        [
            last("servers/a", "", a),
            last("servers/a", echo, a),
            last("servers/b", "", b),
            last("servers/b", echo, b),
        ]
    };
    assert_eq!(of("tokens/t").await, at([600, 600]));
    assert_eq!(of("tokens/other-one").await.len(), 2);
    assert_eq!(of("tokens/none").await, []);
    let token = async || {
        let used = store.owners_and_uses().await.unwrap().last_uses.get("tokens/t").cloned().unwrap();
        (used.time_us / second, used.address)
    };
    assert_eq!(token().await, (600, "192.0.2.1".to_owned()));

    // A late report of what was before changes nothing, and a newer one without an address keeps the one that is known.
    usage.store("e2", &batch("run", 1, 500, vec![from("tokens/t", "servers/a", "192.0.2.7")])).await.unwrap();
    assert_eq!(token().await, (600, "192.0.2.1".to_owned()));
    usage.store("e2", &batch("run", 2, 700, vec![from("tokens/t", "servers/b", "")])).await.unwrap();
    assert_eq!(token().await, (700, "192.0.2.1".to_owned()));
    assert_eq!(of("tokens/t").await, at([600, 700]));
    // By anybody: the last use of all, and only of the server that is asked about.
    let query = LastUsesQuery { server: "servers/b".to_owned(), limit: 10, ..LastUsesQuery::default() };
    assert_eq!(usage.last_uses(&query).await.unwrap(), at([600, 700])[2..]);

    usage.forget(650 * second).await.unwrap();
    assert_eq!(token().await, (700, "192.0.2.1".to_owned()));
    assert_eq!(of("tokens/t").await, at([600, 700])[2..]);
}

fn demand(bucket: &str, wanted: i64, returned: i64) -> QuotaDemand {
    QuotaDemand { bucket: bucket.to_owned(), start_us: 5, limit: 100, wanted, part: 4, held: 0, returned }
}

async fn quotas_are_leased_to_their_end_and_no_further(database: Database) {
    let store = database.open().await;
    let quotas = Quotas::new(&store);
    let lease = async |demand: QuotaDemand| {
        let grant = quotas.lease(&[demand]).await.unwrap()[0];
        (grant.calls, grant.remaining)
    };
    assert_eq!(lease(demand("a", 10, 0)).await, (10, 90));
    assert_eq!(lease(demand("a", 0, 0)).await, (0, 90));
    assert_eq!(lease(QuotaDemand { held: 22, ..demand("a", 1_000, 0) }).await, (1, 89), "it has its part");
    // No more than a part of what is left, but for the last one.
    assert_eq!(lease(demand("a", 1_000, 0)).await, (22, 67));
    assert_eq!(lease(demand("b", 1_000, 0)).await, (25, 75), "each bucket by itself");
    assert_eq!(
        lease(QuotaDemand { start_us: 6, ..demand("a", 1_000, 0) }).await,
        (25, 75),
        "and each period"
    );
    assert_eq!(lease(demand("a", 0, 12)).await, (0, 79));
    let mut leased = 0;
    loop {
        match lease(demand("a", 1_000, 0)).await {
            (0, left) => break assert_eq!(left, 0),
            (calls, _) => leased += calls,
        }
    }
    assert_eq!(leased, 79);
    // A limit that was lowered meanwhile is used up.
    assert_eq!(lease(QuotaDemand { limit: 50, ..demand("a", 1, 0) }).await, (0, 0));
    assert_eq!(lease(demand("a", 0, 1_000)).await, (0, 100), "no more is given back than was leased");
    quotas.forget(6).await.unwrap();
    assert_eq!(lease(demand("b", 0, 0)).await, (0, 100));
    assert_eq!(lease(QuotaDemand { start_us: 6, ..demand("a", 0, 0) }).await, (0, 75));
}

async fn replicas_that_lease_at_once_share_one_quota(database: Database) {
    let (one, other) = (database.open().await, database.open().await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let quotas = Quotas::new(if number % 2 == 0 { &one } else { &other });
        tasks.spawn(async move {
            let mut leased = 0;
            for _ in 0..30 {
                // Rows of several buckets, in an order of each one's own.
                let mut demands = vec![demand("a", 3, 0), demand("b", 3, 0), demand("c", 3, 0)];
                demands.rotate_left(number % 3);
                let grants = quotas.lease(&demands).await.unwrap();
                leased += grants.iter().map(|grant| grant.calls).sum::<i64>();
            }
            leased
        });
    }
    assert_eq!(tasks.join_all().await.iter().sum::<i64>(), 300);
}

/// A control plane on this database.
async fn start(database: &Database) -> Control {
    let url = database.url().to_owned();
    Control::start_with(|config| config.database_url = Some(url.into())).await
}

/// Creates a token with these limits. Returns its uid.
async fn token(control: &Control, id: &str, rates: &[&str], quotas: &[&str]) -> String {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let conditions = Conditions { rates: texts(rates), quotas: texts(quotas), ..Conditions::default() };
    let scope = Scope { servers: vec!["*".to_owned()], tools: vec!["*".to_owned()], ..Scope::default() };
    let token = Token { scope: Some(scope), conditions: Some(conditions), ..Token::default() };
    let request = CreateTokenRequest { token_id: id.to_owned(), token: Some(token), ..Default::default() };
    let mut client = TokenServiceClient::new(control.channel.clone());
    let created = client.create_token(control.admin(request)).await.unwrap().into_inner();
    created.token.unwrap().meta.unwrap().uid
}

/// An edge's end of the exchange.
struct Edge {
    run_id: String,
    sequence: i64,
    out: mpsc::Sender<LeaseLimitsRequest>,
    answers: Streaming<LeaseLimitsResponse>,
}

impl Edge {
    async fn connect(control: &Control, credential: &str, run_id: &str) -> Result<Self, Status> {
        let (out, requests) = mpsc::channel(4);
        let mut client = LimitServiceClient::new(control.channel.clone());
        let request = with_bearer(ReceiverStream::new(requests), credential);
        let answers = client.lease_limits(request).await?.into_inner();
        Ok(Self { run_id: run_id.to_owned(), sequence: 0, out, answers })
    }

    async fn enrol(control: &Control, id: &str) -> Self {
        let credential = control.enrol(id).await;
        Self::connect(control, &credential, "run").await.unwrap()
    }

    /// Sends a request with this sequence number, and waits for its answer.
    async fn send(&mut self, sequence: i64, demands: Vec<LimitDemand>) -> Result<Vec<LimitLease>, Status> {
        self.sequence = sequence;
        let request = LeaseLimitsRequest { run_id: self.run_id.clone(), sequence, demands };
        self.out.send(request).await.unwrap();
        let answer = self.answers.message().await?.unwrap();
        assert_eq!(answer.sequence, sequence);
        Ok(answer.leases)
    }

    async fn ask(&mut self, demands: Vec<LimitDemand>) -> Vec<LimitLease> {
        self.send(self.sequence + 1, demands).await.unwrap()
    }

    /// Asks for calls of one quota; how many it got, and how many are left.
    async fn quota(&mut self, bucket: &str, wanted: i64, returned: i64) -> (i64, i64) {
        let leases = self.ask(vec![want(bucket, wanted, returned)]).await;
        assert_eq!(leases.len(), 1, "{leases:?}");
        assert!(leases[0].period_end_time.is_some(), "{leases:?}");
        (leases[0].calls, leases[0].remaining)
    }

    /// Asks for a share of one rate.
    async fn rate(&mut self, bucket: &str, wanted: i64) -> (i64, i64) {
        let leases = self.ask(vec![want(bucket, wanted, 0)]).await;
        assert_eq!(leases.len(), 1, "{leases:?}");
        assert_eq!(leases[0].ttl.map(|ttl| ttl.seconds), Some(10));
        (leases[0].milli_per_second, leases[0].burst)
    }
}

fn want(bucket: &str, wanted: i64, returned: i64) -> LimitDemand {
    LimitDemand { bucket: bucket.to_owned(), spent: 0, wanted, returned }
}

async fn edges_lease_what_a_token_may_and_nothing_else(database: Database) {
    let control = start(&database).await;
    let uid = token(&control, "t", &["10/s"], &["100/day", "5/month per tool"]).await;
    let unlimited = token(&control, "u", &[], &[]).await;
    let mut edge = Edge::enrol(&control, "e1").await;
    assert_eq!(edge.quota(&format!("{uid}/q0/-/-"), 16, 0).await, (16, 84));
    // Of what is left it may hold a quarter, until it says that it has used some.
    assert_eq!(edge.quota(&format!("{uid}/q0/-/-"), 16, 0).await, (5, 79));
    let used = LimitDemand { spent: 20, ..want(&format!("{uid}/q0/-/-"), 16, 0) };
    assert_eq!(edge.ask(vec![used]).await[0].calls, 16);
    assert_eq!(edge.quota(&format!("{uid}/q1/dev/a/b"), 16, 0).await, (1, 4));
    assert_eq!(edge.rate(&format!("{uid}/r0/-/-"), 5).await, (10_000, 10));
    let foreign = [
        format!("{unlimited}/q0/-/-"),
        format!("{uid}/q2/-/-"),
        format!("{uid}/r0/dev/-"),
        format!("{uid}/q1/dev"),
        "nobody/q0/-/-".to_owned(),
        String::new(),
    ];
    let demands = foreign.iter().map(|bucket| want(bucket, 16, 0)).collect();
    assert_eq!(edge.ask(demands).await, []);
    // What a token may changes at once, and one that was revoked may nothing.
    let mut client = TokenServiceClient::new(control.channel.clone());
    let revoke = RevokeTokenRequest { name: "tokens/t".to_owned() };
    client.revoke_token(control.admin(revoke)).await.unwrap();
    assert_eq!(edge.ask(vec![want(&format!("{uid}/q0/-/-"), 16, 0)]).await, []);

    let bearer = control.token("plain", "*").await.bearer;
    for credential in ["", "no credential", &bearer] {
        let refused = Edge::connect(&control, credential, "run").await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated, "{credential}");
    }
    let credential = control.enrol("e2").await;
    for (run_id, sequence, demands) in [("", 1, 0), ("run", 0, 0), ("run", 1, 2_001)] {
        let mut edge = Edge::connect(&control, &credential, run_id).await.unwrap();
        let refused = edge.send(sequence, vec![want("x", 1, 0); demands]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{run_id} {sequence} {demands}");
    }
}

async fn what_was_answered_is_answered_again_and_nobody_gives_back_what_is_not_theirs(database: Database) {
    let control = start(&database).await;
    let uid = token(&control, "t", &[], &["100/day"]).await;
    let bucket = format!("{uid}/q0/-/-");
    let (credential, mut other) = (control.enrol("e1").await, Edge::enrol(&control, "e2").await);
    let mut edge = Edge::connect(&control, &credential, "run").await.unwrap();
    let first = edge.send(1, vec![want(&bucket, 10, 0)]).await.unwrap();
    assert_eq!((first[0].calls, first[0].remaining), (10, 90));
    // The answer got lost, and the edge has connected anew.
    let mut edge = Edge::connect(&control, &credential, "run").await.unwrap();
    assert_eq!(edge.send(1, vec![want(&bucket, 10, 0)]).await.unwrap(), first);
    assert_eq!(edge.quota(&bucket, 0, 0).await, (0, 90));
    assert_eq!(edge.send(1, vec![want(&bucket, 10, 0)]).await.unwrap(), [], "long since taken");

    assert_eq!(other.quota(&bucket, 0, 10).await, (0, 90), "it was leased to another");
    assert_eq!(edge.send(3, vec![want(&bucket, 0, 4)]).await.unwrap()[0].remaining, 94);
    assert_eq!(edge.send(4, vec![want(&bucket, 0, 1_000)]).await.unwrap()[0].remaining, 100);
    assert_eq!(edge.send(5, vec![want(&bucket, 0, 1_000)]).await.unwrap()[0].remaining, 100);
    assert_eq!(edge.send(6, vec![want(&bucket, -5, -5)]).await.unwrap()[0].remaining, 100);
    // Another run of it has nothing to give back.
    assert_eq!(edge.send(7, vec![want(&bucket, 10, 0)]).await.unwrap()[0].remaining, 90);
    let mut again = Edge::connect(&control, &credential, "another").await.unwrap();
    assert_eq!(again.quota(&bucket, 0, 10).await, (0, 90));
}

async fn a_rate_is_shared_by_the_edges_that_use_it(database: Database) {
    let control = start(&database).await;
    let uid = token(&control, "t", &["10/s"], &[]).await;
    let bucket = format!("{uid}/r0/-/-");
    let (mut one, mut other) = (Edge::enrol(&control, "e1").await, Edge::enrol(&control, "e2").await);
    assert_eq!(one.rate(&bucket, 5).await, (10_000, 10));
    assert_eq!(other.rate(&bucket, 5).await, (0, 0), "the first has all of it, as far as it knows");
    assert_eq!(one.rate(&bucket, 5).await, (5_000, 5));
    assert_eq!(one.rate(&bucket, 5).await, (5_000, 5));
    let (share, burst) = other.rate(&bucket, 5).await;
    assert_eq!(share, 5_000);
    assert!((1..=5).contains(&burst), "{burst}");
}

/// Two control planes on this database.
async fn replicas(database: &Database, redis: Option<String>) -> (Control, Control) {
    let (url, its_redis) = (database.url().to_owned(), redis.clone());
    let first = Control::start_with(|config| {
        config.database_url = Some(url.into());
        config.redis_url = its_redis.map(Into::into);
    })
    .await;
    let key = std::fs::read_to_string(first.folder.path().join("data/master.key")).unwrap();
    let url = database.url().to_owned();
    let second = Control::start_with(|config| {
        config.database_url = Some(url.into());
        config.redis_url = redis.map(Into::into);
        config.keys.master_key = Some(key.trim().to_owned().into());
    })
    .await;
    (first, second)
}

async fn replicas_lease_of_one_quota(database: Database) {
    if database.is_sqlite() {
        // One control plane has a file to itself.
        return;
    }
    let (first, second) = replicas(&database, None).await;
    let uid = token(&first, "t", &[], &["60/day"]).await;
    let bucket = format!("{uid}/q0/-/-");
    let (mut one, mut other) = (Edge::enrol(&first, "e1").await, Edge::enrol(&second, "e2").await);
    let mut leased = 0;
    let (mut mine, mut theirs) = (0, 0);
    loop {
        // Each has used what it was given before.
        let ask = |spent: i64| vec![LimitDemand { spent, ..want(&bucket, 16, 0) }];
        (mine, theirs) = (one.ask(ask(mine)).await[0].calls, other.ask(ask(theirs)).await[0].calls);
        leased += mine + theirs;
        if mine + theirs == 0 {
            break;
        }
    }
    assert_eq!(leased, 60);
}

async fn replicas_give_out_their_parts_of_a_rate(database: Database) {
    if database.is_sqlite() {
        return;
    }
    let (first, second) = replicas(&database, None).await;
    let uid = token(&first, "t", &["10/s"], &[]).await;
    let (here, there) = (first.enrol("e1").await, second.enrol("e2").await);
    // Each replica has one of two edges, which both learn from the table of edges.
    let _here = EdgeEnd::connect(&first.channel, "e1", &here, Held::new()).await.unwrap();
    let _there = EdgeEnd::connect(&second.channel, "e2", &there, Held::new()).await.unwrap();
    for (control, credential) in [(&first, here), (&second, there)] {
        let mut edge = Edge::connect(control, &credential, "run").await.unwrap();
        let half = async { while edge.rate(&format!("{uid}/r0/-/-"), 5).await != (5_000, 5) {} };
        tokio::time::timeout(PATIENCE, half).await.expect("each has half of it");
    }
}

async fn replicas_agree_on_a_rate_in_redis(database: Database) {
    let Some(redis) = std::env::var("TEST_REDIS_URL").ok().filter(|_| !database.is_sqlite()) else { return };
    let (first, second) = replicas(&database, Some(redis)).await;
    let uid = token(&first, "t", &["10/s"], &[]).await;
    let bucket = format!("{uid}/r0/-/-");
    let (mut one, mut other) = (Edge::enrol(&first, "e1").await, Edge::enrol(&second, "e2").await);
    assert_eq!(one.rate(&bucket, 5).await, (10_000, 10));
    assert_eq!(other.rate(&bucket, 5).await, (0, 0), "the first edge goes by all of it");
    assert_eq!(one.rate(&bucket, 5).await, (5_000, 5));
    assert_eq!(other.rate(&bucket, 5).await, (0, 0), "as far as the first replica knows, it still does");
    assert_eq!(one.rate(&bucket, 5).await, (5_000, 5));
    assert_eq!(other.rate(&bucket, 5).await.0, 5_000);
}
