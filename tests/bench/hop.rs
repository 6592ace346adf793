//! What one hop costs: direct, through nginx, and through a Trunkline edge with everything on, in one run and
//! taking turns. The figure that counts is CPU time of the process per call. It reports, and asserts nothing.
//!
//! `make bench`; `make bench BENCH='--short'` for a look.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on says so where it stands")]

mod cell;
mod cpu;
mod load;
mod nginx;
mod report;
mod times;
mod upstream;

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the benchmark uses a part of the harness of the tests")]
mod support;

use std::time::Duration;

use cell::{Cell, Target};
use load::Measured;
use report::{Report, Row};
use support::gateway::{Gateway, Store};

/// How long, and how often.
struct Plan {
    rounds: usize,
    warm_up: Duration,
    window: Duration,
    repeats: usize,
}

impl Plan {
    fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
        let mut plan = Self {
            rounds: 3,
            warm_up: Duration::from_millis(200),
            window: Duration::from_secs(1),
            repeats: 15,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number =
                || arguments.next().and_then(|n| n.parse::<f64>().ok()).unwrap_or_else(|| usage());
            match argument.as_str() {
                "--short" => {
                    plan.rounds = 1;
                    plan.window = Duration::from_millis(400);
                    plan.repeats = 5;
                }
                "--rounds" => plan.rounds = number() as usize,
                "--seconds" => plan.window = Duration::from_secs_f64(number()),
                _ => usage(),
            }
        }
        plan
    }
}

fn usage() -> ! {
    eprintln!("hop [--short] [--rounds N (default 3)] [--seconds OF EACH WINDOW (default 1)]");
    std::process::exit(2)
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("upstream") {
        let address = std::env::args().nth(2).unwrap_or_else(|| usage());
        return upstream::run(&address);
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
    let bearer = set_up(&gateway, upstream.address()).await;
    let nginx = nginx::start(folder.path(), upstream.address(), gateway.edge_address(0), &bearer).await;

    let cells = Cell::all();
    let targets = [
        Target::Direct { address: upstream.address().to_owned(), pid: upstream.pid() },
        Target::Nginx { address: nginx.address().to_owned(), pid: nginx.pid() },
        Target::NginxFile { address: nginx.address().to_owned(), pid: nginx.pid() },
        Target::Trunkline {
            address: gateway.edge_address(0).to_owned(),
            pid: gateway.edge(0).pid(),
            bearer: bearer.clone(),
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
    eprint!("\r{:70}\r", "");
    print!("{}", Report { rows, start, apply, rounds: plan.rounds, window: plan.window });
}

/// On a runtime and thread of its own, so that nothing else runs beside it.
fn measure(plan: &Plan, cell: &Cell, target: &Target) -> Measured {
    let job = cell.job(target);
    let (warm_up, window) = (plan.warm_up, plan.window);
    std::thread::scope(|scope| scope.spawn(|| load::run(&job, warm_up, window)).join().unwrap())
}

/// Two virtual servers, and a token whose scope is checked on each call.
async fn set_up(gateway: &Gateway, upstream: &str) -> String {
    let admin = &gateway.admin;
    for size in ["ten", "thousand"] {
        admin.create_upstream(size, &format!("http://{upstream}/{size}")).await;
        admin.create_server(size, &[&format!("{size}/*")]).await;
    }
    let bearer = admin.create_token("bench", "*", &["echo*", "tool_*"]).await;
    admin.settled().await;
    bearer
}
