//! Rates and quotas of tokens: what counts, on every transport and in both eras, and what a call that is over them gets. What edges lease
//! is the product's to show; here an edge can ask a control plane that never answers, so that calls pass on credit: one in a thousand of a
//! quota.

use trunkline::edge::v1 as wire;

use crate::support::{Edge, META, Recorded, Socket, Sse, Upstream, events, json, modern};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo"}}"#;
const OK: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

fn ok(request: &Recorded) -> axum::response::Response {
    json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, request.id()))
}

/// Gives `tokens/all` these limits.
fn limit(edge: &mut Edge, limits: &[(&str, &str)]) {
    let token = &mut edge.snapshot.resources.tokens[0];
    let limit = |(id, text): &(&str, &str)| wire::Limit { id: (*id).to_owned(), text: (*text).to_owned() };
    token.access = Some(wire::Access {
        servers: token.servers.clone(),
        tools: token.tools.clone(),
        resources: token.resources.clone(),
        prompts: token.prompts.clone(),
        limits: limits.iter().map(limit).collect(),
        ..wire::Access::default()
    });
    edge.publish();
    edge.shared.limits.set_reachable(true);
}

async fn limited(upstream: &Upstream, limits: &[(&str, &str)]) -> Edge {
    let mut edge = Edge::start(&upstream.url);
    limit(&mut edge, limits);
    edge
}

/// Asserts that a message is the refusal of the quota `text`.
fn assert_refused(message: &str, text: &str) {
    let message: serde_json::Value = serde_json::from_str(message).unwrap();
    let error = &message["error"];
    let data = serde_json::json!({"reason": "quota_exceeded", "retry_after_ms": 100});
    assert_eq!((&error["code"], &error["data"]), (&(-31012).into(), &data), "{message}");
    let expected =
        format!("this token may call {text}, and this edge has none of that at the moment; try again in 1 s");
    assert_eq!(error["message"], expected);
}

#[tokio::test]
async fn over_http_a_call_that_is_over_is_answered_429_and_one_that_is_not_says_what_is_left() {
    let upstream = Upstream::start(ok).await;
    let edge = limited(&upstream, &[("r0", "40/s"), ("q0", "1/day")]).await;
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let listed = edge.post(&headers, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
    assert_eq!((listed.status, listed.header("ratelimit")), (200, ""));
    let first = edge.post(&headers, CALL).await;
    assert_eq!((first.status, &*first.body), (200, OK));
    assert_eq!(first.header("ratelimit-policy"), r#""r0";q=40;w=1, "q0";q=1;w=86400"#);
    assert_eq!(first.header("ratelimit"), "", "no control plane has said yet what is left");
    let second = edge.post(&headers, CALL).await;
    assert_eq!((second.status, second.header("retry-after"), second.header("ratelimit")), (429, "1", ""));
    assert_refused(&second.body, "1/day");
    assert_eq!(upstream.calls("tools/call").len(), 1);

    let call =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"u_echo",{META}}}}}"#);
    let third = edge.post(&modern("tools/call", Some("u_echo")), &call).await;
    assert_eq!((third.status, third.header("retry-after")), (429, "1"));
    assert_refused(&third.body, "1/day");
}

#[tokio::test]
async fn a_modern_call_counts_and_an_answer_in_events_says_what_is_left() {
    let upstream = Upstream::start(|_| events(&[OK.to_owned()])).await;
    let edge = limited(&upstream, &[("q0", "1/day")]).await;
    let call =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"u_echo",{META}}}}}"#);
    let headers = modern("tools/call", Some("u_echo"));
    let first = edge.post(&headers, &call).await;
    assert_eq!((first.status, first.header("ratelimit-policy")), (200, r#""q0";q=1;w=86400"#));
    assert_refused(&edge.post(&headers, &call).await.body, "1/day");
}

#[tokio::test]
async fn over_sse_and_websocket_a_call_that_is_over_is_an_error() {
    let upstream = Upstream::start(ok).await;
    let edge = limited(&upstream, &[("q0", "1/day")]).await;
    let mut client = Sse::session(&edge, "2024-11-05", "{}").await;
    assert_eq!(client.ask(CALL).await, OK);
    assert_refused(&client.ask(CALL).await, "1/day");

    let edge = limited(&upstream, &[("q0", "1/day")]).await;
    let mut client = Socket::session(&edge, "2025-11-25", "{}").await;
    assert_eq!(client.ask(CALL).await, OK);
    assert_refused(&client.ask(CALL).await, "1/day");

    let edge = limited(&upstream, &[("q0", "1/day")]).await;
    let mut client = Socket::open(&edge).await;
    let call =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"u_echo",{META}}}}}"#);
    assert!(client.ask(&call).await.contains(r#""result""#));
    assert_refused(&client.ask(&call).await, "1/day");
}

#[tokio::test]
async fn each_message_of_a_batch_counts() {
    let upstream = Upstream::start(ok).await;
    let edge = limited(&upstream, &[("q0", "2000/day")]).await;
    let session = edge.session("2025-03-26", "{}").await;
    let batch = format!("[{CALL},{CALL},{CALL}]");
    let reply = edge.post(&[("mcp-session-id", &session)], &batch).await;
    let messages: Vec<serde_json::Value> = serde_json::from_str(&reply.body).unwrap();
    assert_eq!((reply.status, messages.len(), upstream.calls("tools/call").len()), (200, 3, 2));
    assert_eq!(
        [&messages[0].to_string(), &messages[1].to_string()].map(|text| text.contains("result")),
        [true; 2]
    );
    assert_refused(&messages[2].to_string(), "2000/day");
}

#[tokio::test]
async fn calls_gets_and_reads_count_and_nothing_else_does() {
    let upstream = Upstream::start(ok).await;
    let edge = limited(&upstream, &[("q0", "3000/month")]).await;
    let session = edge.session("2025-11-25", "{}").await;
    let ask = async |method: &str, params: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let reply = edge.post(&[("mcp-session-id", &session)], &body).await;
        reply.status
    };
    let free = async || {
        for _ in 0..3 {
            assert_eq!(ask("ping", "{}").await, 200);
            assert_eq!(ask("tools/list", "{}").await, 200);
            assert_eq!(ask("resources/list", "{}").await, 200);
            let complete = r#"{"ref":{"type":"ref/prompt","name":"u_p"},"argument":{"name":"a","value":""}}"#;
            assert_eq!(ask("completion/complete", complete).await, 200);
            // Neither does what is refused before.
            assert_eq!(ask("tools/call", r#"{"name":"u_none"}"#).await, 200);
        }
    };
    free().await;
    assert_eq!(ask("tools/call", r#"{"name":"u_echo"}"#).await, 200);
    assert_eq!(ask("prompts/get", r#"{"name":"u_p"}"#).await, 200);
    assert_eq!(ask("resources/read", r#"{"uri":"u+file:///r"}"#).await, 200);
    free().await;
    for (method, params) in [
        ("tools/call", r#"{"name":"u_echo"}"#),
        ("prompts/get", r#"{"name":"u_p"}"#),
        ("resources/read", r#"{"uri":"u+file:///r"}"#),
    ] {
        assert_eq!(ask(method, params).await, 429, "{method}");
    }
}

#[tokio::test]
async fn a_limit_per_tool_counts_each_entry_whatever_it_is_asked_for() {
    let upstream = Upstream::start(ok).await;
    let edge = limited(&upstream, &[("q0", "1/day per tool")]).await;
    let session = edge.session("2025-11-25", "{}").await;
    let ask = async |method: &str, params: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        edge.post(&[("mcp-session-id", &session)], &body).await.status
    };
    for (name, statuses) in [("u_echo", [200, 429]), ("u_other", [200, 429])] {
        let params = format!(r#"{{"name":"{name}"}}"#);
        assert_eq!([ask("tools/call", &params).await, ask("tools/call", &params).await], statuses);
    }
    // URIs of one template are one entry: otherwise each would be another limit.
    let read = async |uri: &str| ask("resources/read", &format!(r#"{{"uri":"{uri}"}}"#)).await;
    assert_eq!([read("u+file:///t/1").await, read("u+file:///t/2").await], [200, 429]);
}

#[tokio::test]
async fn what_never_left_costs_nothing_and_what_did_is_spent_whatever_came_of_it() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/mcp", listener.local_addr().unwrap())
    };
    let upstream = Upstream::start(ok).await;
    let mut edge = Edge::start(&nobody);
    limit(&mut edge, &[("r0", "20/s"), ("q0", "1/day")]);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    for _ in 0..3 {
        let reply = edge.post(&headers, CALL).await;
        assert_eq!((reply.status, reply.error_code()), (200, -31101), "{reply:?}");
    }
    edge.snapshot.resources.upstreams[0].url = upstream.url.clone();
    edge.publish();
    let reply = edge.post(&headers, CALL).await;
    assert_eq!(reply.body, OK);
    assert_eq!(edge.post(&headers, CALL).await.status, 429);

    let failing = Upstream::start(|request| match request.method().as_str() {
        "tools/call" => crate::support::status(500, ""),
        _ => ok(request),
    })
    .await;
    let edge = limited(&failing, &[("q0", "1/day")]).await;
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    assert_eq!(edge.post(&headers, CALL).await.error_code(), -31104);
    assert_eq!(edge.post(&headers, CALL).await.status, 429);
}

#[tokio::test]
async fn a_token_that_is_edited_has_its_new_limits() {
    let upstream = Upstream::start(ok).await;
    let mut edge = limited(&upstream, &[("q0", "1/day")]).await;
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let statuses =
        async |edge: &Edge| [edge.post(&headers, CALL).await.status, edge.post(&headers, CALL).await.status];
    assert_eq!(statuses(&edge).await, [200, 429]);
    limit(&mut edge, &[("q0", "1/month")]);
    assert_eq!(statuses(&edge).await, [200, 429]);
    limit(&mut edge, &[]);
    assert_eq!(statuses(&edge).await, [200, 200]);
}

#[tokio::test]
async fn without_a_control_plane_nothing_passes_that_was_not_leased() {
    let upstream = Upstream::start(ok).await;
    let edge = limited(&upstream, &[("r0", "1000/s")]).await;
    edge.shared.limits.set_reachable(false);
    let session = edge.session("2025-11-25", "{}").await;
    let reply = edge.post(&[("mcp-session-id", &session)], CALL).await;
    let data = r#""data":{"reason":"rate_exceeded","retry_after_ms":100}"#;
    assert_eq!((reply.status, reply.body.contains(data)), (429, true), "{reply:?}");
    assert_eq!(upstream.calls("tools/call").len(), 0);
}
