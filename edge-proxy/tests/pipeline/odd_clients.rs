//! Clients whose messages have one plain meaning, though not as the specification spells it, over every transport.

use crate::support::{Edge, Recorded, Reply, Socket, Sse, Upstream, json};

fn ok(request: &Recorded) -> axum::response::Response {
    json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()))
}

/// Messages, and the id that each is answered with.
const REQUESTS: [(&str, &str); 6] = [
    (r#"{"jsonrpc":"2.0","id":1.0,"method":"tools/call","params":{"name":"u_echo"}}"#, "1.0"),
    (r#"{"jsonrpc":"2.0","id":2,"method":"tools/list","params":[]}"#, "2"),
    (
        r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"u_echo"},"result":null,"error":null}"#,
        r#""c""#,
    ),
    (
        "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"tools/call\",\"params\":{\"name\":\"u_echo\"}}",
        "4",
    ),
    ("{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"ping\"}\n\0", "5"),
    (r#"{"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"u_echo","arguments":[ ]}}"#, "6"),
];

fn answers(answer: &str, id: &str) -> bool {
    answer.starts_with(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"#))
}

#[tokio::test]
async fn what_is_plainly_meant_is_answered_under_the_id_as_it_was_spelled() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-06-18", "{}").await;
    let mut socket = Socket::session(&edge, "2025-06-18", "{}").await;
    let mut stream = Sse::session(&edge, "2024-11-05", "{}").await;
    for (request, id) in REQUESTS {
        let reply = edge.post(&[("mcp-session-id", &session)], request).await;
        assert!(reply.status == 200 && answers(&reply.messages()[0], id), "{request}: {}", reply.body);
        let answer = socket.ask(request).await;
        assert!(answers(&answer, id), "{request}: {answer}");
        let answer = stream.ask(request).await;
        assert!(answers(&answer, id), "{request}: {answer}");
    }
    // Upstreams get what the specification wants, and each call once.
    let calls = upstream.calls("tools/call");
    assert_eq!(calls.len(), 3 * 4);
    for call in calls {
        let params = &call.json()["params"];
        assert!(params["arguments"].is_null() || params["arguments"].is_object(), "{params}");
    }
}

#[tokio::test]
async fn a_notification_whose_id_is_null_is_one() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-06-18", "{}").await;
    let message = r#"{"jsonrpc":"2.0","id":null,"method":"notifications/initialized"}"#;
    assert_eq!(edge.post(&[("mcp-session-id", &session)], message).await.status, 202);
}

#[tokio::test]
async fn capabilities_that_are_nothing_declare_nothing() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    for nothing in ["null", "[]", "{}"] {
        let params =
            format!(r#"{{"protocolVersion":"2025-06-18","capabilities":{nothing},"clientInfo":{nothing}}}"#);
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}"#);
        let reply = edge.post(&[], &message).await;
        assert!(reply.status == 200 && answers(&reply.body, "1"), "{nothing}: {}", reply.body);
    }
    let wrong = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":["sampling"]}}"#;
    assert_eq!(edge.post(&[], wrong).await.error_code(), -32602);
}

#[tokio::test]
async fn what_may_mean_several_things_is_refused_and_names_the_request() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-06-18", "{}").await;
    let mut socket = Socket::session(&edge, "2025-06-18", "{}").await;
    let call =
        |params: &str| format!(r#"{{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{params}}}"#);
    for message in [
        call(r#"{"name":"u_echo","name":"b"}"#),
        call(r#"{"name":"u_echo","Name":"b"}"#),
        call(&format!(r#"{{"name":"u_echo","_meta":{{"progressToken":"{}"}}}}"#, "t".repeat(2_000))),
    ] {
        for answer in
            [edge.post(&[("mcp-session-id", &session)], &message).await.body, socket.ask(&message).await]
        {
            assert!(answer.starts_with(r#"{"jsonrpc":"2.0","id":"x","error":{"#), "{message}: {answer}");
        }
    }
    // An id that is too long is not sent back.
    let long = call("{}").replace("\"x\"", &format!("\"{}\"", "x".repeat(2_000)));
    let answer = edge.post(&[("mcp-session-id", &session)], &long).await.body;
    assert!(answer.starts_with(r#"{"jsonrpc":"2.0","error":{"#) && answer.len() < 1_000, "{answer}");
    assert_eq!(upstream.calls("tools/call").len(), 0);
}

#[tokio::test]
async fn a_slash_at_the_end_of_a_path_changes_nothing() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let bearer = format!("Bearer {}", edge.keys.bearer("all"));
    let initialize = crate::support::initialize("2025-06-18", "{}");
    for (path, status) in
        [("/servers/dev/mcp/", 200), ("/servers/dev/mcp//", 404), ("/servers/dev/sse/x/", 404)]
    {
        let request = edge.at("POST", path, &initialize).header("authorization", &bearer);
        assert_eq!(Reply::of(request).await.status, status, "{path}");
    }
    let stream = edge.at("GET", "/servers/dev/sse/", "").header("authorization", &bearer);
    assert_eq!(stream.send().await.unwrap().status(), 200);
}
