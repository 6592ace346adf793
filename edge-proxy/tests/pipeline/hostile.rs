//! Upstreams that lie, stall, break off or speak nonsense: a precise error, and nobody else is disturbed.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use trunkline_edge_proxy::config::limits::Limits;

use crate::support::{Edge, META, PATIENCE, modern};

/// An upstream that answers every request with these bytes and then holds or closes the connection.
async fn raw(answer: Vec<u8>, hold: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 65_536];
                while matches!(stream.read(&mut buffer).await, Ok(1..)) {
                    if stream.write_all(&answer).await.is_err() || !hold {
                        return;
                    }
                }
            });
        }
    });
    url
}

fn http(kind: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{headers}\r\n").as_bytes(), body].concat()
}

async fn call(edge: &Edge) -> crate::support::Reply {
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{{"name":"u_echo",{META}}}}}"#);
    edge.post(&modern("tools/call", Some("u_echo")), &body).await
}

#[tokio::test]
async fn each_lie_has_its_error() {
    let json = "application/json";
    let stream = "text/event-stream";
    let right = br#"{"jsonrpc":"2.0","id":3,"result":{}}"#;
    let length = |length: usize| format!("content-length: {length}\r\n");
    for (what, answer, hold, code, reason) in [
        ("too short", http(json, &length(500), right), false, -31103, "upstream_interrupted"),
        ("stalls", http(json, &length(500), right), true, -31102, "upstream_timeout"),
        ("no answer", Vec::new(), true, -31102, "upstream_timeout"),
        ("closes", Vec::new(), false, -31103, "upstream_interrupted"),
        ("no http", b"hello\r\n\r\n".to_vec(), true, -31105, "upstream_malformed"),
        ("bad utf-8", http(json, &length(4), b"\"\xff\"}"), true, -31105, "upstream_malformed"),
        ("not json", http(json, &length(5), b"hello"), true, -31105, "upstream_malformed"),
        ("html", http("text/html", &length(5), b"hello"), true, -31105, "upstream_malformed"),
        (
            "other id",
            http(json, &length(36), br#"{"jsonrpc":"2.0","id":4,"result":{}}"#),
            true,
            -31105,
            "upstream_malformed",
        ),
        (
            "status",
            b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n".to_vec(),
            true,
            -31104,
            "upstream_status",
        ),
        (
            "accepts",
            b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_vec(),
            true,
            -31105,
            "upstream_malformed",
        ),
        ("empty stream", http(stream, "", b""), false, -31103, "upstream_interrupted"),
        ("large", http(json, &length(20_000), &[b' '; 20_000]), true, -31106, "upstream_answer_too_large"),
        (
            "large event",
            http(stream, "", &[b"data: ".as_slice(), &[b'x'; 20_000]].concat()),
            true,
            -31106,
            "upstream_answer_too_large",
        ),
    ] {
        let limits = Limits { max_answer_bytes: 10_000, max_event_bytes: 10_000, ..Limits::default() };
        let edge = Edge::limited(&raw(answer, hold).await, limits);
        let begun = Instant::now();
        let reply = call(&edge).await;
        assert_eq!((reply.status, reply.error_code()), (200, code), "{what}: {}", reply.body);
        assert!(
            reply.body.contains(&format!(r#""data":{{"reason":"{reason}","upstream":"u"}}"#)),
            "{what}: {}",
            reply.body
        );
        assert!(begun.elapsed() < PATIENCE, "{what}");
    }
}

#[tokio::test]
async fn nobody_there_is_told() {
    let edge = Edge::start("http://127.0.0.1:9/mcp");
    let reply = call(&edge).await;
    assert_eq!(reply.error_code(), -31101);
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_with_an_error() {
    let event = b"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n";
    let edge = Edge::start(&raw(http("text/event-stream", "", event), false).await);
    let messages = call(&edge).await.messages();
    assert_eq!(messages.len(), 2);
    assert!(messages[1].starts_with(r#"{"jsonrpc":"2.0","id":3,"error":{"code":-31103,"#), "{}", messages[1]);
}

#[tokio::test]
async fn a_stalled_upstream_leaves_the_others_alone() {
    let limits = Limits { max_in_flight: 8, ..Limits::default() };
    let edge = Edge::limited(&raw(Vec::new(), true).await, limits);
    let stalled = futures_util::future::join_all((0..6).map(|_| call(&edge))).await;
    let refused = stalled.iter().filter(|reply| reply.status == 429).count();
    assert_eq!(refused, 2);
    let session = edge.session("2025-11-25", "{}").await;
    let list =
        edge.post(&[("mcp-session-id", &session)], r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
    assert_eq!(list.status, 200);
}
