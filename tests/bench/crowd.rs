//! Many edges at one control plane, of which only the ends of their streams are real: each is a connection of its own, takes
//! everything, keeps nothing, and acknowledges at once. It must not know what the resources mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use trunkline::TypeTable as _;
use trunkline::discovery::v1::discovery_service_client::DiscoveryServiceClient;
use trunkline::discovery::v1::enrollment_service_client::EnrollmentServiceClient;
use trunkline::discovery::v1::{Edge, EnrollEdgeRequest, StreamResourcesRequest};
use trunkline::edge::v1::StreamType;

use crate::CONTROL_PLANE;
use crate::memory::{median, megabytes};
use crate::support::gateway::{Gateway, Store};
use crate::{cpu, upstream};

/// Edges that connect at the same time.
const AT_ONCE: usize = 32;
/// How long an edge that was turned away stays away.
const PAUSE: Duration = Duration::from_secs(1);
/// Largest message that an edge reads.
const MAX_MESSAGE: usize = 16 << 20;

/// Measures and prints.
pub(crate) async fn run(edges: usize, tools: usize, repeats: usize) {
    let folder = tempfile::Builder::new().prefix("trunkline-bench-").tempdir().unwrap();
    let upstream = upstream::start(folder.path()).await;
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let admin = &gateway.admin;
    admin.create_upstream("many", &format!("http://{}/{tools}", upstream.address())).await;
    admin.create_server("all", &["*/*"]).await;
    admin.create_token("bench", "*", &["*"]).await;
    println!("\n{edges} edges at one control plane; {tools} tools, and a server of `*/*`");
    let pid = cpu::child(CONTROL_PLANE).unwrap();
    println!("{:60} {}", "memory of the control plane without edges", megabytes(pid));

    let (start, before) = (Instant::now(), cpu::used_by_all(pid));
    let gathered = async {
        let crowd = Crowd::gather(&gateway, edges).await;
        admin.settled().await;
        crowd
    };
    let (crowd, applied, failed) = while_applying(&gateway, gathered).await;
    let say = |what: &str, took: f64, cpu: Duration, heard: u64| {
        let (cpu, heard) = (cpu.as_secs_f64() * 1e3, heard as f64 / 1024.0 / 1024.0);
        println!("{what:60} {took:.0} ms; CPU of the control plane {cpu:.0} ms; {heard:.1} MiB sent");
    };
    let used = || cpu::used_by_all(pid).saturating_sub(before);
    say(
        "all enrolled, connected and told everything",
        start.elapsed().as_secs_f64() * 1e3,
        used(),
        crowd.heard(),
    );
    let turned_away = crowd.turned_away.load(Ordering::Relaxed);
    println!("{:60} {turned_away}", "streams that were turned away meanwhile, and came again");
    let longest = applied.iter().max().map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let what = "apply meanwhile: the scope of a token";
    println!(
        "{what:60} {:.0} ms, {longest:.0} at most, of {}; {failed} failed",
        median(&applied),
        applied.len()
    );
    let lost = gateway.control_said().matches("cannot renew the lease").count();
    println!("{:60} {lost}", "times that the lease could not be renewed meanwhile");
    println!("{:60} {}", "memory of the control plane meanwhile", megabytes(pid));
    crowd.quiet().await;
    println!("{:60} {}", "memory of the control plane with them", megabytes(pid));

    for (what, manifest) in [
        ("apply --wait: the scope of a token", token as fn(usize) -> String),
        ("apply --wait: the instructions of the server", server),
    ] {
        let (mut took, before, heard) = (Vec::new(), cpu::used_by_all(pid), crowd.heard());
        for edition in 0..repeats {
            let file = gateway.folder().join("edit.yaml");
            std::fs::write(&file, manifest(edition)).unwrap();
            let start = Instant::now();
            gateway.ctl_args(&["apply", "-f", file.to_str().unwrap(), "--wait"]).await;
            took.push(start.elapsed());
        }
        let each = repeats.max(1) as u32;
        let cpu = cpu::used_by_all(pid).saturating_sub(before) / each;
        say(what, median(&took), cpu, (crowd.heard() - heard) / u64::from(each));
    }
    println!("{:60} {}", "memory of the control plane after that", megabytes(pid));
    let (before, start) = (cpu::used_by_all(pid), Instant::now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let idle = cpu::used_by_all(pid).saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
    println!("{:60} {:.1} %", "CPU of the control plane when nothing happens", idle * 100.0);
}

/// Applies edits, one after the other, while something goes on. Returns what came of that, how long each edit took, and how
/// many failed.
async fn while_applying<T>(gateway: &Gateway, goes_on: impl Future<Output = T>) -> (T, Vec<Duration>, usize) {
    let mut goes_on = std::pin::pin!(goes_on);
    let (mut times, mut failed) = (Vec::new(), 0);
    loop {
        let file = gateway.folder().join("meanwhile.yaml");
        std::fs::write(&file, token(times.len())).unwrap();
        let (start, arguments) = (Instant::now(), ["apply", "-f", file.to_str().unwrap()]);
        tokio::select! {
            biased;
            done = &mut goes_on => return (done, times, failed),
            applied = gateway.try_ctl(&arguments) => {
                failed += usize::from(!applied.status.success());
                times.push(start.elapsed());
            }
        }
        tokio::select! {
            biased;
            done = &mut goes_on => return (done, times, failed),
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
}

fn token(edition: usize) -> String {
    format!("kind: Token\nname: tokens/bench\nscope: {{servers: ['*'], tools: ['*', 'edition_{edition}']}}\n")
}

fn server(edition: usize) -> String {
    format!(
        "kind: Server\nname: servers/all\ninstructions: Edition {edition}.\nnameStyle: NAME_STYLE_UNPREFIXED\ntools: [{{match: '*/*'}}]\n"
    )
}

/// The edges; they go with it.
struct Crowd {
    _streams: JoinSet<()>,
    heard: Arc<AtomicU64>,
    turned_away: Arc<AtomicU64>,
}

impl Crowd {
    async fn gather(gateway: &Gateway, edges: usize) -> Self {
        let join_token = gateway.admin.join_token().await.unwrap();
        let [heard, turned_away] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let (mut streams, mut connecting) = (JoinSet::new(), JoinSet::new());
        for number in 0..edges {
            let (turns, join_token) = (Arc::clone(&turns), join_token.clone());
            let address = format!("http://{}", gateway.control_address());
            connecting.spawn(async move {
                let _turn = turns.acquire().await.unwrap();
                Member::enroll(address, join_token, format!("crowd-{number}")).await
            });
        }
        for member in connecting.join_all().await {
            streams.spawn(member.follow(Arc::clone(&heard), Arc::clone(&turned_away)));
        }
        gateway_has(gateway, edges).await;
        Self { _streams: streams, heard, turned_away }
    }

    /// Bytes of resources that the edges were sent.
    fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Waits until nothing is sent any more: edges are told of each other by and by.
    async fn quiet(&self) {
        loop {
            let before = self.heard();
            tokio::time::sleep(Duration::from_secs(2)).await;
            if self.heard() == before {
                return;
            }
        }
    }
}

/// Waits until the control plane sees so many edges connected.
async fn gateway_has(gateway: &Gateway, edges: usize) {
    let url = format!("http://{}/metrics", gateway.control_address());
    let wanted = format!("trunkline_control_edges_connected {edges}");
    loop {
        let metrics = reqwest::get(&url).await.unwrap().text().await.unwrap();
        if metrics.lines().any(|line| line == wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One edge that is enrolled.
struct Member {
    channel: Channel,
    credential: String,
    id: String,
}

impl Member {
    async fn enroll(address: String, join_token: String, edge_id: String) -> Self {
        let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        let request = EnrollEdgeRequest { join_token, edge_id: edge_id.clone(), ..Default::default() };
        let mut client = EnrollmentServiceClient::new(channel.clone());
        let credential = client.enroll_edge(request).await.unwrap().into_inner().credential;
        Self { channel, credential, id: edge_id }
    }

    /// Subscribes to everything and acknowledges whatever comes; comes again where it is told to.
    async fn follow(self, heard: Arc<AtomicU64>, turned_away: Arc<AtomicU64>) {
        loop {
            let ended = self.stream(&heard).await;
            assert_eq!(ended.code(), Code::Unavailable, "{ended}");
            turned_away.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn stream(&self, heard: &AtomicU64) -> Status {
        match self.try_stream(heard).await {
            Ok(()) => Status::unavailable("the stream ended"),
            Err(status) => status,
        }
    }

    async fn try_stream(&self, heard: &AtomicU64) -> Result<(), Status> {
        let (out, outgoing) = mpsc::channel(64);
        let mut edge = Some(Edge {
            id: self.id.clone(),
            version: "bench".to_owned(),
            sibling_address: "127.0.0.1:1".to_owned(),
            sibling_certificate_sha256: vec![7; 32],
            ..Default::default()
        });
        for kind in StreamType::ALL {
            let type_url = kind.url().to_owned();
            let subscribe = vec!["*".to_owned()];
            let request =
                StreamResourcesRequest { edge: edge.take(), type_url, subscribe, ..Default::default() };
            out.send(request).await.unwrap();
        }
        let mut request = Request::new(ReceiverStream::new(outgoing));
        let bearer = format!("Bearer {}", self.credential).parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let channel = self.channel.clone();
        let mut client = DiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let mut responses = client.stream_resources(request).await?.into_inner();
        while let Some(response) = responses.message().await? {
            // A heartbeat, or a sign that it has to wait.
            if response.nonce.is_empty() {
                continue;
            }
            let bodies = response.resources.iter().filter_map(|resource| resource.body.as_ref());
            heard.fetch_add(bodies.map(|body| body.value.len() as u64).sum(), Ordering::Relaxed);
            let (type_url, response_nonce) = (response.type_url, response.nonce);
            let answer = StreamResourcesRequest { type_url, response_nonce, ..Default::default() };
            out.send(answer).await.map_err(|_| Status::unavailable("the stream ended"))?;
        }
        Ok(())
    }
}
