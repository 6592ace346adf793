//! Floods: connections that say nothing, bodies that never end, and clients that read nothing. They cost a bounded part of
//! the gateway, and those who have a credential do not notice.

use std::process::Command;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_types::StatusExt as _;
use trunkline::discovery::v1::EnrollEdgeRequest;
use trunkline::discovery::v1::enrollment_service_client::EnrollmentServiceClient;

use crate::support::fake::{Fake, id, json as answer_json, tool as definition};
use crate::support::folder::Folder;
use crate::support::gateway::{Gateway, Store};
use crate::support::process::Process;
use crate::support::wire::{Client, LEGACY};
use crate::support::{PATIENCE, binary, eventually, free_port, tool};

const MIB: usize = 1 << 20;
/// Connections of a flood to one listener, which takes a third of them at most.
const FLOOD: usize = 300;

/// A gateway whose control plane has these options, and whose one edge has those.
pub(super) async fn start(control: &[&str], edge: &[&str]) -> Gateway {
    let mut gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.stop_control();
    gateway.configure_control(control, &[]);
    gateway.start_control().await;
    gateway.add_edge(edge).await;
    gateway
}

/// An upstream with a tool `echo`, and `large` whose response has 700,000 bytes; a server of them, and a bearer.
pub(super) async fn serve(gateway: &Gateway) -> (Fake, String) {
    let tools = format!("[{},{}]", definition("echo"), definition("large"));
    let fake = Fake::start(&tools, |name, request| {
        let text = if name == "large" { "x".repeat(700_000) } else { "hello".to_owned() };
        let result = format!(r#"{{"content":[{{"type":"text","text":"{text}"}}]}}"#);
        vec![answer_json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(request)))]
    })
    .await;
    gateway.admin.create_upstream("fake", &fake.url()).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("client", "dev", &["*"]).await;
    gateway.admin.settled().await;
    (fake, bearer)
}

pub(super) async fn assert_calls(client: &Client) {
    let answer = client.call("echo", "{}").await.unwrap();
    assert_eq!(answer.json()["result"]["content"][0]["text"], "hello", "{answer:?}");
}

/// Connections that say nothing, until they are dropped.
pub(super) async fn idle(address: &str, count: usize) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(TcpStream::connect(address).await.unwrap());
    }
    connections
}

/// Waits until the other side has closed a connection.
pub(super) async fn closed(stream: &mut TcpStream) {
    let ended = async { while let Ok(1..) = stream.read(&mut [0; 4096]).await {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the connection is kept open");
}

/// The value of a metric, by its name and labels.
pub(super) async fn metric(url: &str, name: &str) -> i64 {
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// An answer of HTTP/1, as far as it came: its status, its `retry-after` and its body.
pub(super) async fn answer(stream: &mut TcpStream) -> (u16, Option<String>, Value) {
    let mut bytes = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let header = |name: &str| {
                    head.lines()
                        .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
                };
                let length = header("content-length").map_or(0, |length| length.parse().unwrap());
                if body.len() >= length {
                    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                    return (status, header("retry-after"), serde_json::from_str(body).unwrap_or_default());
                }
            }
            match stream.read(&mut buffer).await {
                Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
                ended => panic!("{ended:?} after {text:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("no answer")
}

/// Waits until a metric has grown so far: whoever counts may come a moment after what is counted.
pub(super) async fn at_least(count: i64, url: &str, name: &str) {
    eventually(name, PATIENCE, || async {
        let found = metric(url, name).await;
        if found >= count { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

/// Begins a JSON rpc whose body is announced as so long, and sends so much of it.
pub(super) async fn begin_rpc(
    gateway: &Gateway,
    rpc: &str,
    bearer: Option<&str>,
    length: usize,
    sent: usize,
) -> TcpStream {
    let authorization =
        bearer.map_or_else(String::new, |bearer| format!("authorization: Bearer {bearer}\r\n"));
    let head = format!(
        "POST /{rpc} HTTP/1.1\r\nhost: {}\r\n{authorization}content-type: application/json\r\ncontent-length: {length}\r\n\r\n",
        gateway.control_address()
    );
    begin(gateway.control_address(), &head, sent).await
}

pub(super) async fn begin(address: &str, head: &str, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // Whoever has refused it already need not read it.
    let _ = stream.write_all(&vec![b' '; sent]).await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_keep_nobody_out() {
    // None of them is closed for its age.
    let limits = ["--max-connections", "100", "--authentication-timeout", "600"];
    let gateway = start(&limits, &limits).await;
    let (_fake, bearer) = serve(&gateway).await;
    let control_metrics = format!("http://{}/metrics", gateway.control_address());
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let mut to_control = idle(gateway.control_address(), FLOOD).await;
    let mut to_edge = idle(gateway.edge_address(0), FLOOD).await;
    let _to_operators = idle(gateway.operations_address(0), FLOOD).await;

    // People, health checkers and clients come anew; the edge has its stream since before.
    let health = reqwest::get(format!("http://{}/healthz", gateway.control_address())).await.unwrap();
    assert_eq!((health.status().as_u16(), &*health.text().await.unwrap()), (200, "ok\n"));
    let edges: Value = serde_json::from_str(&gateway.ctl("get edges -o json").await).unwrap();
    assert!(edges.to_string().contains(r#""connected":true"#), "{edges}");
    assert_calls(&client).await;
    assert_calls(&Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap()).await;
    let later = gateway.admin.create_token("later", "dev", &["*"]).await;
    gateway.admin.settled().await;
    assert_calls(&Client::open(&gateway.url(0, "dev"), &later).await.unwrap()).await;

    // The oldest are gone, and the newest are still there.
    for oldest in to_control.iter_mut().chain(&mut to_edge).step_by(FLOOD) {
        closed(oldest).await;
    }
    let strangers = metric(&control_metrics, "trunkline_control_connections_unauthenticated").await;
    assert!((1..=75).contains(&strangers), "{strangers}");
    at_least(200, &control_metrics, r#"trunkline_control_connections_closed_total{reason="evicted"}"#).await;
    let of_clients = r#"trunkline_edge_connections_unauthenticated{listener="clients"}"#;
    let strangers = metric(&gateway.metrics_url(0), of_clients).await;
    assert!((1..=75).contains(&strangers), "{strangers}");
    let closed = r#"trunkline_edge_connections_closed_total{listener="clients",reason="evicted"}"#;
    at_least(200, &gateway.metrics_url(0), closed).await;
    let closed = r#"trunkline_edge_connections_closed_total{listener="operators",reason="evicted"}"#;
    at_least(44, &gateway.metrics_url(0), closed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_its_part_unless_it_is_a_balancers() {
    let limits = ["--max-unauthenticated-per-address", "5", "--authentication-timeout", "600"];
    let balancer = [&limits[..], &["--balancer-address", "127.0.0.0/8"]].concat();
    let gateway = start(&limits, &balancer).await;
    let _to_control = idle(gateway.control_address(), 20).await;
    let _to_edge = idle(gateway.edge_address(0), 20).await;
    let control_metrics = format!("http://{}/metrics", gateway.control_address());
    let from_address = r#"trunkline_control_connections_closed_total{reason="too_many_from_address"}"#;
    at_least(15, &control_metrics, from_address).await;
    let strangers = metric(&control_metrics, "trunkline_control_connections_unauthenticated").await;
    assert!((1..=5).contains(&strangers), "{strangers}");
    eventually("the edge keeps all connections of its balancer", PATIENCE, || async {
        let of_clients = r#"trunkline_edge_connections_unauthenticated{listener="clients"}"#;
        let open = metric(&gateway.metrics_url(0), of_clients).await;
        if open == 20 { Ok(()) } else { Err(open.to_string()) }
    })
    .await;
    let closed =
        r#"trunkline_edge_connections_closed_total{listener="clients",reason="too_many_from_address"}"#;
    assert_eq!(metric(&gateway.metrics_url(0), closed).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_authenticate_in_time_goes_and_who_has_stays() {
    let limits = ["--authentication-timeout", "5"];
    let gateway = start(&limits, &limits).await;
    let (_fake, bearer) = serve(&gateway).await;
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let host = gateway.edge_address(0);
    let request = |bearer: &str| {
        let head = "POST /servers/dev/mcp HTTP/1.1\r\naccept: application/json, text/event-stream";
        format!(
            "{head}\r\nhost: {host}\r\nauthorization: Bearer {bearer}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{list}",
            list.len()
        )
    };
    let mut known = begin(host, &request(&bearer), 0).await;
    // Without a session it is refused, by one who knows who asks.
    assert_eq!(answer(&mut known).await.0, 400);
    let mut refused = begin(host, &request("nonsense"), 0).await;
    assert_eq!(answer(&mut refused).await.0, 401);
    let mut silent = TcpStream::connect(gateway.edge_address(0)).await.unwrap();
    let mut at_control = TcpStream::connect(gateway.control_address()).await.unwrap();
    let mut at_siblings = TcpStream::connect(gateway.sibling_address(0)).await.unwrap();
    for stranger in [&mut refused, &mut silent, &mut at_control, &mut at_siblings] {
        closed(stranger).await;
    }
    known.write_all(request(&bearer).as_bytes()).await.unwrap();
    assert_eq!(answer(&mut known).await.0, 400);
    let timeouts =
        r#"trunkline_edge_connections_closed_total{listener="clients",reason="authentication_timeout"}"#;
    at_least(2, &gateway.metrics_url(0), timeouts).await;
}

/// The details of an error of the control plane over JSON.
pub(super) fn details(reason: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "trunkline.dev", "metadata": {}})
}

const ENROLL: &str = "trunkline.discovery.v1.EnrollmentService/EnrollEdge";
const LIST: &str = "trunkline.registry.v1.UpstreamService/ListUpstreams";

#[tokio::test(flavor = "multi_thread")]
async fn strangers_send_the_control_plane_four_kibibytes() {
    let gateway = start(&["--body-timeout", "2"], &[]).await;
    let control = gateway.control();
    let before = control.resident();
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let mut stream = begin_rpc(&gateway, ENROLL, None, 31 * MIB, 8 << 10).await;
        flood.spawn(async move {
            let answered = answer(&mut stream).await;
            // It may go on sending: nobody keeps it.
            let _ = stream.write_all(&vec![b' '; MIB]).await;
            answered
        });
    }
    let too_large = json!({
        "code": "RESOURCE_EXHAUSTED",
        "message": "the body is larger than 4096 bytes",
        "details": [details("BODY_TOO_LARGE")],
    });
    for answered in flood.join_all().await {
        assert_eq!(answered, (429, None, too_large.clone()));
    }
    let grown = control.resident().saturating_sub(before);
    assert!(grown < 96 * MIB as u64, "30 bodies of strangers cost {} MiB", grown / MIB as u64);

    let url = format!("http://{}", gateway.control_address());
    let mut client = EnrollmentServiceClient::connect(url).await.unwrap();
    let request = EnrollEdgeRequest { join_token: "x".repeat(8 << 10), ..Default::default() };
    let status = client.enroll_edge(request).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, "the body is larger than 4096 bytes")
    );
    assert_eq!(status.get_details_error_info().unwrap().reason, "BODY_TOO_LARGE");

    // One that stops in the middle is told so in time, and one without a credential before it has sent anything.
    let mut slow = begin_rpc(&gateway, ENROLL, None, 1_000, 10).await;
    let (status, _, body) = answer(&mut slow).await;
    assert_eq!((status, &body["details"]), (504, &json!([details("BODY_TIMEOUT")])));
    let mut stranger = begin_rpc(&gateway, LIST, None, 31 * MIB, 0).await;
    let (status, _, body) = answer(&mut stranger).await;
    assert_eq!((status, &body["details"]), (401, &json!([details("ADMIN_REQUIRED")])));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_leaves_memory_of_the_control_plane_to_others() {
    let gateway = start(&["--body-timeout", "600", "--max-body-memory-bytes", "134217728"], &[]).await;
    let control = gateway.control();
    let before = control.resident();
    let admin = Some(gateway.admin_token());
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(begin_rpc(&gateway, LIST, admin, 31 * MIB, 30 * MIB).await);
    }
    let refused = json!({
        "code": "RESOURCE_EXHAUSTED",
        "message": "too much memory is in use for bodies",
        "details": [
            details("OVERLOADED"),
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"},
        ],
    });
    // Two of 30 MiB are half of the budget, nearly.
    let last = held.last_mut().unwrap();
    assert_eq!(answer(last).await, (503, Some("1".to_owned()), refused));
    let grown = control.resident().saturating_sub(before);
    assert!(grown < 384 * MIB as u64, "bodies of 360 MiB cost {} MiB", grown / MIB as u64);
    // An edge that comes anew needs memory, too: the caller is another.
    let metrics = format!("http://{}/metrics", gateway.control_address());
    let used = metric(&metrics, "trunkline_control_body_memory_bytes").await;
    assert!((1..=64 * MIB as i64).contains(&used), "{used}");
    at_least(1, &metrics, "trunkline_control_body_memory_refused_total").await;
    let mut gateway = gateway;
    gateway.add_edge(&[]).await;
    drop(held);
    eventually("the memory is given back", PATIENCE, || async {
        let used = metric(&metrics, "trunkline_control_body_memory_bytes").await;
        if used == 0 { Ok(()) } else { Err(used.to_string()) }
    })
    .await;
    gateway.ctl("get upstreams").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_leaves_memory_of_an_edge_to_others() {
    let limits =
        ["--max-body-memory-bytes", "1048576", "--max-body-bytes", "262144", "--body-timeout", "600"];
    let gateway = start(&[], &limits).await;
    let (_fake, bearer) = serve(&gateway).await;
    let other = gateway.admin.create_token("other", "dev", &["*"]).await;
    gateway.admin.settled().await;
    let address = gateway.edge_address(0);
    let head = |length: usize| {
        format!(
            "POST /servers/dev/mcp HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {bearer}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(begin(address, &head(200_000), 160_000).await);
    }
    eventually("what was sent is held", PATIENCE, || async {
        let used = metric(&gateway.metrics_url(0), "trunkline_edge_body_memory_bytes").await;
        if used == 480_000 { Ok(()) } else { Err(used.to_string()) }
    })
    .await;
    // Half of the budget is this token's, and a fourth body would pass it.
    let refused = json!({
        "jsonrpc": "2.0",
        "error": {
            "code": -31009,
            "message": "too much memory is in use for bodies at this edge; send it again later",
            "data": {"reason": "body_memory"},
        },
    });
    let mut over = begin(address, &head(160_000), 160_000).await;
    assert_eq!(answer(&mut over).await, (503, Some("1".to_owned()), refused.clone()));
    at_least(1, &gateway.metrics_url(0), "trunkline_edge_body_memory_refused_total").await;
    // So it is on a WebSocket, where the error has the id.
    let mut socket = websocket(&gateway, &bearer).await;
    let padding = " ".repeat(160_000);
    send_text(&mut socket, &format!(r#"{{"jsonrpc":"2.0","id":7,"method":"ping"{padding}}}"#)).await;
    let mut over_websocket = refused.clone();
    over_websocket["id"] = json!(7);
    assert_eq!(receive_text(&mut socket).await, over_websocket);
    // An upstream has its share of what is left, too.
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let answered = client.call("large", "{}").await.unwrap();
    let too_much = json!({
        "jsonrpc": "2.0",
        "id": 1,
        "error": {
            "code": -31112,
            "message": "upstream fake: the response does not fit into the memory that this edge has left for bodies",
            "data": {"reason": "body_memory", "upstream": "fake"},
        },
    });
    assert_eq!((answered.status, answered.json()), (200, too_much));
    // Its small calls go on, and large ones of another token.
    assert_calls(&Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap()).await;
    let client = Client::open(&gateway.url(0, "dev"), &other).await.unwrap();
    let large = client.call("echo", &format!(r#"{{"text":"{}"}}"#, "x".repeat(150_000))).await.unwrap();
    assert_eq!(large.json()["result"]["content"][0]["text"], "hello", "{large:?}");
    drop(held);
    eventually("the memory is given back", PATIENCE, || async {
        let used = metric(&gateway.metrics_url(0), "trunkline_edge_body_memory_bytes").await;
        if used == 0 { Ok(()) } else { Err(used.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_leaves_requests_in_flight_to_others() {
    let gateway = start(&[], &["--max-in-flight", "8", "--body-timeout", "600"]).await;
    let (_fake, bearer) = serve(&gateway).await;
    // Tokens are counted in slots, which two may share by chance, and three hardly ever.
    let mut others = Vec::new();
    for name in ["other1", "other2", "other3"] {
        others.push(gateway.admin.create_token(name, "dev", &["*"]).await);
    }
    gateway.admin.settled().await;
    let address = gateway.edge_address(0);
    let head = format!(
        "POST /servers/dev/mcp HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {bearer}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\ncontent-length: 100\r\n\r\n"
    );
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(begin(address, &head, 10).await);
    }
    eventually("the requests are in flight", PATIENCE, || async {
        let in_flight = metric(&gateway.metrics_url(0), "trunkline_edge_in_flight").await;
        if in_flight == 4 { Ok(()) } else { Err(in_flight.to_string()) }
    })
    .await;
    let refused = json!({
        "jsonrpc": "2.0",
        "error": {
            "code": -31009,
            "message": "this token has its share of the requests in flight at this edge (--max-in-flight); wait for responses first",
            "data": {"reason": "too_many_requests"},
        },
    });
    for _ in 0..3 {
        let mut over = begin(address, &head, 10).await;
        assert_eq!(answer(&mut over).await, (429, Some("1".to_owned()), refused.clone()));
    }
    let counted = r#"trunkline_edge_shares_refused_total{bound="in_flight"}"#;
    at_least(3, &gateway.metrics_url(0), counted).await;
    let mut served = 0;
    for other in &others {
        if let Ok(client) = Client::open(&gateway.url(0, "dev"), other).await {
            assert_calls(&client).await;
            served += 1;
        }
    }
    assert!(served > 0, "nobody else is served");
    drop(held);
    let url = gateway.url(0, "dev");
    eventually("the token is served again", PATIENCE, || Client::open(&url, &bearer)).await;
}

/// The request for a WebSocket to the server `dev` (RFC 6455).
pub(super) fn websocket_head(gateway: &Gateway, bearer: &str) -> String {
    let address = gateway.edge_address(0);
    format!(
        "GET /servers/dev/ws HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {bearer}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A WebSocket to the server `dev`, by hand.
pub(super) async fn websocket(gateway: &Gateway, bearer: &str) -> TcpStream {
    let mut stream = begin(gateway.edge_address(0), &websocket_head(gateway, bearer), 0).await;
    assert_eq!(answer(&mut stream).await.0, 101);
    stream
}

/// Sends a text frame, masked with zeros.
pub(super) async fn send_text(stream: &mut TcpStream, text: &str) {
    let head = [&[0x81, 0xff][..], &(text.len() as u64).to_be_bytes(), &[0; 4]].concat();
    stream.write_all(&[&head, text.as_bytes()].concat()).await.unwrap();
}

/// Receives a text frame of 126 to 65,535 bytes.
pub(super) async fn receive_text(stream: &mut TcpStream) -> Value {
    let read = async {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(head[..2], [0x81, 126], "{head:?}");
        let mut text = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
        stream.read_exact(&mut text).await.unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    tokio::time::timeout(PATIENCE, read).await.expect("no message")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_cut_off() {
    let gateway = start(&[], &["--send-timeout", "1", "--header-timeout", "600"]).await;
    let fake = Fake::start(&format!("[{}]", definition("large")), |_, request| {
        let text = "x".repeat(24 * MIB);
        let result = format!(r#"{{"content":[{{"type":"text","text":"{text}"}}]}}"#);
        vec![answer_json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(request)))]
    })
    .await;
    gateway.admin.create_upstream("fake", &fake.url()).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("client", "dev", &["*"]).await;
    gateway.admin.settled().await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"large","arguments":{}}}"#;
    let head = format!(
        "POST /servers/dev/mcp HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {bearer}\r\nmcp-session-id: {}\r\nmcp-protocol-version: {LEGACY}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n{call}",
        gateway.edge_address(0),
        client.session().unwrap(),
        call.len(),
    );
    let _unread = begin(gateway.edge_address(0), &head, 0).await;
    eventually("the call is answered", PATIENCE, || async {
        if fake.received("tools/call").is_empty() { Err("nothing was called".to_owned()) } else { Ok(()) }
    })
    .await;
    drop(client);
    eventually("the connection is closed, and its memory is free", PATIENCE, || async {
        let open = metric(&gateway.metrics_url(0), "trunkline_edge_connections").await;
        let used = metric(&gateway.metrics_url(0), "trunkline_edge_body_memory_bytes").await;
        if (open, used) == (0, 0) { Ok(()) } else { Err(format!("{open} open, {used} bytes")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exposed_server_lets_idle_connections_go() {
    let folder = Folder::new();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(binary("mcpctl"));
    command.args(["expose", "--listen", &address, "--"]).arg(tool("python/bin/mcp-server-time"));
    let mut expose = Process::start("expose", command, folder.path());
    let url = format!("http://{address}/mcp");
    let client = eventually("the server is exposed", PATIENCE, || {
        expose.assert_alive();
        async { Client::open(&url, "").await }
    })
    .await;
    let mut silent = idle(&address, 3).await;
    let mut slow = begin(&address, &format!("POST /mcp HTTP/1.1\r\nhost: {address}\r\n"), 0).await;
    for stranger in silent.iter_mut().chain([&mut slow]) {
        closed(stranger).await;
    }
    assert_eq!(client.tools().await.unwrap().len(), 2);
    let get = format!("GET /mcp HTTP/1.1\r\nhost: {address}\r\n");
    for (lines, status) in [
        ("content-length: 5\r\ntransfer-encoding: chunked", 400),
        ("mcp-session-id: a\r\nmcp-session-id: b", 403),
    ] {
        let mut refused = begin(&address, &format!("{get}{lines}\r\n\r\n"), 0).await;
        assert_eq!(answer(&mut refused).await.0, status, "{lines}");
    }
    let head = format!("POST /mcp HTTP/1.1\r\nhost: {address}\r\ncontent-length: 99999999\r\n\r\n");
    let mut large = begin(&address, &head, 17 * MIB).await;
    assert_eq!(answer(&mut large).await.0, 413);
}
