//! Before anything is called: names, bearers, scopes, bodies, methods.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use trunkline_edge_proxy::config::limits::Limits;

use crate::support::{Edge, PATIENCE, Reply, Upstream, eventually, status};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;

async fn edge() -> Edge {
    Edge::start(&Upstream::raw(|_| status(500, "")).await.url)
}

#[tokio::test]
async fn bearers_are_asked_for_and_checked() {
    let edge = edge().await;
    let missing = Reply::of(edge.bare("POST", "dev", LIST)).await;
    assert_eq!((missing.status, missing.header("www-authenticate")), (401, "Bearer"));
    let mut forged = edge.keys.bearer("all");
    forged.replace_range(20..21, if &forged[20..21] == "A" { "B" } else { "A" });
    let other = crate::support::Keys::new().bearer("all");
    let expired =
        edge.keys.sign(serde_json::json!({"iss":"i","aud":"a","sub":"tokens/all","jti":"uid-all","exp":1}));
    let foreign = edge.keys.sign(serde_json::json!({"iss":"i","aud":"b","sub":"tokens/all","jti":"uid-all"}));
    let unknown = edge.keys.bearer("nobody");
    for bearer in [forged, other, expired, foreign, unknown, String::new(), "x".into()] {
        let request = edge.bare("POST", "dev", LIST).header("authorization", format!("Bearer {bearer}"));
        let reply = Reply::of(request).await;
        assert_eq!(
            (reply.status, reply.header("www-authenticate")),
            (401, r#"Bearer error="invalid_token""#),
            "{bearer}"
        );
    }
    let query =
        reqwest::Client::new().post(format!("{}?access_token={}", edge.url("dev"), edge.keys.bearer("all")));
    assert_eq!(Reply::of(query.header("content-type", "application/json").body(LIST)).await.status, 401);
}

#[tokio::test]
async fn revoked_and_expired_tokens_are_refused_at_once() {
    let mut edge = edge().await;
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    assert_eq!(edge.post(&[], initialize).await.status, 200);
    edge.snapshot.resources.tokens[0].revoked = true;
    edge.publish();
    assert_eq!(edge.post(&[], initialize).await.status, 401);
    edge.snapshot.resources.tokens[0].revoked = false;
    edge.snapshot.resources.tokens[0].expire_time = Some(prost_types::Timestamp { seconds: 1_000, nanos: 0 });
    edge.publish();
    assert_eq!(edge.post(&[], initialize).await.status, 401);
    edge.snapshot.resources.tokens[0].expire_time = None;
    edge.publish();
    assert_eq!(edge.post(&[], initialize).await.status, 200);
}

#[tokio::test]
async fn a_server_out_of_scope_looks_like_none() {
    let edge = edge().await;
    let bearer = format!("Bearer {}", edge.keys.bearer("all"));
    let ask = |server: &str| Reply::of(edge.bare("POST", server, LIST).header("authorization", &bearer));
    let (secret, none) = (ask("secret").await, ask("none").await);
    assert_eq!((secret.status, none.status), (404, 404));
    assert_eq!(secret.body, none.body);
}

#[tokio::test]
async fn stale_trust_believes_nobody() {
    let mut edge = edge().await;
    edge.snapshot.resources.trust_bundles[0].max_age = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    edge.publish();
    // It was heard when it started, and never since.
    let stale = async {
        loop {
            let reply = edge.post(&[], LIST).await;
            if reply.status == 503 {
                break reply;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let reply = tokio::time::timeout(PATIENCE, stale).await.expect("bearers are still believed");
    assert!(reply.body.contains("trust_stale"), "{}", reply.body);
}

#[tokio::test]
async fn foreign_names_are_turned_away() {
    let edge = edge().await;
    let with = |name: &'static str, value: &'static str| edge.request("POST", &[(name, value)], LIST);
    assert_eq!(Reply::of(with("host", "evil.com")).await.status, 403);
    assert_eq!(Reply::of(with("origin", "http://evil.com")).await.status, 403);
    let allowed = Reply::of(with("origin", "http://localhost:6274")).await;
    assert_eq!(
        (allowed.status, allowed.header("access-control-allow-origin")),
        (400, "http://localhost:6274")
    );
    let preflight = edge.bare("OPTIONS", "dev", "").header("origin", "http://localhost:6274");
    let preflight = Reply::of(preflight.header("access-control-request-headers", "mcp-param-x")).await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-headers")), (204, "mcp-param-x"));
}

#[tokio::test]
async fn methods_types_and_bodies_are_told_apart() {
    let edge = edge().await;
    let put = Reply::of(edge.request("PUT", &[], "")).await;
    assert_eq!((put.status, put.header("allow")), (405, "GET, POST, DELETE"));
    let bearer = format!("Bearer {}", edge.keys.bearer("all"));
    let text = reqwest::Client::new().post(edge.url("dev")).header("authorization", bearer).body(LIST);
    assert_eq!(Reply::of(text.header("content-type", "text/plain")).await.status, 415);
    for (body, code) in [
        ("", -32700),
        ("{", -32700),
        ("1", -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#, -32600),
    ] {
        let reply = edge.post(&[], body).await;
        assert_eq!((reply.status, reply.error_code()), (400, code), "{body}");
    }
    assert_eq!(edge.post(&[], &" ".repeat((4 << 20) + 1)).await.status, 413);
}

#[tokio::test]
async fn heads_and_slow_bodies_are_bounded() {
    let limits = Limits {
        body_timeout: Duration::from_millis(300),
        header_timeout: Duration::from_millis(800),
        ..Limits::default()
    };
    let edge = Edge::limited("http://127.0.0.1:9/", limits);
    let head = format!(
        "POST /servers/dev/mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer {}\r\n",
        edge.keys.bearer("all")
    );
    let slow = raw(&edge, &format!("{head}content-length: 100\r\n\r\n{{")).await;
    assert!(slow.starts_with("HTTP/1.1 408 ") && slow.contains("connection: close\r\n"), "{slow}");
    let large = raw(&edge, &format!("{head}x: {}\r\n\r\n", "y".repeat(70_000))).await;
    assert!(large.starts_with("HTTP/1.1 431 "), "{large}");
    let half = raw(&edge, "POST /servers").await;
    assert_eq!(half, "");
}

#[tokio::test]
async fn a_connection_lives_on_where_the_body_was_read_and_is_said_to_end_where_not() {
    let edge = edge().await;
    let (address, bearer) = (edge.address, edge.keys.bearer("all"));
    let post = |bearer: &str, length: usize| {
        format!(
            "POST /servers/dev/mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer {bearer}\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    // Far too large, and read to its end: what is asked next on the connection is answered.
    let mut stream = tokio::io::BufReader::new(TcpStream::connect(address).await.unwrap());
    for _ in 0..3 {
        let body = vec![b' '; 9 << 20];
        stream.write_all(post(&bearer, body.len()).as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let refusal = head_and_body(&mut stream).await;
        assert!(refusal.starts_with("HTTP/1.1 413 ") && !refusal.contains("connection: close"), "{refusal}");
        stream.write_all(format!("{}{LIST}", post(&bearer, LIST.len())).as_bytes()).await.unwrap();
        let next = head_and_body(&mut stream).await;
        assert!(next.starts_with("HTTP/1.1 400 ") && !next.contains("connection: close"), "{next}");
    }
    // Refused before it has come, and nobody waits for it.
    let refused = raw(&edge, &post("nobody", 9 << 20)).await;
    assert!(refused.starts_with("HTTP/1.1 401 ") && refused.contains("connection: close\r\n"), "{refused}");
    // A small one has come with its head.
    let mut stream = tokio::io::BufReader::new(TcpStream::connect(address).await.unwrap());
    for _ in 0..2 {
        stream.write_all(format!("{}{LIST}", post("nobody", LIST.len())).as_bytes()).await.unwrap();
        let refused = head_and_body(&mut stream).await;
        assert!(refused.starts_with("HTTP/1.1 401 ") && !refused.contains("connection: close"), "{refused}");
    }
}

/// Reads one response with a `Content-Length`, and leaves the connection open.
async fn head_and_body(stream: &mut tokio::io::BufReader<TcpStream>) -> String {
    let read = async {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).await.unwrap() > 0, "closed after {head:?}");
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        head
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the edge answers")
}

/// What comes back until the edge closes.
async fn raw(edge: &Edge, request: &str) -> String {
    raw_on(TcpStream::connect(edge.address).await.unwrap(), request).await
}

async fn raw_on(mut stream: TcpStream, request: &str) -> String {
    // The edge may answer, and close, before it has read everything.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // What it had not read yet, it resets.
    let _ = closed.expect("the edge closes");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_client_that_connected_before_a_drain_is_served_and_then_disconnected() {
    let edge = edge().await;
    let early = TcpStream::connect(edge.address).await.unwrap();
    let mut silent = TcpStream::connect(edge.address).await.unwrap();
    eventually("both are accepted", || edge.metrics.connections.get() == 2).await;
    edge.drain();
    let refused = async {
        while TcpStream::connect(edge.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    let answer = raw_on(early, "OPTIONS /servers/dev/mcp HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    let mut nothing = Vec::new();
    tokio::time::timeout(PATIENCE, silent.read_to_end(&mut nothing)).await.unwrap().unwrap();
    assert_eq!(nothing, b"");
}
