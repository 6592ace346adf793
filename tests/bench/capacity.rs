//! What a large gateway takes: a catalogue of many tools, a fleet of many edges, and an organisation of many people. How long one edit takes until every
//! edge has it, and how much CPU and memory. It reports, and asserts nothing.
//!
//! `make bench-capacity`; `make bench-capacity BENCH='--tools 1000 --edges 100'` for a look.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on says so where it stands")]

#[expect(dead_code, reason = "the other benchmark has more kinds of requests and targets")]
mod cell;
mod cpu;
mod crowd;
mod large;
mod line;
#[expect(dead_code, reason = "the other benchmark reports more of it")]
mod load;
mod memory;
mod organisation;
#[expect(dead_code, reason = "the other benchmark times another apply")]
mod times;
#[expect(dead_code, reason = "the other benchmark speaks more transports to it, and counts its CPU")]
mod upstream;

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the benchmark uses a part of the harness of the tests")]
mod support;

/// How much there is.
struct Plan {
    /// Tools of the one upstream.
    tools: usize,
    /// Edges that are connected at a time.
    edges: usize,
    /// Tools that all of them hold.
    edge_tools: usize,
    /// People in teams.
    people: usize,
    /// How often each edit is made.
    repeats: usize,
}

/// The program whose CPU and memory are of most interest.
const CONTROL_PLANE: &str = "trunkline-control-plane";

impl Plan {
    fn from_arguments() -> Self {
        let mut plan = Self { tools: 10_000, edges: 1_000, edge_tools: 1_000, people: 10_000, repeats: 5 };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next().and_then(|n| n.parse().ok()).unwrap_or_else(|| usage());
            match argument.as_str() {
                "--tools" => plan.tools = number(),
                "--edges" => plan.edges = number(),
                "--edge-tools" => plan.edge_tools = number(),
                "--people" => plan.people = number(),
                "--repeats" => plan.repeats = number(),
                _ => usage(),
            }
        }
        plan
    }
}

fn usage() -> ! {
    eprintln!(
        "capacity [--tools N (default 10000)] [--edges N (default 1000)] [--people N (default 10000)] [--repeats N (default 5)]; 0 leaves a part out"
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
    runtime.block_on(async {
        if plan.tools > 0 {
            large::run(plan.tools, plan.repeats).await;
        }
        if plan.edges > 0 {
            crowd::run(plan.edges, plan.edge_tools, plan.repeats).await;
        }
        if plan.people > 0 {
            organisation::run(plan.people, plan.repeats).await;
        }
    });
}
