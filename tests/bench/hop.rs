//! What one hop costs: direct, through nginx, and through a Trunkline edge with everything on, in one run and
//! taking turns. The figure that counts is CPU time of the process per call. It reports, and asserts nothing.
//!
//! `make bench`; `make bench BENCH='--short'` for a look, `BENCH='--rows list'` for the rows whose label says so.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on says so where it stands")]

mod cell;
#[expect(dead_code, reason = "the other benchmark finds a process by its name, and looks at long times")]
mod cpu;
mod line;
mod load;
mod nginx;
mod report;
mod times;
mod upstream;
mod withdrawals;

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the benchmark uses a part of the harness of the tests")]
mod support;

use std::time::Duration;

use cell::{Cell, Target};
use load::Measured;
use report::{Report, Row};
use support::gateway::{Gateway, Store};
use support::people::{belongs, scope};
use support::wire::Client;
use support::{PATIENCE, eventually};
use trunkline::common::v1::Visibility;
use trunkline::identity::v1::{Conditions, Token};
use trunkline::policy::v1::{Rule, RuleEffect};
use trunkline::registry::v1::upstream::Kind;
use trunkline::registry::v1::{EraPolicy, McpUpstream, Upstream};

/// How long, and how often.
struct Plan {
    rounds: usize,
    warm_up: Duration,
    window: Duration,
    repeats: usize,
    /// What the label of a row must hold.
    rows: String,
}

impl Plan {
    fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
        let mut plan = Self {
            rounds: 3,
            warm_up: Duration::from_millis(200),
            window: Duration::from_secs(1),
            repeats: 15,
            rows: String::new(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| usage());
            match argument.as_str() {
                "--short" => {
                    plan.rounds = 1;
                    plan.window = Duration::from_millis(400);
                    plan.repeats = 5;
                }
                "--rounds" => plan.rounds = number(value()) as usize,
                "--seconds" => plan.window = Duration::from_secs_f64(number(value())),
                "--rows" => (plan.rows, plan.repeats) = (value().clone(), 0),
                _ => usage(),
            }
        }
        plan
    }
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| usage())
}

fn usage() -> ! {
    eprintln!(
        "hop [--short] [--rounds N (default 3)] [--seconds OF EACH WINDOW (default 1)] [--rows PART OF THEIR LABELS]"
    );
    std::process::exit(2)
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("upstream") {
        let argument = |at| std::env::args().nth(at).unwrap_or_else(|| usage());
        return upstream::run(&argument(2), &argument(3));
    }
    let plan = Plan::from_arguments();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(bench(&plan));
}

async fn bench(plan: &Plan) {
    eprintln!("starting: upstream, nginx, a control plane and three edges");
    let folder = tempfile::Builder::new().prefix("trunkline-bench-").tempdir().unwrap();
    let upstream = upstream::start(folder.path()).await;
    let mut gateway = Gateway::start(Store::Sqlite, 3).await;
    let bearer = set_up(&gateway, &upstream).await;
    let limited = limited(&gateway).await;
    let nginx = nginx::start(folder.path(), upstream.address(), gateway.edge_address(0), &bearer).await;

    let cells = Cell::labelled(&plan.rows);
    let targets = [
        Target::Direct { address: upstream.address().to_owned(), pid: upstream.pid() },
        Target::Nginx { address: nginx.address().to_owned(), pid: nginx.pid() },
        Target::NginxFile { address: nginx.address().to_owned(), pid: nginx.pid() },
        Target::Trunkline {
            address: gateway.edge_address(0).to_owned(),
            pid: gateway.edge(0).pid(),
            bearer: bearer.clone(),
            limited,
        },
    ];
    let mut rows: Vec<Row> = cells.iter().map(|cell| Row::new(*cell)).collect();
    for round in 0..plan.rounds {
        for (cell, row) in cells.iter().zip(&mut rows) {
            eprint!("\rround {} of {}: {:40}", round + 1, plan.rounds, cell.label());
            for target in targets.iter().filter(|target| cell.applies_to(target)) {
                row.add(target, measure(plan, cell, target));
            }
        }
    }
    eprint!("\r{:70}\rstarting and applying", "");
    let start = times::process_start(&mut gateway, &bearer, plan.repeats).await;
    let apply = times::apply(&gateway, plan.repeats).await;
    eprint!("\r{:70}\rwithdrawing", "");
    let withdrawals = withdrawals::run(&gateway, &bearer, plan.repeats).await;
    eprint!("\r{:70}\r", "");
    print!("{}", Report { rows, start, apply, withdrawals, rounds: plan.rounds, window: plan.window });
}

/// On a runtime and thread of its own, so that nothing else runs beside it.
fn measure(plan: &Plan, cell: &Cell, target: &Target) -> Measured {
    let job = cell.job(target);
    let (warm_up, window) = (plan.warm_up, plan.window);
    std::thread::scope(|scope| scope.spawn(|| load::run(&job, warm_up, window)).join().unwrap())
}

/// A virtual server for each way to an upstream, and a token whose scope is checked on each call.
async fn set_up(gateway: &Gateway, upstream: &upstream::Upstream) -> String {
    let (admin, http, sockets) = (&gateway.admin, upstream.address(), upstream.sockets());
    let era = |policy: EraPolicy| {
        let mcp = McpUpstream { era_policy: policy.into() };
        Upstream { kind: Some(Kind::Mcp(mcp)), ..Default::default() }
    };
    // A server of a team may select from what is everybody's.
    let everybodys = Upstream { meta: belongs("", "", Visibility::Public), ..Default::default() };
    for (id, url, settings) in [
        ("ten", format!("http://{http}/10"), everybodys),
        ("thousand", format!("http://{http}/1000"), Upstream::default()),
        ("legacy", format!("http://{http}/10"), era(EraPolicy::Legacy)),
        ("modern", format!("http://{http}/10"), era(EraPolicy::Modern)),
        ("events", format!("http://{http}/events"), Upstream::default()),
        ("frames", format!("ws://{sockets}/"), Upstream::default()),
    ] {
        admin.create_upstream_with(id, &url, settings).await;
        admin.create_server(id, &[&format!("{id}/*")]).await;
    }
    for (id, when) in [
        ("ruled", r#"method == "tools/call" && caller.kind == "token" && caller.name == "nobody""#),
        ("ruled-args", r#"args.text.startsWith("/etc/")"#),
    ] {
        admin.create_server_under(id, &["ten/*"], vec![deny(when)]).await;
    }
    let bearer = admin.create_token("bench", "*", &["echo*", "tool_*"]).await;
    admin.settled().await;
    bearer
}

/// A rule that refuses no call that is made here.
fn deny(when: &str) -> Rule {
    Rule {
        id: "bench".to_owned(),
        effect: RuleEffect::Deny.into(),
        when: when.to_owned(),
        tools: vec!["echo*".to_owned()],
        ..Rule::default()
    }
}

/// The bearer of a token that may do the same under conditions. They hold, and its rate is more than there can be.
async fn limited(gateway: &Gateway) -> String {
    let conditions = Conditions {
        from: vec!["10.0.0.0/8".to_owned(), "127.0.0.0/8".to_owned()],
        windows: vec!["daily 00:00-24:00 Europe/Berlin".to_owned()],
        rates: vec!["1000000/s".to_owned()],
        ..Conditions::default()
    };
    let scope = scope([&["*"], &["echo*", "tool_*"], &["*"], &["*"]]);
    let token = Token { scope: Some(scope), conditions: Some(conditions), ..Token::default() };
    let bearer = gateway.admin.issue("limited", token).await;
    gateway.admin.settled().await;
    // Until the edge has a share of the rate, calls past the first are refused.
    let client = Client::new(&gateway.url(0, "ten"), &bearer);
    for _ in 0..20 {
        eventually("the edge has a share of the rate", PATIENCE, || async {
            let answer = client.call("echo", r#"{"text":"hi"}"#).await?;
            if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }
    bearer
}
