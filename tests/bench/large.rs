//! One upstream of many tools, and a virtual server that takes everything there is. It must not know how edges keep it.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use trunkline::registry::v1::GetUpstreamRequest;
use trunkline::registry::v1::upstream_service_client::UpstreamServiceClient;

use crate::CONTROL_PLANE;
use crate::cell::{Cell, Era, Target, Work};
use crate::load::{self, Measured};
use crate::memory::{median, megabytes};
use crate::support::gateway::{Gateway, Store};
use crate::support::{PATIENCE, eventually};
use crate::{cpu, times, upstream};

const WINDOW: Duration = Duration::from_secs(4);

/// A gateway of one edge, with what it is measured by.
struct Large {
    gateway: Gateway,
    upstream: upstream::Upstream,
    bearer: String,
    tools: usize,
}

/// Measures and prints.
pub(crate) async fn run(tools: usize, repeats: usize) {
    let folder = tempfile::Builder::new().prefix("trunkline-bench-").tempdir().unwrap();
    let upstream = upstream::start(folder.path()).await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("ten", &format!("http://{}/10", upstream.address())).await;
    gateway.admin.create_server("ten", &["ten/*"]).await;
    let bearer = gateway.admin.create_token("bench", "*", &["*"]).await;
    gateway.admin.settled().await;
    let mut large = Large { gateway, upstream, bearer, tools };
    println!("one upstream of {tools} tools, and a server of `*/*`; one control plane, one edge");
    println!("{:60} {}", "memory without them", large.memory());
    large.import().await;
    for (what, manifest) in large.edits() {
        large.edit(what, manifest, repeats).await;
    }
    large.grow(repeats).await;
    println!("{:60} {}", "memory after all edits", large.memory());
    large.calls("calls of 200 B to the other server, nothing else going on", false).await;
    large.calls("the same, while the server is edited without a pause", true).await;
    let starts = times::process_start(&mut large.gateway, &large.bearer, repeats).await;
    println!("{:60} {:.0} ms", "start of the edge from its copy on disk", median(&starts));
    println!("{:60} {}", "memory after that", large.memory());
}

/// A manifest that differs with every edition.
type Manifest = Box<dyn Fn(usize) -> String>;

impl Large {
    fn pids(&self) -> [u32; 2] {
        [cpu::child(CONTROL_PLANE).unwrap(), self.gateway.edge(0).pid()]
    }

    fn memory(&self) -> String {
        let [control, edge] = self.pids().map(megabytes);
        format!("control plane {control}, edge {edge}")
    }

    /// The first fetch of the catalogue, and a server that takes all of it.
    async fn import(&self) {
        let (admin, start) = (&self.gateway.admin, Instant::now());
        let before = self.pids().map(cpu::used_by_all);
        admin.create_upstream("many", &self.url(self.tools)).await;
        self.imported(self.tools).await;
        admin.settled().await;
        println!("{:60} {:.0} ms", "import until the edge has it", start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        self.apply(&instructions(0)).await;
        let used = self.used(before);
        println!("{:60} {:.0} ms; {used}", "server `*/*` created", start.elapsed().as_secs_f64() * 1e3);
        println!("{:60} {}", "memory with them", self.memory());
    }

    fn url(&self, tools: usize) -> String {
        format!("http://{}/{tools}", self.upstream.address())
    }

    async fn imported(&self, tools: usize) {
        let client = UpstreamServiceClient::new(self.gateway.admin.authorized());
        eventually("the catalogue is imported", PATIENCE, || {
            let mut client = client.clone();
            async move {
                let request = GetUpstreamRequest { name: "upstreams/many".to_owned() };
                let answer = client.get_upstream(request).await.map_err(|e| e.to_string())?.into_inner();
                let status = answer.upstream.and_then(|upstream| upstream.status).unwrap_or_default();
                if status.tool_count == tools as i32 { Ok(()) } else { Err(format!("{status:?}")) }
            }
        })
        .await;
    }

    fn used(&self, before: [Duration; 2]) -> String {
        let after = self.pids().map(cpu::used_by_all);
        let [control, edge] = [0, 1].map(|at| after[at].saturating_sub(before[at]).as_secs_f64() * 1e3);
        format!("CPU: control plane {control:.0} ms, edge {edge:.0} ms")
    }

    fn edits(&self) -> Vec<(&'static str, Manifest)> {
        let ten = self.url(10);
        vec![
            ("apply --wait: the instructions of the server", Box::new(instructions)),
            (
                "apply --wait: a label of the other upstream",
                Box::new(move |n| {
                    format!(
                        "kind: Upstream\nname: upstreams/ten\nmeta: {{labels: {{edition: '{n}'}}}}\nhttp: {{url: '{ten}'}}\n"
                    )
                }),
            ),
            (
                "apply --wait: the scope of a token",
                Box::new(|n| {
                    format!(
                        "kind: Token\nname: tokens/bench\nscope: {{servers: ['*'], tools: ['*', 'edition_{n}']}}\n"
                    )
                }),
            ),
        ]
    }

    /// Applies editions of a manifest.
    async fn edit(&self, what: &str, manifest: Manifest, repeats: usize) {
        let (before, mut took) = (self.pids().map(cpu::used_by_all), Vec::new());
        for edition in 1..=repeats {
            let start = Instant::now();
            self.apply(&manifest(edition)).await;
            took.push(start.elapsed());
        }
        self.say(what, &took, before, repeats);
    }

    /// The upstream has one tool more each time.
    async fn grow(&self, repeats: usize) {
        let (before, mut took) = (self.pids().map(cpu::used_by_all), Vec::new());
        for more in 1..=repeats {
            let start = Instant::now();
            let url = self.url(self.tools + more);
            self.gateway.ctl_args(&["update", "upstream", "many", "--url", &url]).await;
            self.gateway.ctl_args(&["refresh", "upstream", "many"]).await;
            self.imported(self.tools + more).await;
            self.gateway.admin.settled().await;
            took.push(start.elapsed());
        }
        self.say("one tool more: fetched, and on the edge", &took, before, repeats);
    }

    fn say(&self, what: &str, took: &[Duration], before: [Duration; 2], repeats: usize) {
        let after = self.pids().map(cpu::used_by_all);
        let mut line = format!("{what:60} {:.0} ms", median(took));
        for (at, who) in ["control plane", "edge"].iter().enumerate() {
            let each = after[at].saturating_sub(before[at]).as_secs_f64() * 1e3 / repeats as f64;
            write!(line, "; CPU of {who} {each:.0} ms").unwrap();
        }
        println!("{line}");
    }

    /// Calls to the other server, for as long as a window takes.
    async fn calls(&self, what: &str, editing: bool) {
        let target = Target::Trunkline {
            address: self.gateway.edge_address(0).to_owned(),
            pid: self.gateway.edge(0).pid(),
            bearer: self.bearer.clone(),
            limited: String::new(),
        };
        let job = Cell::plain(Era::Modern, Work::Call { bytes: 200, sse: false }, 1).job(&target);
        let load = std::thread::spawn(move || load::run(&job, Duration::from_millis(200), WINDOW));
        let mut edits = 0;
        while editing && !load.is_finished() {
            self.apply(&instructions(edits)).await;
            edits += 1;
        }
        let measured = tokio::task::spawn_blocking(|| load.join().unwrap()).await.unwrap();
        let Measured { p50_us, p99_us, longest_us, .. } = measured;
        println!(
            "{what:60} p50 {p50_us:.0} µs, p99 {p99_us:.0} µs, longest {longest_us:.0} µs; {edits} edits"
        );
    }

    async fn apply(&self, manifest: &str) {
        let file = self.gateway.folder().join("edit.yaml");
        std::fs::write(&file, manifest).unwrap();
        self.gateway.ctl_args(&["apply", "-f", file.to_str().unwrap(), "--wait"]).await;
    }
}

fn instructions(edition: usize) -> String {
    format!("kind: Server\nname: servers/all\ninstructions: Edition {edition}.\ntools: [{{match: '*/*'}}]\n")
}
