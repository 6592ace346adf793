//! One credential after every connection: it has what is left for others, and no more. Its own connections go on for as
//! long as they are in use.

use std::process::Command;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use tonic_types::StatusExt as _;
use trunkline::discovery::v1::EnrollEdgeRequest;
use trunkline::discovery::v1::enrollment_service_client::EnrollmentServiceClient;

use super::floods::{
    answer, assert_calls, at_least, begin, begin_rpc, closed, details, metric, receive_text, send_text,
    serve, start, websocket, websocket_head,
};
use crate::support::folder::Folder;
use crate::support::gateway::Gateway;
use crate::support::process::Process;
use crate::support::wire::Client;
use crate::support::{PATIENCE, binary, eventually, free_port};

/// Few connections, none of which is closed for its age. One holder has 19 of them: of 40, 2 are kept, and as many as it has
/// are left. One for whom they are kept has 20.
const FEW: [&str; 6] =
    ["--max-connections", "40", "--authentication-timeout", "600", "--body-timeout", "600"];
const FEW_OF_EDGE: [&str; 2] = ["--header-timeout", "600"];
/// Connections of a flood.
const FLOOD: usize = 60;

/// A request that is refused for its session, by one who knows who asks.
fn list(gateway: &Gateway, bearer: &str) -> String {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let head = "POST /servers/dev/mcp HTTP/1.1\r\naccept: application/json, text/event-stream";
    format!(
        "{head}\r\nhost: {}\r\nauthorization: Bearer {bearer}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        gateway.edge_address(0),
        body.len()
    )
}

/// Connections that each send a request, are answered with this status and then say nothing.
async fn known(address: &str, request: &str, status: u16) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..FLOOD {
        let mut connection = begin(address, request, 0).await;
        assert_eq!(answer(&mut connection).await.0, status);
        connections.push(connection);
    }
    connections
}

/// Sends a message on a WebSocket, and waits for the answer.
async fn assert_answers(socket: &mut TcpStream) {
    send_text(socket, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
    let answer = receive_text(socket).await;
    assert_eq!(answer["id"], 1, "{answer}");
}

fn closed_of(listener: &str) -> String {
    format!(r#"trunkline_{listener}reason="too_many_of_holder"}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_leaves_connections_of_an_edge_to_others() {
    let gateway = start(&[], &[&FEW[..], &FEW_OF_EDGE].concat()).await;
    let (_fake, bearer) = serve(&gateway).await;
    let other = gateway.admin.create_token("other", "dev", &["*"]).await;
    gateway.admin.settled().await;
    let address = gateway.edge_address(0);
    let mut socket = websocket(&gateway, &bearer).await;
    // Each is served, and the oldest that says nothing makes room.
    let mut idle = known(address, &list(&gateway, &bearer), 400).await;
    closed(&mut idle[0]).await;
    let counted = closed_of(r#"edge_connections_closed_total{listener="clients","#);
    at_least(42, &gateway.metrics_url(0), &counted).await;
    let newest = idle.last_mut().unwrap();
    newest.write_all(list(&gateway, &bearer).as_bytes()).await.unwrap();
    assert_eq!(answer(newest).await.0, 400);
    assert_answers(&mut socket).await;

    // Where all are in use, there are no more for it, and it is told.
    let head = websocket_head(&gateway, &bearer);
    let mut sockets = Vec::new();
    let (mut refused, told) = loop {
        let mut next = begin(address, &head, 0).await;
        match answer(&mut next).await {
            (101, ..) => sockets.push(next),
            told => break (next, told),
        }
        assert!(sockets.len() < 40, "one token has every connection");
    };
    assert_eq!(sockets.len(), 18);
    let error = json!({
        "jsonrpc": "2.0",
        "error": {
            "code": -31009,
            "message": "this credential holds too many connections; close some, or send the request on one of them",
            "data": {"reason": "too_many_connections"},
        },
    });
    assert_eq!(told, (429, Some("1".to_owned()), error));
    closed(&mut refused).await;
    assert_answers(&mut socket).await;
    for socket in &mut sockets {
        assert_answers(socket).await;
    }
    assert_calls(&Client::open(&gateway.url(0, "dev"), &other).await.unwrap()).await;

    // Who ends one may begin one.
    drop(sockets.pop());
    eventually("there is room again", PATIENCE, || async {
        let mut next = begin(address, &head, 0).await;
        match answer(&mut next).await.0 {
            101 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_balancer_brings_is_of_many() {
    let balancer = ["--balancer-address", "127.0.0.0/8"];
    let gateway = start(&[], &[&FEW[..], &FEW_OF_EDGE, &balancer].concat()).await;
    let (_fake, bearer) = serve(&gateway).await;
    let request = list(&gateway, &bearer);
    let mut connections = Vec::new();
    for _ in 0..30 {
        let mut connection = begin(gateway.edge_address(0), &request, 0).await;
        assert_eq!(answer(&mut connection).await.0, 400);
        connections.push(connection);
    }
    for connection in &mut connections {
        connection.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(answer(connection).await.0, 400);
    }
    let counted = closed_of(r#"edge_connections_closed_total{listener="clients","#);
    assert_eq!(metric(&gateway.metrics_url(0), &counted).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_edge_and_no_tunnel_keeps_people_and_edges_from_the_control_plane() {
    let gateway = start(&FEW, &[]).await;
    let metrics = format!("http://{}/metrics", gateway.control_address());
    let counted = closed_of("control_connections_closed_total{");
    let people_and_edges = async || {
        for _ in 0..3 {
            let edges: Value = serde_json::from_str(&gateway.ctl("get edges -o json").await).unwrap();
            assert!(edges.to_string().contains(r#""connected":true"#), "{edges}");
        }
    };
    let tunnel = tunnel_credential(&gateway).await;
    let request = format!(
        "GET /tunnels/far HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {tunnel}\r\n\r\n",
        gateway.control_address()
    );
    // No WebSocket is asked for: the credential is good, and the connection stays.
    let of_tunnel = known(gateway.control_address(), &request, 400).await;
    at_least(30, &metrics, &counted).await;
    people_and_edges().await;

    // An edge whose requests never end.
    let credential = edge_credential(&gateway).await;
    let mut of_edge = JoinSet::new();
    for _ in 0..FLOOD {
        let mut stream = begin_rpc(&gateway, RENEW, Some(&credential), 1_000, 10).await;
        of_edge.spawn(async move {
            let answered = answer(&mut stream).await;
            closed(&mut stream).await;
            answered
        });
    }
    let told = json!({
        "code": "RESOURCE_EXHAUSTED",
        "message": "this credential holds too many connections; close some, or send the request on one of them",
        "details": [
            details("TOO_MANY_CONNECTIONS"),
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"},
        ],
    });
    // Which of them are too many, and which are closed before anybody knows whose they are, is up to the scheduler.
    let answered = loop {
        if let Ok(answered) = of_edge.join_next().await.expect("one of them is answered") {
            break answered;
        }
    };
    assert_eq!(answered, (503, Some("1".to_owned()), told));
    people_and_edges().await;
    drop((of_tunnel, of_edge));
}

const RENEW: &str = "trunkline.discovery.v1.EnrollmentService/RenewEdgeCredential";

/// The credential of an edge that is nothing else.
async fn edge_credential(gateway: &Gateway) -> String {
    let join_token = gateway.admin.join_token().await.unwrap();
    let url = format!("http://{}", gateway.control_address());
    let mut client = EnrollmentServiceClient::connect(url).await.unwrap();
    let request = EnrollEdgeRequest { join_token, edge_id: "other".to_owned(), ..Default::default() };
    client.enroll_edge(request).await.unwrap().into_inner().credential
}

/// The credential that opens tunnels of the upstream `far`.
async fn tunnel_credential(gateway: &Gateway) -> String {
    let far = "kind: Upstream\nname: upstreams/far\ntunnel: {}\n";
    std::fs::write(gateway.folder().join("far.yaml"), far).unwrap();
    gateway.ctl("apply -f far.yaml --wait").await;
    let url = format!(
        "http://{}/trunkline.registry.v1.UpstreamService/CreateTunnelCredential",
        gateway.control_address()
    );
    let request = reqwest::Client::new().post(url).bearer_auth(gateway.admin_token());
    let issued: Value =
        request.json(&json!({"name": "upstreams/far"})).send().await.unwrap().json().await.unwrap();
    issued["credential"].as_str().unwrap_or_else(|| panic!("{issued}")).to_owned()
}

/// A stream of reflection that asks nothing yet, unless it is refused.
async fn reflection(
    channel: &Channel,
) -> Result<(mpsc::Sender<ServerReflectionRequest>, Streaming<ServerReflectionResponse>), Status> {
    let (requests, receiver) = mpsc::channel(1);
    let mut client = ServerReflectionClient::new(channel.clone());
    let answers = client.server_reflection_info(ReceiverStream::new(receiver)).await?;
    Ok((requests, answers.into_inner()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_holds_few_streams_each_of_which_reads_little_and_ends() {
    let gateway = start(&["--authentication-timeout", "600", "--body-timeout", "600"], &[]).await;
    let url = format!("http://{}", gateway.control_address());
    let channel = Channel::from_shared(url.clone()).unwrap().connect().await.unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(reflection(&channel).await.unwrap());
    }
    let refused = reflection(&channel).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, "this connection has too many requests in progress without a credential")
    );
    assert_eq!(refused.get_details_error_info().unwrap().reason, "TOO_MANY_REQUESTS");

    // One that goes on asking is read for 4 KiB: this is as much as all of it.
    let (requests, mut answers) = held.pop().unwrap();
    let list = MessageRequest::ListServices(String::new());
    let list = ServerReflectionRequest { host: "h".repeat(64), message_request: Some(list) };
    let asks = tokio::spawn(async move { while requests.send(list.clone()).await.is_ok() {} });
    let answered = async {
        let mut count = 0;
        while let Ok(Some(_)) = answers.message().await {
            count += 1;
        }
        count
    };
    let count = tokio::time::timeout(PATIENCE, answered).await.expect("it is read without end");
    asks.abort();
    assert!((1..=64).contains(&count), "{count}");
    eventually("its place is free again", PATIENCE, || async {
        reflection(&channel).await.map(drop).map_err(|status| status.to_string())
    })
    .await;

    // One that asks nothing ends.
    drop((held, channel));
    let gateway = start(&["--authentication-timeout", "600", "--body-timeout", "2"], &[]).await;
    let url = format!("http://{}", gateway.control_address());
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let (_requests, mut answers) = reflection(&channel).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, answers.message()).await.expect("it is kept open");
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
}

/// Connects from another address of this machine, and asks for a stream with this value of a header. Returns the status.
async fn stream_of(address: &str, from: [u8; 4], value: usize) -> (TcpStream, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let request = format!(
        "GET /sse HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\nx-key: {value}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let status = answer(&mut stream).await.0;
    (stream, status)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_leaves_copies_of_an_exposed_command_to_others() {
    let folder = Folder::new();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(binary("mcpctl"));
    // It never says anything, and need not: a stream is opened before it does.
    command.args(["expose", "--listen", &address, "--env-from-header", "KEY=X-Key", "--", "sleep", "600"]);
    let mut expose = Process::start("expose", command, folder.path());
    eventually("it listens", PATIENCE, || {
        expose.assert_alive();
        async { TcpStream::connect(&address).await.map(drop).map_err(|error| error.to_string()) }
    })
    .await;
    let mut held = Vec::new();
    for value in 0..16 {
        let (stream, status) = stream_of(&address, [127, 0, 0, 1], value).await;
        assert_eq!(status, 200, "{value}");
        held.push(stream);
    }
    assert_eq!(stream_of(&address, [127, 0, 0, 1], 16).await.1, 503);
    // Another address starts one, and one that runs is for everybody who has its values.
    for (from, value) in [([127, 0, 0, 2], 17), ([127, 0, 0, 2], 3), ([127, 0, 0, 1], 3)] {
        let (stream, status) = stream_of(&address, from, value).await;
        assert_eq!(status, 200, "{from:?} {value}");
        held.push(stream);
    }
}
