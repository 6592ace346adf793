//! How long it takes until a right that was withdrawn lets nobody in any more: at each of three edges, while all of them have calls to
//! answer. It must not know the table.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use trunkline::common::v1::Visibility;

use crate::cell::{Cell, Era, Target, Work};
use crate::load;
use crate::support::gateway::Gateway;
use crate::support::people::{Person, belongs};
use crate::support::wire::{Client, MODERN, modern_meta};
use crate::support::{PATIENCE, eventually};

/// Connections that call at each edge meanwhile, each without a pause.
const CONNECTIONS: usize = 2;
/// How long a part of the load lasts: it ends with one.
const PART: Duration = Duration::from_secs(1);
const SERVER: &str = "withdrawn";
const TEAM: &str = "teams/withdrawn";
const ROLE: &str = "roles/withdrawn";
const CALLER: [&str; 2] = ["registry.read", "servers.call"];

const KINDS: [&str; 4] = ["token revoked", "member removed", "role edited", "user disabled"];

/// The times of one kind.
pub(crate) struct Withdrawals {
    pub(crate) what: &'static str,
    refused_ms: Vec<f64>,
    ended_ms: Vec<f64>,
}

impl Withdrawals {
    /// The 99th percentile of both, whichever is longer.
    pub(crate) fn p99_ms(&self) -> f64 {
        percentile(&self.refused_ms, 0.99).max(percentile(&self.ended_ms, 0.99))
    }
}

impl fmt::Display for Withdrawals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [refused, ended] = [&self.refused_ms, &self.ended_ms];
        let at = |times: &[f64]| [0.5, 0.99].map(|part| percentile(times, part));
        let ([refused_p50, refused_p99], [ended_p50, ended_p99]) = (at(refused), at(ended));
        write!(
            f,
            "{:16} refusal p50 {refused_p50:6.0} ms, p99 {refused_p99:6.0} ms | stream p50 {ended_p50:6.0} ms, p99 {ended_p99:6.0} ms ({} of each)",
            self.what,
            refused.len()
        )
    }
}

fn percentile(times: &[f64], part: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let last = times.len().saturating_sub(1) as f64;
    times.get((last * part).ceil() as usize).copied().unwrap_or(f64::NAN)
}

/// Withdraws each kind of right so many times.
pub(crate) async fn run(gateway: &Gateway, bearer: &str, repeats: usize) -> Vec<Withdrawals> {
    if repeats == 0 {
        return Vec::new();
    }
    let admin = &gateway.admin;
    admin.create_team("withdrawn", None).await;
    admin.create_role("withdrawn", &CALLER).await;
    admin.create_server_of(SERVER, &["ten/*"], belongs("", TEAM, Visibility::Team)).await;
    let [member, caller, user] = [
        admin.sign_up("member", &[]).await,
        admin.sign_up("caller", &[(ROLE, TEAM)]).await,
        admin.sign_up("user", &[]).await,
    ];
    for person in [&member, &user] {
        admin.add_member(TEAM, &person.name, "").await;
    }
    admin.settled().await;
    let _load = Load::start(gateway, bearer);
    let mut found = Vec::new();
    for (what, person) in KINDS.into_iter().zip([&member, &member, &caller, &user]) {
        let mut withdrawals = Withdrawals { what, refused_ms: Vec::new(), ended_ms: Vec::new() };
        for number in 0..repeats {
            once(gateway, person, number, &mut withdrawals).await;
        }
        found.push(withdrawals);
    }
    found
}

/// Withdraws one right, and gives it back.
async fn once(gateway: &Gateway, person: &Person, number: usize, into: &mut Withdrawals) {
    let (admin, token) = (&gateway.admin, format!("withdrawn{number}"));
    let bearer = match into.what {
        "token revoked" => admin.create_token(&token, SERVER, &["*"]).await,
        "user disabled" => person.sign_in().await.bearer().await,
        _ => person.bearer().await,
    };
    let withdraw = async {
        match into.what {
            "token revoked" => admin.revoke_token(&token).await,
            "member removed" => admin.remove_member(TEAM, &person.name).await,
            "role edited" => admin.edit_role(ROLE, &CALLER[..1]).await,
            _ => admin.disable(&person.name).await,
        }
    };
    let (refused, ended) = watched(gateway, &bearer, withdraw).await;
    into.refused_ms.extend(refused);
    into.ended_ms.extend(ended);
    match into.what {
        "member removed" => admin.add_member(TEAM, &person.name, "").await,
        "role edited" => admin.edit_role(ROLE, &CALLER).await,
        "user disabled" => admin.enable(&person.name).await,
        _ => {}
    }
}

/// The milliseconds until each edge refuses a bearer, and until a stream of it ends there.
async fn watched(
    gateway: &Gateway,
    bearer: &str,
    withdraw: impl Future<Output = ()>,
) -> (Vec<f64>, Vec<f64>) {
    let mut watchers = Vec::new();
    for edge in 0..gateway.edge_count() {
        let client = Client::new(&gateway.url(edge, SERVER), bearer);
        eventually("the bearer works", PATIENCE, || client.tools()).await;
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true}},{}}}}}"#,
            modern_meta()
        );
        let headers = [("mcp-protocol-version", MODERN), ("mcp-method", "subscriptions/listen")];
        let mut stream = client.read_with(&body, &headers).await.unwrap();
        stream.next().await.unwrap();
        watchers.push((client, stream));
    }
    let start = Instant::now();
    let (mut refusals, mut ends) = (JoinSet::new(), JoinSet::new());
    for (client, mut stream) in watchers {
        refusals.spawn(async move {
            while client.tools().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            start.elapsed()
        });
        ends.spawn(async move {
            while stream.next().await.is_ok() {}
            start.elapsed()
        });
    }
    withdraw.await;
    let milliseconds = |times: Vec<Duration>| times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    (milliseconds(refusals.join_all().await), milliseconds(ends.join_all().await))
}

/// Calls at every edge, until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(gateway: &Gateway, bearer: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let cell = Cell::plain(Era::Modern, Work::Call { bytes: 200, sse: false }, CONNECTIONS);
        let threads = (0..gateway.edge_count()).map(|edge| {
            let job = cell.job(&Target::Trunkline {
                address: gateway.edge_address(edge).to_owned(),
                pid: gateway.edge(edge).pid(),
                bearer: bearer.to_owned(),
                limited: String::new(),
            });
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    load::run(&job, Duration::ZERO, PART);
                }
            })
        });
        Self { threads: threads.collect(), stop }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
