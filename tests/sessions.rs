//! Sessions whose home is a connection: many at once over HTTP+SSE, posts that meet another edge, and a host on stdio
//! that does not notice when its edge is started again.

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::support::fake::{Fake, id, json, tool};
use crate::support::gateway::{Gateway, Store};
use crate::support::{PATIENCE, eventually};

const SESSIONS: usize = 1_000;
/// What one session may take of the memory of an edge that is not optimised, in bytes.
const MEMORY: u64 = 160 << 10;

async fn start(edges: usize) -> (Gateway, Fake, String) {
    let upstream = Fake::start(&format!("[{},{}]", tool("a"), tool("b")), |_, request| {
        let answer = r#"{"content":[{"type":"text","text":"done"}]}"#;
        vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{answer}}}"#, id(request)))]
    })
    .await;
    let gateway = Gateway::start_with(Store::Sqlite, edges, &["--max-streams-per-token", "2000"]).await;
    gateway.admin.create_upstream("fake", &upstream.url()).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("t", "dev", &["*"]).await;
    gateway.admin.settled().await;
    (gateway, upstream, bearer)
}

/// A session over HTTP+SSE. Its posts may go to another edge than its stream.
struct Session {
    client: reqwest::Client,
    stream: reqwest::Response,
    read: String,
    endpoint: String,
    bearer: String,
}

impl Session {
    async fn open(client: &reqwest::Client, stream_at: &str, post_at: &str, bearer: &str) -> Self {
        let get = client.get(format!("http://{stream_at}/servers/dev/sse")).bearer_auth(bearer);
        let stream = get.send().await.unwrap().error_for_status().unwrap();
        let (client, bearer) = (client.clone(), bearer.to_owned());
        let mut session = Self { client, stream, read: String::new(), endpoint: String::new(), bearer };
        session.endpoint = format!("http://{post_at}{}", session.next().await.unwrap());
        let params =
            r#"{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"t","version":"1"}}"#;
        let initialize = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}"#);
        assert_eq!(session.post(&initialize).await, 202);
        assert!(session.next().await.unwrap().contains("2024-11-05"));
        assert_eq!(session.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await, 202);
        session
    }

    async fn post(&self, body: &str) -> u16 {
        let post = self.client.post(&self.endpoint).bearer_auth(&self.bearer);
        let post = post.header("content-type", "application/json").body(body.to_owned());
        post.send().await.unwrap().status().as_u16()
    }

    /// The data of the next event; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.find("\n\n") {
                let event: String = self.read.drain(..end + 2).collect();
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                match data {
                    Some(data) => return Some(data.to_owned()),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.stream.chunk()).await.expect("nothing came");
            self.read.push_str(std::str::from_utf8(&chunk.unwrap_or_default()?).unwrap());
        }
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn metric(gateway: &Gateway, edge: usize, name: &str) -> i64 {
    let text = reqwest::get(gateway.metrics_url(edge)).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sessions_are_told_of_one_change() {
    let (gateway, _upstream, bearer) = start(1).await;
    let address = gateway.edge_address(0).to_owned();
    let before = gateway.edge(0).resident();
    let client = client();
    let mut sessions = Vec::new();
    while sessions.len() < SESSIONS {
        let some = (0..50).map(|_| Session::open(&client, &address, &address, &bearer));
        sessions.extend(join_all(some).await);
    }
    // Answered, so that what was said before it is taken.
    join_all(sessions.iter_mut().map(async |session| {
        assert_eq!(session.post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await, 202);
        assert_eq!(session.next().await.unwrap(), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    }))
    .await;
    assert_eq!(
        metric(&gateway, 0, "trunkline_edge_client_sessions{transport=\"sse\"}").await,
        SESSIONS as i64
    );
    let each = gateway.edge(0).resident().saturating_sub(before) / SESSIONS as u64;
    assert!(each < MEMORY, "a session takes {each} bytes");

    gateway.admin.edit_token("t", "dev", &["a"]).await.unwrap();
    let told = join_all(sessions.iter_mut().map(Session::next)).await;
    for message in told {
        assert_eq!(message.unwrap(), r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    }

    drop(sessions);
    drop(client);
    eventually("nothing is left of a thousand sessions", PATIENCE, || async {
        let mut left = Vec::new();
        for name in [
            "trunkline_edge_client_sessions{transport=\"sse\"}",
            "trunkline_edge_streams",
            "trunkline_edge_in_flight",
        ] {
            left.push(metric(&gateway, 0, name).await);
        }
        if left == [0, 0, 0] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_led_to_the_edge_that_holds_the_stream() {
    let (mut gateway, _upstream, bearer) = start(2).await;
    let addresses = [0, 1].map(|edge| gateway.edge_address(edge).to_owned());
    let client = client();
    let mut session = Session::open(&client, &addresses[0], &addresses[1], &bearer).await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#;
    assert_eq!(session.post(call).await, 202);
    assert!(session.next().await.unwrap().contains("done"));
    gateway.kill_edge(0);
    eventually("the session is gone with its edge", PATIENCE, || async {
        let status = session.post(call).await;
        if status == 404 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// A host that runs `mcpctl connect dev`.
struct Host {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Host {
    fn start(gateway: &Gateway) -> Self {
        let mut process = gateway.spawn_ctl(&["connect", "dev"]);
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { input: process.stdin.take().unwrap(), output, _process: process }
    }

    async fn say(&mut self, message: &str) {
        self.input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    /// The answer with this id; what was told meanwhile is passed over.
    async fn answer(&mut self, id: u32) -> String {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await.expect("no answer");
            let line = line.unwrap().expect("the bridge ended");
            if line.contains(&format!(r#""id":{id}"#)) {
                return line;
            }
        }
    }

    async fn calls(&mut self, id: u32) {
        let params = r#"{"name":"a","arguments":{}}"#;
        self.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#)).await;
        let answer = self.answer(id).await;
        assert!(answer.contains(r#""text":"done""#), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_on_stdio_does_not_notice_that_its_edge_is_started_again() {
    let (mut gateway, _upstream, _) = start(1).await;
    gateway.ctl("create token laptop --server dev --tool *").await;
    gateway.admin.settled().await;
    let mut host = Host::start(&gateway);
    let params =
        r#"{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}"#;
    host.say(&format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}"#)).await;
    assert!(host.answer(0).await.contains("2025-06-18"));
    host.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    host.calls(1).await;

    gateway.stop_edge(0);
    gateway.start_edge(0).await;
    host.calls(2).await;

    gateway.kill_edge(0);
    // Asked while there is no edge: it is answered when there is one again.
    host.say(r#"{"jsonrpc":"2.0","id":3,"method":"tools/list"}"#).await;
    gateway.start_edge(0).await;
    let listed = host.answer(3).await;
    assert!(listed.contains(r#""name":"a""#), "{listed}");
    // A session that ended is begun again behind the host's back.
    host.calls(4).await;
}
