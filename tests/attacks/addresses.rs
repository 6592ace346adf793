//! Where a request came from: whoever is no trusted proxy cannot say it, by headers or by the PROXY protocol, and what a
//! trusted one says goes for the one request. What an edge took it for is in its log, beside why it refused.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::floods::{metric, serve};
use crate::support::fake::Fake;
use crate::support::gateway::{Gateway, Store};
use crate::support::{PATIENCE, eventually};

const LOOPBACK: &str = "127.0.0.1";
const TRUSTED: &str = "--balancer-address=127.0.0.1,10.0.0.0/8";
/// A network that this machine is not in.
const ELSEWHERE: &str = "--balancer-address=192.0.2.0/24";
const LOG: &str = "--log=trunkline_edge_proxy=debug";

/// A gateway with an edge for each of these options, and a bearer.
async fn start(edges: &[[&str; 2]]) -> (Gateway, Fake, String) {
    let mut gateway = Gateway::start(Store::Sqlite, 0).await;
    for [source, balancers] in edges {
        gateway.add_edge(&[source, balancers, LOG]).await;
    }
    let (fake, bearer) = serve(&gateway).await;
    (gateway, fake, bearer)
}

/// A header of the PROXY protocol, version 2, for a client at `address`.
fn proxied(address: [u8; 4]) -> Vec<u8> {
    let addresses = [&address[..], &[10, 0, 0, 1, 0x12, 0x34, 0, 80]].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"[..], &addresses].concat()
}

/// A request for a server that does not exist, with these header lines.
fn request(server: &str, bearer: &str, lines: &[&str]) -> Vec<u8> {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!(
        "DELETE /servers/{server}/mcp HTTP/1.1\r\nhost: {LOOPBACK}\r\nauthorization: Bearer {bearer}\r\n"
    );
    format!("{head}{lines}\r\n").into_bytes()
}

/// Sends it, and reads the head of the response.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let response = async {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"}") {
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "the connection ended: {}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&chunk[..count]);
        }
        String::from_utf8(bytes).unwrap()
    };
    let response = tokio::time::timeout(PATIENCE, response).await.unwrap();
    response.lines().next().unwrap().to_owned()
}

/// What is left to read of a connection that the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it is kept open");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where an edge took the refused request from that names `what`; empty: it did not know.
async fn taken_for(gateway: &Gateway, edge: usize, what: &str) -> String {
    eventually("the refusal is logged", PATIENCE, || async {
        let log = gateway.edge(edge).output();
        let line = log.lines().find(|line| line.contains("access denied") && line.contains(what));
        line.map(str::to_owned).ok_or(log)
    })
    .await
    .split_whitespace()
    .find_map(|word| word.strip_prefix("address="))
    .unwrap_or_default()
    .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_is_believed_of_a_trusted_proxy_alone_and_for_one_request() {
    let edges = [
        ["--client-address=forwarded", TRUSTED],
        ["--client-address=x-forwarded-for", TRUSTED],
        ["--client-address=forwarded", ELSEWHERE],
        ["--client-address=socket", TRUSTED],
    ];
    let (gateway, _fake, bearer) = start(&edges).await;
    let cases: [(usize, &[&str], &str); 15] = [
        (0, &["forwarded: for=203.0.113.1;proto=https"], "203.0.113.1"),
        // The same connection, another client.
        (0, &["forwarded: for=\"[2001:db8::7]:4711\""], "2001:db8::7"),
        // What a client wrote in front of what the proxy wrote, in one line and in two.
        (0, &["forwarded: for=127.0.0.1, for=203.0.113.1, for=10.1.1.1"], "203.0.113.1"),
        (0, &["forwarded: for=127.0.0.1", "forwarded: for=203.0.113.1"], "203.0.113.1"),
        (0, &["forwarded: for=\"127.0.0.1, for=203.0.113.1"], ""),
        (0, &["x-forwarded-for: 203.0.113.1"], ""),
        (0, &["x-forwarded-for: 203.0.113.1", "forwarded: for=203.0.113.2"], "203.0.113.2"),
        (1, &["x-forwarded-for: 203.0.113.1"], "203.0.113.1"),
        (1, &["x-forwarded-for: 127.0.0.1, 203.0.113.2", "x-forwarded-for: 10.1.1.1"], "203.0.113.2"),
        (1, &["x-forwarded-for: 203.0.113.1, unknown"], ""),
        (1, &["forwarded: for=203.0.113.1"], ""),
        (2, &["forwarded: for=203.0.113.1"], LOOPBACK),
        (2, &["x-forwarded-for: 203.0.113.1"], LOOPBACK),
        (3, &["forwarded: for=203.0.113.1", "x-forwarded-for: 203.0.113.1"], LOOPBACK),
        (3, &[], LOOPBACK),
    ];
    let mut streams = Vec::new();
    for edge in 0..edges.len() {
        streams.push(TcpStream::connect(gateway.edge_address(edge)).await.unwrap());
    }
    for (number, (edge, lines, expected)) in cases.into_iter().enumerate() {
        let server = format!("nowhere-{number}");
        let status = exchange(&mut streams[edge], &request(&server, &bearer, lines)).await;
        assert_eq!(status, "HTTP/1.1 404 Not Found", "{lines:?}");
        let taken = taken_for(&gateway, edge, &format!("server=\"{server}\"")).await;
        assert_eq!(taken, expected, "{lines:?} at edge {edge}");
    }
    // A bomb of hops costs its sender what it says, and nobody else anything.
    let bomb = format!("x-forwarded-for: {}", ",".repeat(60_000));
    let status = exchange(&mut streams[1], &request("nowhere-bomb", &bearer, &[&bomb])).await;
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    assert_eq!(taken_for(&gateway, 1, "server=\"nowhere-bomb\"").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_protocol_header_is_required_of_a_trusted_proxy_and_no_header_for_others() {
    let edges = [
        ["--client-address=proxy-protocol", TRUSTED],
        ["--client-address=proxy-protocol", ELSEWHERE],
        ["--client-address=socket", TRUSTED],
    ];
    let (gateway, _fake, bearer) = start(&edges).await;
    let connect = async |edge: usize| TcpStream::connect(gateway.edge_address(edge)).await.unwrap();

    let mut stream = connect(0).await;
    stream.write_all(&proxied([203, 0, 113, 1])).await.unwrap();
    for server in ["nowhere-1", "nowhere-2"] {
        // A header of HTTP says nothing here.
        let lines = ["forwarded: for=203.0.113.9", "x-forwarded-for: 203.0.113.9"];
        exchange(&mut stream, &request(server, &bearer, &lines)).await;
        assert_eq!(taken_for(&gateway, 0, &format!("server=\"{server}\"")).await, "203.0.113.1");
    }
    // A balancer's own checks come from itself.
    let mut stream = connect(0).await;
    stream.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00").await.unwrap();
    exchange(&mut stream, &request("nowhere-3", &bearer, &[])).await;
    assert_eq!(taken_for(&gateway, 0, "server=\"nowhere-3\"").await, LOOPBACK);

    let too_long = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 65_535]].concat();
    let bad: [&[u8]; 4] = [
        b"",
        b"PROXY TCP4 203.0.113.1 10.0.0.1 4711 80\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\x00\x0c",
        &too_long,
    ];
    for (number, header) in bad.into_iter().enumerate() {
        let mut stream = connect(0).await;
        let request = request(&format!("smuggled-{number}"), &bearer, &[]);
        // It may be closed before all of it is written.
        let _ = stream.write_all(&[header, &request].concat()).await;
        assert_eq!(rest(&mut stream).await, "", "{number}");
    }
    let refused = metric(&gateway.metrics_url(0), "trunkline_edge_proxy_headers_refused_total").await;
    assert!(refused >= 4, "{refused}");

    // One that is not trusted, and a listener that expects none: it is the beginning of a request, and a bad one.
    for edge in [1, 2] {
        let mut stream = connect(edge).await;
        let smuggled = request("smuggled", &bearer, &[]);
        let _ = stream.write_all(&[&proxied([203, 0, 113, 1])[..], &smuggled].concat()).await;
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let mut stream = connect(edge).await;
        exchange(&mut stream, &request("nowhere-4", &bearer, &[])).await;
        assert_eq!(taken_for(&gateway, edge, "server=\"nowhere-4\"").await, LOOPBACK);
    }
    for edge in 0..edges.len() {
        assert!(!gateway.edge(edge).output().contains("smuggled"), "edge {edge}");
    }
}

/// Reads on until `text` holds `wanted`.
async fn read_until(stream: &mut TcpStream, text: &mut String, wanted: &str) {
    let reading = async {
        while !text.contains(wanted) {
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "the connection ended: {text}");
            text.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it does not come");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_on_a_connection_has_the_address_of_the_request_that_opened_it() {
    let (gateway, _fake, bearer) = start(&[["--client-address=forwarded", TRUSTED]]).await;
    let connect = async || TcpStream::connect(gateway.edge_address(0)).await.unwrap();
    let head = |line: &str, client: &str| {
        format!(
            "{line} HTTP/1.1\r\nhost: {LOOPBACK}\r\nauthorization: Bearer {bearer}\r\nforwarded: for={client}\r\n"
        )
    };
    let (mut stream, mut events) = (connect().await, String::new());
    let open = head("GET /servers/dev/sse", "203.0.113.1");
    stream.write_all(format!("{open}accept: text/event-stream\r\n\r\n").as_bytes()).await.unwrap();
    read_until(&mut stream, &mut events, "data: ").await;
    let begun = events.find("data: ").unwrap() + "data: ".len();
    while !events[begun..].contains('\n') {
        events.push(char::from(stream.read_u8().await.unwrap()));
    }
    let path = events[begun..].lines().next().unwrap().to_owned();
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}"#;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"nowhere-6"}}"#;
    for (body, answer) in [(initialize, r#""protocolVersion""#), (call, r#""error""#)] {
        // Another client says it, through the same proxy.
        let post = head(&format!("POST {path}"), "203.0.113.2");
        let length = body.len();
        let post = format!("{post}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
        let (mut sender, mut accepted) = (connect().await, String::new());
        sender.write_all(post.as_bytes()).await.unwrap();
        read_until(&mut sender, &mut accepted, "HTTP/1.1 202 ").await;
        read_until(&mut stream, &mut events, answer).await;
    }
    assert_eq!(taken_for(&gateway, 0, "target=\"nowhere-6\"").await, "203.0.113.1");
}
