//! Upstreams that close their connections after each response, with a word, without one, or in HTTP/1.0. Every call works, and
//! runs once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mcp::quirk::Quirk;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Edge, META, Reply, eventually, mcp, modern};

/// How connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// After the first response, without a word.
    Silently,
    /// After the first response, which says so.
    WithAWord,
    /// After the first response, in HTTP/1.0.
    Old,
    /// Not at all.
    Never,
}

/// What an upstream has seen.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    calls: AtomicUsize,
}

/// An upstream of the modern era, and its URL.
async fn upstream(ends: Ends) -> (Arc<Seen>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let seen = Arc::new(Seen::default());
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            noted.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve(stream, ends, Arc::clone(&noted)));
        }
    });
    (seen, url)
}

async fn serve(mut stream: TcpStream, ends: Ends, seen: Arc<Seen>) {
    let mut read = Vec::new();
    while let Some(body) = next_body(&mut stream, &mut read).await {
        seen.calls.fetch_add(1, Ordering::Relaxed);
        let message: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, message["id"]);
        let (version, word) = match ends {
            Ends::Old => ("1.0", ""),
            Ends::WithAWord => ("1.1", "connection: close\r\n"),
            Ends::Silently | Ends::Never => ("1.1", ""),
        };
        let length = answer.len();
        let head = format!(
            "HTTP/{version} 200 OK\r\ncontent-type: application/json\r\n{word}content-length: {length}\r\n\r\n"
        );
        stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
        if ends != Ends::Never {
            return;
        }
    }
}

/// Answers as a server of the legacy era, which cuts the connection at `notifications/initialized`.
async fn serve_and_cut(mut stream: TcpStream, calls: Arc<AtomicUsize>) {
    let mut read = Vec::new();
    while let Some(body) = next_body(&mut stream, &mut read).await {
        let message: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let result = match message["method"].as_str().unwrap() {
            "initialize" => r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#,
            "notifications/initialized" => return,
            _ => {
                calls.fetch_add(1, Ordering::Relaxed);
                r#"{"content":[]}"#
            }
        };
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, message["id"]);
        let length = answer.len();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_at_a_notification_costs_no_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let calls = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&calls);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_and_cut(stream, Arc::clone(&counted)));
        }
    });
    let mut edge = Edge::start(&url);
    mcp(&mut edge.snapshot.resources.upstreams[0]).modern_versions.clear();
    edge.publish();
    let session = edge.session("2025-11-25", "{}").await;
    for called in 1..=4 {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo"}}"#;
        let reply = edge.post(&[("mcp-session-id", &session)], call).await;
        assert!(reply.body.contains(r#""content":[]"#), "{reply:?}");
        assert_eq!(calls.load(Ordering::Relaxed), called, "each is made once");
    }
    assert!(edge.metrics.upstream_quirk(Quirk::RefusesInitialized).get() > 0);
}

/// The body of the next request; `None` at the end.
async fn next_body(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        let text = String::from_utf8_lossy(read).to_ascii_lowercase();
        let length: Option<usize> =
            text.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok());
        if let (Some(head), Some(length)) = (text.find("\r\n\r\n"), length)
            && read.len() >= head + 4 + length
        {
            let rest = read.split_off(head + 4 + length);
            let body = std::mem::replace(read, rest).split_off(head + 4);
            return Some(body);
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

fn edge_before(url: &str) -> Edge {
    let mut edge = Edge::start(url);
    mcp(&mut edge.snapshot.resources.upstreams[0]).legacy_version.clear();
    edge.publish();
    edge
}

async fn call(edge: &Edge, tool: &str) -> Reply {
    let call =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}",{META}}}}}"#);
    edge.post(&modern("tools/call", Some(tool)), &call).await
}

#[tokio::test]
async fn connections_that_an_upstream_closes_cost_no_call() {
    for ends in [Ends::Silently, Ends::WithAWord, Ends::Old] {
        let (seen, url) = upstream(ends).await;
        let edge = edge_before(&url);
        for n in 0..40 {
            let reply = call(&edge, if n % 4 == 3 { "u_safe" } else { "u_echo" }).await;
            assert!(reply.body.contains(r#""content":[]"#), "{ends:?}, call {n}: {reply:?}");
        }
        assert_eq!(seen.calls.load(Ordering::Relaxed), 40, "{ends:?}: each ran once");
        let noted = edge.metrics.upstream_quirk(Quirk::ClosesConnections).get();
        if ends == Ends::Silently {
            assert!((1..=2).contains(&noted), "each worker finds out: {noted}");
        } else {
            assert_eq!(noted, 0, "{ends:?}: it said so");
        }
    }
}

#[tokio::test]
async fn connections_that_an_upstream_keeps_are_used_again() {
    let (seen, url) = upstream(Ends::Never).await;
    let edge = edge_before(&url);
    // Until one was seen to be kept, a call that may not run twice opens another.
    let mut before = usize::MAX;
    eventually_async("connections are kept", async || {
        let count = seen.connections.load(Ordering::Relaxed);
        let same = count == before;
        before = count;
        assert!(call(&edge, "u_echo").await.body.contains("content"));
        same
    })
    .await;
    assert_eq!(edge.metrics.upstream_quirk(Quirk::ClosesConnections).get(), 0);
    eventually("nothing is left in flight", || edge.metrics.in_flight.get() == 0).await;
}

async fn eventually_async(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async { while !holds().await {} };
    let waited = tokio::time::timeout(crate::support::PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}: not in time"));
}

/// When an upstream sends a second response to a call, without an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Second {
    /// With the first.
    AtOnce,
    /// When the next call comes on the connection, before the response to that.
    BeforeTheNext,
}

/// An upstream that responds to each call twice, and how often it was called for each number.
async fn double(second: Second, streamed: bool) -> (Arc<Mutex<Vec<u64>>>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let calls = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&calls);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(respond_twice(stream, second, streamed, Arc::clone(&noted)));
        }
    });
    (calls, url)
}

async fn respond_twice(mut stream: TcpStream, second: Second, streamed: bool, calls: Arc<Mutex<Vec<u64>>>) {
    let http = |id: &str, number: u64| {
        let message = format!(r#"{{"jsonrpc":"2.0",{id}"result":{{"content":[],"whose":{number}}}}}"#);
        let (media, body) = match streamed {
            true => ("text/event-stream", format!("data: {message}\n\n")),
            false => ("application/json", message),
        };
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let (mut read, mut late) = (Vec::new(), String::new());
    while let Some(body) = next_body(&mut stream, &mut read).await {
        let message: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let number = message["params"]["arguments"]["number"].as_u64().unwrap();
        calls.lock().unwrap().push(number);
        let first = http(&format!(r#""id":{},"#, message["id"]), number);
        let again = http("", number);
        let sent = match second {
            Second::AtOnce => first + &again,
            Second::BeforeTheNext => std::mem::replace(&mut late, again) + &first,
        };
        if stream.write_all(sent.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Nobody gets what another call was answered, however the connections are used.
#[tokio::test]
async fn a_second_response_without_an_id_is_nobodys() {
    for second in [Second::AtOnce, Second::BeforeTheNext] {
        for streamed in [false, true] {
            let (calls, url) = double(second, streamed).await;
            let edge = edge_before(&url);
            let mut failed = 0;
            for number in 0..40 {
                let tool = if number % 4 == 3 { "u_echo" } else { "u_safe" };
                let call = format!(
                    r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"number":{number}}},{META}}}}}"#
                );
                let reply = edge.post(&modern("tools/call", Some(tool)), &call).await;
                let own = format!(r#""whose":{number}}}"#);
                let what = format!("{second:?} {streamed} {number}: {reply:?}");
                assert!(reply.body.contains(&own) || !reply.body.contains("whose"), "{what}");
                failed += usize::from(!reply.body.contains(&own));
            }
            let made = calls.lock().unwrap().clone();
            assert!(made.iter().filter(|number| *number % 4 == 3).count() == 10, "{second:?}: each ran once");
            assert!(failed <= 2, "{second:?} {streamed}: each worker finds out at once, and {failed} failed");
        }
    }
}
