//! Streams the edge itself speaks on: what is announced, how many there may be, how they end.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use trunkline_edge_proxy::config::limits::Limits;

use crate::support::{
    Edge, META, PATIENCE, Recorded, Reply, Upstream, events, eventually, json, mcp, modern,
};

/// Reads a stream until it holds `needle`.
pub(crate) async fn until(response: &mut reqwest::Response, needle: &str) -> String {
    let mut seen = String::new();
    let read = async {
        while !seen.contains(needle) {
            match response.chunk().await.unwrap() {
                Some(chunk) => seen.push_str(std::str::from_utf8(&chunk).unwrap()),
                None => panic!("the stream ended: {seen}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no {needle}"));
    seen
}

#[tokio::test]
async fn the_get_stream_says_when_lists_change() {
    let limits =
        Limits { keep_alive: Duration::from_millis(300), max_streams_per_token: 1, ..Limits::default() };
    let mut edge = Edge::limited("http://127.0.0.1:9/mcp", limits);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let mut stream = edge.request("GET", &headers, "").send().await.unwrap();
    assert_eq!(
        (stream.status().as_u16(), stream.headers()["content-type"].to_str().unwrap()),
        (200, "text/event-stream")
    );
    assert_eq!(until(&mut stream, "\n\n").await, "id: 0\ndata:\n\n");
    until(&mut stream, ": keep-alive\n\n").await;
    edge.snapshot.resources.servers[0].tools.pop();
    edge.publish();
    let seen = until(&mut stream, "list_changed").await;
    assert!(
        seen.ends_with("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n"),
        "{seen}"
    );
    let second = Reply::of(edge.request("GET", &headers, "")).await;
    assert_eq!((second.status, second.header("retry-after")), (429, "1"));
    edge.snapshot.resources.tokens[0].revoked = true;
    edge.publish();
    let rest = tokio::time::timeout(PATIENCE, stream.bytes_stream().collect::<Vec<_>>()).await;
    assert!(rest.is_ok(), "the stream of a revoked token goes on");
}

#[tokio::test]
async fn an_edited_scope_is_a_changed_list() {
    let mut edge = Edge::start("http://127.0.0.1:9/mcp");
    let session = edge.session("2025-06-18", "{}").await;
    let mut stream = edge.request("GET", &[("mcp-session-id", &session)], "").send().await.unwrap();
    assert_eq!(until(&mut stream, "\n\n").await, ": keep-alive\n\n");
    edge.snapshot.resources.tokens[0].tools = vec!["u_safe".into()];
    edge.publish();
    until(&mut stream, "notifications/tools/list_changed").await;
}

#[tokio::test]
async fn listening_is_acknowledged_first_and_ended_well() {
    let mut edge = Edge::start("http://127.0.0.1:9/mcp");
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":"s","method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true,"promptsListChanged":false,"resourceSubscriptions":["x"]}},{META}}}}}"#
    );
    let mut stream = edge.request("POST", &modern("subscriptions/listen", None), &body).send().await.unwrap();
    let subscription = r#""_meta":{"io.modelcontextprotocol/subscriptionId":"s"}"#;
    assert_eq!(
        until(&mut stream, "\n\n").await,
        format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{{\"notifications\":{{\"toolsListChanged\":true}},{subscription}}}}}\n\n"
        )
    );
    edge.snapshot.resources.servers[0].prompts.pop();
    edge.snapshot.resources.servers[0].tools.pop();
    edge.publish();
    assert_eq!(
        until(&mut stream, "\n\n").await,
        format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\",\"params\":{{{subscription}}}}}\n\n"
        )
    );
    edge.drain();
    assert_eq!(
        until(&mut stream, "\n\n").await,
        format!(
            "data: {{\"jsonrpc\":\"2.0\",\"id\":\"s\",\"result\":{{\"resultType\":\"complete\",{subscription}}}}}\n\n"
        )
    );
    assert_eq!(stream.chunk().await.unwrap(), None);
}

/// Tells of a changed resource on every stream, and answers everything else with nothing.
pub(crate) fn telling(request: &Recorded) -> axum::response::Response {
    let acknowledged = r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{}}"#;
    let told = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///r"}}"#;
    if request.verb != "GET" && request.method() != "subscriptions/listen" {
        return json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()));
    }
    let events = bytes::Bytes::from(format!("data: {acknowledged}\n\ndata: {told}\n\n"));
    let open = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(events)])
        .chain(futures_util::stream::pending());
    let body = axum::body::Body::from_stream(open);
    axum::response::Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

pub(crate) fn telling_edge(upstream: &Upstream) -> Edge {
    let mut edge = Edge::start(&upstream.url);
    let tells = r#"{"resources":{"subscribe":true}}"#;
    mcp(&mut edge.snapshot.resources.upstreams[0]).legacy_capabilities_json = tells.into();
    mcp(&mut edge.snapshot.resources.upstreams[0]).modern_capabilities_json = tells.into();
    edge.publish();
    edge
}

#[tokio::test]
async fn a_session_hears_of_the_resources_it_is_subscribed_to() {
    let upstream = Upstream::start(telling).await;
    let edge = telling_edge(&upstream);
    let session = edge.session("2025-06-18", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let ask = |what: &str, uri: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/{what}","params":{{"uri":"{uri}"}}}}"#)
    };
    let mut stream = edge.request("GET", &headers, "").send().await.unwrap();
    assert_eq!(until(&mut stream, "\n\n").await, ": keep-alive\n\n");
    assert_eq!(edge.post(&headers, &ask("subscribe", "u+file:///s")).await.error_code(), -32002);
    let long = format!("u+file:///t/{}", "x".repeat(4_096));
    assert_eq!(edge.post(&headers, &ask("subscribe", &long)).await.error_code(), -32602);
    let done = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    assert_eq!(edge.post(&headers, &ask("subscribe", "u+file:///r")).await.body, done);
    assert_eq!(
        until(&mut stream, "\n\n").await,
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":\"u+file:///r\"}}\n\n"
    );
    assert_eq!(upstream.calls("resources/subscribe")[0].json()["params"]["uri"], "file:///r");
    assert_eq!(edge.post(&headers, &ask("unsubscribe", "u+file:///r")).await.body, done);
    // With the last resource the session at the upstream ends.
    let is_ended = || upstream.requests().iter().any(|request| request.verb == "DELETE");
    eventually("the session at the upstream ends", is_ended).await;
}

#[tokio::test]
async fn listening_to_resources_begins_where_the_acknowledgement_says() {
    let upstream = Upstream::start(telling).await;
    let edge = telling_edge(&upstream);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{"notifications":{{"resourceSubscriptions":["u+file:///r","u+file:///s"]}},{META}}}}}"#
    );
    let mut stream = edge.request("POST", &modern("subscriptions/listen", None), &body).send().await.unwrap();
    let seen = until(&mut stream, "updated").await;
    let subscription = r#""_meta":{"io.modelcontextprotocol/subscriptionId":1}"#;
    assert_eq!(
        seen,
        format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{{\"notifications\":{{\"resourceSubscriptions\":[\"u+file:///r\"]}},{subscription}}}}}\n\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{{\"uri\":\"u+file:///r\",{subscription}}}}}\n\n"
        )
    );
    let asked = &upstream.calls("subscriptions/listen")[0];
    assert_eq!(
        asked.json()["params"]["notifications"]["resourceSubscriptions"],
        serde_json::json!(["file:///r"])
    );
}

/// Logs on the stream of each session, and answers calls in a stream of their own.
fn logging(request: &Recorded) -> axum::response::Response {
    if request.verb != "GET" {
        return events(&[format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id())]);
    }
    let logged = bytes::Bytes::from(format!("data: {LOGGED}\n\n"));
    let open = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(logged)])
        .chain(futures_util::stream::pending());
    let body = axum::body::Body::from_stream(open);
    axum::response::Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

const LOGGED: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"hello"}}"#;

#[tokio::test]
async fn log_messages_of_a_call_reach_only_the_client_that_set_a_level() {
    let upstream = Upstream::start(logging).await;
    let edge = Edge::start(&upstream.url);
    let (curious, other) = (edge.session("2025-11-25", "{}").await, edge.session("2025-11-25", "{}").await);
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo"}}"#;
    let done = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let set = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}"#;
    assert_eq!(edge.post(&[("mcp-session-id", &curious)], set).await.body, done);
    let seen = async {
        // Each worker hears of the level in its own time.
        loop {
            let messages = edge.post(&[("mcp-session-id", &curious)], call).await.messages();
            assert_eq!(messages.last().map(String::as_str), Some(done));
            if messages.len() == 2 {
                return messages;
            }
        }
    };
    let messages = tokio::time::timeout(PATIENCE, seen).await.unwrap();
    assert_eq!(messages, [LOGGED, done]);
    for _ in 0..4 {
        assert_eq!(edge.post(&[("mcp-session-id", &other)], call).await.messages(), [done]);
    }
    let heard: HashSet<String> = upstream
        .requests()
        .iter()
        .filter(|sent| sent.verb == "GET")
        .map(|sent| sent.header("mcp-session-id").to_owned())
        .collect();
    let levels = upstream.calls("logging/setLevel");
    assert!(levels.iter().all(
        |sent| sent.json()["params"]["level"] == "info" && heard.contains(sent.header("mcp-session-id"))
    ));
}

/// Answers a call with a stream that says an id first and then nothing, and the resumed stream the same way. Other
/// requests are answered at once.
fn unending(request: &Recorded) -> axum::response::Response {
    if request.verb != "GET" && request.method() != "tools/call" {
        return json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()));
    }
    let first = bytes::Bytes::from_static(b"id: e/1\nretry: 20\ndata:\n\n");
    let open = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(first)])
        .chain(futures_util::stream::pending());
    let body = axum::body::Body::from_stream(open);
    axum::response::Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

/// What a call does at its upstream cannot be undone, so one that asks for a stream is refused before.
#[tokio::test]
async fn a_call_that_asks_for_one_stream_too_many_is_not_made() {
    let upstream = Upstream::start(|request| {
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, request.id()))
    })
    .await;
    let edge = Edge::limited(&upstream.url, Limits { max_streams_per_token: 1, ..Limits::default() });
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let with_progress = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo","_meta":{"progressToken":1}}}"#;
    let modern_call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"u_echo",{}}}}}"#,
        META.replacen('{', r#"{"progressToken":"t","#, 1)
    );
    let modern_headers = modern("tools/call", Some("u_echo"));
    let listening = edge.request("GET", &headers, "").send().await.unwrap();
    for refused in [edge.post(&headers, with_progress).await, edge.post(&modern_headers, &modern_call).await]
    {
        assert_eq!((refused.status, refused.header("retry-after")), (429, "1"), "{refused:?}");
    }
    assert_eq!(upstream.calls("tools/call").len(), 0);
    let without = with_progress.replace(r#","_meta":{"progressToken":1}"#, "");
    assert_eq!(edge.post(&headers, &without).await.status, 200, "it is answered without a stream");
    drop(listening);
    edge.nothing_is_left().await;
    assert_eq!(edge.post(&headers, with_progress).await.status, 200);
    assert_eq!(edge.post(&modern_headers, &modern_call).await.status, 200);
    edge.nothing_is_left().await;
}

#[tokio::test]
async fn streams_of_every_kind_count_until_they_end() {
    let upstream = Upstream::start(unending).await;
    let edge = Edge::limited(&upstream.url, Limits { max_streams_per_token: 1, ..Limits::default() });
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let call = crate::legacy::CALL;
    let mut answer = edge.request("POST", &headers, call).send().await.unwrap();
    let primed = until(&mut answer, "\n\n").await;
    let id = primed.strip_prefix("id: ").and_then(|rest| rest.split_once('\n')).unwrap().0.to_owned();

    let refused = |reply: Reply| {
        assert_eq!((reply.status, reply.header("retry-after")), (429, "1"));
        assert!(reply.body.contains(r#""reason":"too_many_streams""#), "{}", reply.body);
    };
    let (resume, ping) =
        ([headers[0], ("last-event-id", &*id)], r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#);
    refused(Reply::of(edge.request("POST", &headers, &call.replace(r#""id":1"#, r#""id":3"#))).await);
    refused(Reply::of(edge.request("GET", &headers, "")).await);
    refused(Reply::of(edge.request("GET", &resume, "")).await);
    let bearer = format!("Bearer {}", edge.keys.bearer("all"));
    refused(Reply::of(edge.at("GET", "/servers/dev/sse", "").header("authorization", &bearer)).await);
    let socket = edge
        .at("GET", "/servers/dev/ws", "")
        .header("authorization", &bearer)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");
    refused(Reply::of(socket).await);
    assert_eq!(edge.post(&headers, ping).await.status, 200, "what is no stream goes on");
    let cancelled = || upstream.calls("notifications/cancelled").len() == 1;
    eventually("the upstream is told of the call that was refused", cancelled).await;

    drop(answer);
    edge.nothing_is_left().await;
    let resumed = edge.request("GET", &resume, "").send().await.unwrap();
    assert_eq!(resumed.status(), 200);
    refused(Reply::of(edge.request("POST", &headers, call)).await);
    drop(resumed);
    edge.nothing_is_left().await;
    assert_eq!(edge.request("POST", &headers, call).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn unsubscribing_from_what_nobody_may_subscribe_to_takes_no_memory() {
    let upstream = Upstream::start(telling).await;
    let edge = telling_edge(&upstream);
    let session = edge.session("2025-11-25", "{}").await;
    for uri in ["u+file:///nothing".to_owned(), format!("u+file:///{}", "r".repeat(1 << 20))] {
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"resources/unsubscribe","params":{{"uri":"{uri}"}}}}"#
        );
        let reply = edge.post(&[("mcp-session-id", &session)], &message).await;
        assert_eq!((reply.status, &*reply.body), (200, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
    }
    assert_eq!(edge.shared.subscriptions.all(0), []);
}
