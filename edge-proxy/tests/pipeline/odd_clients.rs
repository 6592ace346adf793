//! Clients whose messages have one plain meaning, though not as the specification spells it, over every transport.

use crate::support::{Edge, META, Recorded, Reply, Socket, Sse, Upstream, json, modern};

fn ok(request: &Recorded) -> axum::response::Response {
    json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()))
}

/// Messages, and the id that each is answered with.
const REQUESTS: [(&str, &str); 7] = [
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
    (
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"u_echo","arguments":null,"_meta":{"progressToken":null}}}"#,
        "7",
    ),
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
    assert_eq!(calls.len(), 3 * 5);
    for call in calls {
        assert!(!call.body.contains("null"), "{}", call.body);
        let params = &call.json()["params"];
        assert!(params["arguments"].is_null() || params["arguments"].is_object(), "{params}");
    }
}

#[tokio::test]
async fn a_stream_without_a_session_is_none_and_one_of_an_unknown_session_is_not_found() {
    let edge = Edge::start("http://127.0.0.1:9/mcp");
    let session = edge.session("2025-06-18", "{}").await;
    let get = async |headers: &[(&'static str, &str)]| {
        let headers = [&[("accept", "text/event-stream")], headers].concat();
        Reply::of(edge.request("GET", &headers, "")).await
    };
    for version in [&[][..], &[("mcp-protocol-version", "2025-06-18")], &[("last-event-id", "x")]] {
        let refused = get(version).await;
        assert_eq!((refused.status, refused.header("allow")), (405, "POST, DELETE"), "{version:?}");
        let said = r#"{"jsonrpc":"2.0","error":{"code":-31010,"message":"there is no stream without a session: send initialize to this URL first (POST), then Mcp-Session-Id. Clients of HTTP+SSE connect to /sse","data":{"reason":"session_missing"}}}"#;
        assert_eq!(refused.body, said);
    }
    assert_eq!(get(&[("mcp-session-id", "x")]).await.status, 404);
    let stream = edge.request("GET", &[("mcp-session-id", &session)], "").send().await.unwrap();
    assert_eq!(stream.status(), 200);
    drop(stream);
    // What ends a session names one.
    assert_eq!(Reply::of(edge.request("DELETE", &[], "")).await.status, 400);
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
    for params in [
        r#"{"protocolVersion":null,"capabilities":{"roots":null,"sampling":null,"elicitation":null}}"#,
        r#"{"protocolVersion":5,"capabilities":{"roots":[],"sampling":true}}"#,
    ] {
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}"#);
        let reply = edge.post(&[], &message).await;
        assert!(
            reply.status == 200 && reply.body.contains(r#""protocolVersion":"2025-11-25""#),
            "{}",
            reply.body
        );
    }
    let wrong = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":["sampling"]}}"#;
    let refused = edge.post(&[], wrong).await;
    assert!(refused.error_code() == -32602 && refused.body.contains("params.capabilities must be an object"));
}

#[tokio::test]
async fn what_a_client_writes_as_null_or_empty_is_absent() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-06-18", "{}").await;
    let first = |cursor: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{{"cursor":{cursor}}}}}"#)
    };
    for cursor in ["null", "\"\""] {
        let listed = edge.post(&[("mcp-session-id", &session)], &first(cursor)).await;
        assert!(answers(&listed.body, "2"), "{cursor}: {}", listed.body);
    }
    assert_eq!(edge.post(&[("mcp-session-id", &session)], &first("\"x\"")).await.error_code(), -32602);
    // A modern call.
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{{"name":"u_echo","requestState":null,{}}}}}"#,
        META.replace("}}", r#"},"io.modelcontextprotocol/logLevel":null}"#)
    );
    let called = edge.post(&modern("tools/call", Some("u_echo")), &call).await;
    assert!(called.messages().iter().any(|message| message.contains(r#""result""#)), "{}", called.body);
    assert_eq!(upstream.calls("tools/call").len(), 1);
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
        call("[1]"),
        call(r#"{"name":NaN}"#),
        call("{}").replace("2.0", "1.0"),
        call("{}").replace("\"tools/call\"", "5"),
        call(r#"{},"method":"ping""#),
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

/// A call without `_meta`.
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"u_echo"}}"#;

#[tokio::test]
async fn a_header_alone_does_not_make_a_legacy_client_modern() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let initialize = crate::support::initialize("2025-06-18", "{}");
    let session = edge.session("2025-06-18", "{}").await;
    let all = ["2025-11-25", "2025-06-18, 2025-06-18", "2026-07-28", "2027-01-01"];
    let odd = ["DRAFT-2026-v1", "undefined", "latest", "1999-01-01", "2026-07-28, 2025-06-18"];
    for version in all.iter().chain(&odd) {
        let opened = edge.post(&[("mcp-protocol-version", version)], &initialize).await;
        assert!(opened.status == 200 && answers(&opened.body, "0"), "{version}: {}", opened.body);
        let headers = [("mcp-protocol-version", *version), ("mcp-session-id", session.as_str())];
        let called = edge.post(&headers, CALL).await;
        if all.contains(version) {
            assert!(answers(&called.messages()[0], "7"), "{version}: {}", called.body);
        } else {
            let message = format!(
                r#"the header MCP-Protocol-Version is \"{version}\", which is not supported; this session has 2025-06-18"#
            );
            assert!(called.status == 400 && called.body.contains(&message), "{version}: {}", called.body);
        }
    }
    let calls = upstream.calls("tools/call");
    assert_eq!(calls.len(), all.len());
    assert!(
        calls
            .iter()
            .all(|call| call.header("mcp-protocol-version") == calls[0].header("mcp-protocol-version"))
    );
    // Outside of a session a date of the modern era is what it says.
    let alone = edge.post(&[("mcp-protocol-version", "2026-07-28")], CALL).await;
    assert!(alone.status == 400 && alone.body.contains("_meta"), "{}", alone.body);
}

#[tokio::test]
async fn a_session_id_that_is_repeated_in_one_line_is_one() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let (one, other) = (edge.session("2025-06-18", "{}").await, edge.session("2025-06-18", "{}").await);
    for (id, status) in
        [(format!("{one}, {one}"), 200), (format!("{one}, {other}"), 404), (format!("{one}, x"), 404)]
    {
        let called = edge.post(&[("mcp-session-id", &id)], CALL).await;
        assert_eq!(called.status, status, "{}", called.body);
    }
    assert_eq!(upstream.calls("tools/call").len(), 1);
    let repeated = format!("{one}, {one}");
    let ended = Reply::of(edge.request("DELETE", &[("mcp-session-id", &repeated)], "")).await;
    assert_eq!(ended.status, 200);
    assert_eq!(edge.post(&[("mcp-session-id", &one)], CALL).await.status, 404);
}

#[tokio::test]
async fn other_labels_of_json_are_taken_and_what_is_refused_is_named() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-06-18", "{}").await;
    let post = async |name: &str, value: &str, body: &str| {
        edge.post(&[("mcp-session-id", &session), (name, value)], body).await
    };
    let labels = ["application/json, application/json", "text/json", "application/json-rpc"];
    for label in labels {
        let called = post("content-type", label, CALL).await;
        assert!(answers(&called.messages()[0], "7"), "{label}: {}", called.body);
    }
    assert_eq!(upstream.calls("tools/call").len(), labels.len());
    for (label, said) in [
        ("text/plain", "must be application/json, and is text/plain"),
        ("application/json, text/plain", "and is application/json, text/plain"),
        ("", "and is missing"),
    ] {
        let refused = post("content-type", label, CALL).await;
        assert!(refused.status == 415 && refused.body.contains(said), "{label}: {}", refused.body);
    }
    for (coding, status, said) in [
        ("gzip", 415, "has the content coding gzip, and must have none"),
        ("zstd", 415, "has the content coding zstd, and must have none"),
        ("identity", 400, "the body is not JSON"),
        ("utf-8", 400, "the body is not JSON"),
    ] {
        let refused = post("content-encoding", coding, "\u{1f}compressed").await;
        assert!(refused.status == status && refused.body.contains(said), "{coding}: {}", refused.body);
        assert_eq!(refused.header("accept-encoding"), if status == 415 { "identity" } else { "" });
        let called = post("content-encoding", coding, CALL).await;
        assert!(answers(&called.messages()[0], "7"), "{coding}: {}", called.body);
    }
}
