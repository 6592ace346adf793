//! Edges and clients that come and go, while others go on: no sticky sessions, nothing lost that the protocol could save,
//! nothing left behind, and every change told on every edge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::fake::{Fake, Step, id, json, tool};
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::{Client, LEGACY, MODERN, modern_meta};
use crate::support::{PATIENCE, about_a_second, assert_in_time, eventually};

const EDGES: usize = 3;

/// A gateway of three edges before an upstream with a tool that answers, and one that takes its time.
async fn fleet() -> (Gateway, Fake, String) {
    let tools = format!("[{},{}]", tool("quick"), tool("endless"));
    let upstream = Fake::start(&tools, |name, request| {
        let wait = if name == "endless" { Duration::from_secs(600) } else { Duration::from_millis(5) };
        let answer = format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[{{"type":"text","text":"done"}}],"resultType":"complete"}}}}"#,
            id(request)
        );
        vec![Step::Wait(wait), json(200, &answer)]
    })
    .await;
    let gateway = Gateway::start(Store::Sqlite, EDGES).await;
    gateway.admin.create_upstream("fake", &upstream.url()).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("load", "dev", &["*"]).await;
    gateway.admin.settled().await;
    (gateway, upstream, bearer)
}

/// Clients that call without end, each request at the next edge over a connection of its own, as behind a balancer that
/// knows no stickiness and leaves out an edge that takes no connections.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Result<(), String>>>,
}

impl Load {
    async fn start(gateway: &Gateway, bearer: &str) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let urls: Vec<String> = (0..EDGES).map(|edge| gateway.url(edge, "dev")).collect();
        let mut clients = Vec::new();
        for number in 0..6 {
            let client = match number % 2 {
                0 => Client::open(&urls[number % EDGES], bearer).await.unwrap(),
                _ => Client::new(&urls[number % EDGES], bearer),
            };
            let (urls, stop, done) = (urls.clone(), Arc::clone(&stop), Arc::clone(&done));
            clients.push(tokio::spawn(async move {
                for turn in number.. {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    call_somewhere(&client, &urls, turn).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        Self { stop, done, clients }
    }

    /// Waits until every client has got some further.
    async fn goes_on(&self) {
        let wanted = self.done.load(Ordering::Relaxed) + 60;
        eventually("the load goes on", PATIENCE, || async {
            let done = self.done.load(Ordering::Relaxed);
            if done >= wanted || self.clients.iter().any(JoinHandle::is_finished) {
                Ok(())
            } else {
                Err(format!("{done} calls"))
            }
        })
        .await;
    }

    async fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap().unwrap();
        }
        self.done.load(Ordering::Relaxed)
    }
}

/// One call at the next edge that takes connections. Whatever that edge then answers counts.
async fn call_somewhere(client: &Client, urls: &[String], turn: usize) -> Result<(), String> {
    for edge in (0..urls.len()).map(|step| (turn + step) % urls.len()) {
        let address = urls[edge].trim_start_matches("http://").split('/').next().unwrap();
        if TcpStream::connect(address).await.is_err() {
            continue;
        }
        return match post(&client.at(&urls[edge])).await {
            // It stopped to listen between the two.
            Err(error) if error.contains("ConnectionRefused") => continue,
            Err(error) => Err(format!("edge {edge}: {error}")),
            Ok(()) => Ok(()),
        };
    }
    Err("no edge takes connections".to_owned())
}

async fn post(client: &Client) -> Result<(), String> {
    let mut extra = vec![("connection", "close")];
    let mut params = r#""name":"quick","arguments":{}"#.to_owned();
    if client.session().is_none() {
        params = format!("{params},{}", modern_meta());
        extra.extend([("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "quick")]);
    }
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{params}}}}}"#);
    let answer = client.post(&body, &extra).await?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    if answer.status == 200 && text.contains("done") {
        Ok(())
    } else {
        Err(format!("{}: {text}", answer.status))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_restart_one_after_the_other_under_load_and_no_call_is_lost() {
    let (mut gateway, _upstream, bearer) = fleet().await;
    let load = Load::start(&gateway, &bearer).await;
    load.goes_on().await;
    for edge in 0..EDGES {
        gateway.stop_edge(edge);
        load.goes_on().await;
        gateway.start_edge(edge).await;
        gateway.all_connected().await;
        load.goes_on().await;
    }
    let calls = load.finish().await;
    assert!(calls > 300, "hardly a load: {calls} calls");
}

/// A stream that is open: a GET of the legacy era, or a `subscriptions/listen`.
struct Stream {
    socket: TcpStream,
    seen: String,
}

impl Stream {
    async fn open(gateway: &Gateway, edge: usize, bearer: &str, session: Option<&str>) -> Self {
        let (verb, extra, body) = match session {
            Some(session) => (
                "GET",
                format!("mcp-session-id: {session}\r\nmcp-protocol-version: {LEGACY}\r\n"),
                String::new(),
            ),
            None => (
                "POST",
                format!(
                    "mcp-protocol-version: {MODERN}\r\nmcp-method: subscriptions/listen\r\ncontent-type: application/json\r\n"
                ),
                format!(
                    r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true}},{}}}}}"#,
                    modern_meta()
                ),
            ),
        };
        let address = gateway.edge_address(edge);
        let head = format!(
            "{verb} /servers/dev/mcp HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {bearer}\r\naccept: application/json, text/event-stream\r\ncontent-length: {}\r\n{extra}\r\n{body}",
            body.len()
        );
        let mut stream = Self { socket: TcpStream::connect(address).await.unwrap(), seen: String::new() };
        stream.socket.write_all(head.as_bytes()).await.unwrap();
        let greeting = if session.is_some() { "id: 0" } else { "acknowledged" };
        stream.until(greeting).await;
        stream
    }

    /// Reads until something was said.
    async fn until(&mut self, needle: &str) {
        let read = async {
            let mut buffer = [0; 4096];
            while !self.seen.contains(needle) {
                let count = self.socket.read(&mut buffer).await.unwrap();
                assert!(count > 0, "the stream ended: {}", self.seen);
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        let read = tokio::time::timeout(PATIENCE, read).await;
        assert!(read.is_ok(), "no {needle}: {}", self.seen);
    }
}

/// Streams of both eras on every edge.
async fn streams(gateway: &Gateway, bearer: &str) -> Vec<Stream> {
    let mut streams = Vec::new();
    for edge in 0..EDGES {
        let client = Client::open(&gateway.url(edge, "dev"), bearer).await.unwrap();
        for session in [client.session(), None] {
            streams.push(Stream::open(gateway, edge, bearer, session).await);
        }
    }
    streams
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_on_every_edge_within_a_second() {
    let (gateway, _upstream, bearer) = fleet().await;
    let clients: Vec<_> = (0..EDGES).map(|edge| Client::new(&gateway.url(edge, "dev"), &bearer)).collect();
    let mut timed = Vec::new();
    for member in ["fake/quick", "fake/*", "fake/quick"] {
        let mut streams = streams(&gateway, &bearer).await;
        let may_take = about_a_second(async || {
            for client in &clients {
                client.tools().await.unwrap();
            }
        });
        let may_take = may_take.await;
        let start = Instant::now();
        gateway.ctl_args(&["update", "server", "dev", "--tool", member, "--yes"]).await;
        for stream in &mut streams {
            stream.until("notifications/tools/list_changed").await;
        }
        timed.push((start.elapsed(), may_take));
    }
    assert_in_time("a change", &timed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_with_streams_open_leaves_nothing_behind() {
    let (gateway, upstream, bearer) = fleet().await;
    let streams = streams(&gateway, &bearer).await;
    // And with calls under way, one in each era.
    let modern = format!(r#""name":"endless","arguments":{{}},{}"#, modern_meta());
    let legacy = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let calls = [
        tokio::spawn({
            let client = Client::new(&gateway.url(0, "dev"), &bearer);
            async move {
                let extra =
                    [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "endless")];
                client
                    .post(
                        &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{modern}}}}}"#),
                        &extra,
                    )
                    .await
            }
        }),
        tokio::spawn(async move {
            legacy
                .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"endless"}}"#, &[])
                .await
        }),
    ];
    eventually("both calls are under way", PATIENCE, || async {
        match upstream.received("tools/call").len() {
            2 => Ok(()),
            count => Err(format!("{count}")),
        }
    })
    .await;
    assert_eq!(sum(&gateway, "trunkline_edge_streams").await, 6.0);
    calls.iter().for_each(JoinHandle::abort);
    drop(streams);
    for metric in ["trunkline_edge_streams", "trunkline_edge_connections"] {
        eventually(metric, PATIENCE, || async {
            let left = sum(&gateway, metric).await;
            if left == 0.0 { Ok(()) } else { Err(format!("{left}")) }
        })
        .await;
    }
}

/// A metric, added up over all edges and labels.
async fn sum(gateway: &Gateway, metric: &str) -> f64 {
    let mut sum = 0.0;
    for edge in 0..gateway.edge_count() {
        let text = reqwest::get(gateway.metrics_url(edge)).await.unwrap().text().await.unwrap();
        let values = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(metric));
        sum += values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
    }
    sum
}
