//! Upstreams behind a balancer that pins sessions by a cookie: whatever any edge does in a session, it does at the node that has it.

use std::sync::Mutex;

use axum::response::Response;

use crate::eras::{ask, legacy_only, open_stream};
use crate::streams::until;
use crate::support::{Edge, Recorded, Upstream, id, json, making, modern, status};

const COOKIE: &str = "NODE=7; more=x";
const CAN: &str = r#"{"elicitation":{}}"#;
const QUESTION: &str = r#"{"jsonrpc":"2.0","id":"up q","method":"elicitation/create","params":{"message":"?","requestedSchema":{}}}"#;

/// A node that opens sessions for whoever comes, and answers everything else only where it is meant.
async fn pinned(answer: impl Fn(&Recorded) -> Response + Send + Sync + 'static) -> Upstream {
    Upstream::raw(move |request| match request.method().as_str() {
        "initialize" => {
            let version = request.json()["params"]["protocolVersion"].clone();
            let result = format!(r#"{{"protocolVersion":{version},"capabilities":{{}}}}"#);
            let mut response = answered(request, &result);
            response.headers_mut().insert("mcp-session-id", "up-0".parse().unwrap());
            for cookie in ["NODE=7; Path=/; HttpOnly", "more=x"] {
                response.headers_mut().append("set-cookie", cookie.parse().unwrap());
            }
            response
        }
        _ if request.header("cookie") != COOKIE => status(404, "another node"),
        method if method.starts_with("notifications/") => status(202, ""),
        _ if request.verb == "DELETE" => status(200, ""),
        _ => answer(request),
    })
    .await
}

fn answered(request: &Recorded, result: &str) -> Response {
    json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request.id()))
}

/// One session was opened, and all else was said in it at its node.
fn assert_pinned(upstream: &Upstream) {
    assert_eq!(upstream.calls("initialize").len(), 1);
    for request in upstream.requests().iter().filter(|request| request.method() != "initialize") {
        assert_eq!(
            (request.header("cookie"), request.header("mcp-session-id")),
            (COOKIE, "up-0"),
            "{request:?}"
        );
    }
}

fn call(more: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"u_echo"{more}}}}}"#)
}

#[tokio::test]
async fn a_stream_is_resumed_at_the_node_of_its_session() {
    let called = Mutex::new(String::new());
    let upstream = pinned(move |request| match request.verb.as_str() {
        "GET" if request.header("last-event-id") == "e/1" => {
            let id = called.lock().unwrap().clone();
            open_stream(&format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"n\":1}}}}\n\n"))
        }
        _ => {
            *called.lock().unwrap() = request.id();
            open_stream("id: e/1\nretry: 20\ndata:\n\n")
        }
    })
    .await;
    let edge = legacy_only(&upstream);
    let session = edge.session("2025-11-25", "{}").await;
    let mut broken = edge.request("POST", &[("mcp-session-id", &session)], &call("")).send().await.unwrap();
    let primed = until(&mut broken, "\n\n").await;
    drop(broken);
    let event = primed.strip_prefix("id: ").and_then(|rest| rest.lines().next()).unwrap();
    let headers = [("mcp-session-id", session.as_str()), ("last-event-id", event)];
    let mut stream = legacy_only(&upstream).request("GET", &headers, "").send().await.unwrap();
    until(&mut stream, r#"{"jsonrpc":"2.0","id":7,"result":{"n":1}}"#).await;
    assert_pinned(&upstream);
}

#[tokio::test]
async fn a_stream_whose_session_has_large_cookies_is_answered_and_not_offered_to_be_resumed() {
    for (length, has_ids) in [(100, true), (2_900, true), (3_100, false)] {
        let upstream = Upstream::raw(move |request| match request.method().as_str() {
            "initialize" => {
                let result = r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#;
                let mut response = answered(request, result);
                let cookie = format!("NODE={}", "7".repeat(length));
                response.headers_mut().insert("set-cookie", cookie.parse().unwrap());
                response
            }
            "tools/call" => {
                let id = request.id();
                open_stream(&format!(
                    "id: e/1\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n\n"
                ))
            }
            _ if request.verb == "GET" => status(405, ""),
            _ => status(202, ""),
        })
        .await;
        let edge = legacy_only(&upstream);
        let session = edge.session("2025-11-25", "{}").await;
        let answer = edge.post(&[("mcp-session-id", &session)], &call("")).await;
        assert_eq!(answer.messages(), [r#"{"jsonrpc":"2.0","id":7,"result":{}}"#], "{length}");
        let ids: Vec<_> = answer.body.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
        assert_eq!(ids.len(), usize::from(has_ids), "{length}: {}", answer.body);
        assert!(ids.iter().all(|id| id.len() <= 5 << 10), "{length}: {ids:?}");
        assert_eq!(upstream.calls("tools/call")[0].header("cookie").len(), "NODE=".len() + length);
    }
}

#[tokio::test]
async fn a_question_is_answered_at_the_node_that_asked() {
    let upstream = pinned(|request| match request.verb.as_str() {
        "GET" => status(405, ""),
        _ if request.method().is_empty() => status(202, ""),
        _ => open_stream(&format!("data: {QUESTION}\n\n")),
    })
    .await;
    let edge = legacy_only(&upstream);
    let session = edge.session("2025-11-25", CAN).await;
    let headers = [("mcp-session-id", session.as_str())];
    let mut stream = edge.request("POST", &headers, &call("")).send().await.unwrap();
    let seen = until(&mut stream, "elicitation/create").await;
    let question = seen.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"action":"decline"}}}}"#, id(question));
    assert_eq!(legacy_only(&upstream).post(&headers, &answer).await.status, 202);
    upstream.received(r#"{"jsonrpc":"2.0","id":"up q","result":{"action":"decline"}}"#).await;
    assert_pinned(&upstream);
}

#[tokio::test]
async fn a_task_is_asked_about_at_the_node_that_runs_it() {
    let upstream = pinned(|request| making(request, "working")).await;
    let edge = || {
        let mut edge = legacy_only(&upstream);
        edge.make_tasks("optional");
        edge
    };
    let here = edge();
    let session = here.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let begun = here.post(&headers, &call(r#","task":{}"#)).await;
    let begun: serde_json::Value = serde_json::from_str(&begun.body).unwrap();
    let task = begun["result"]["task"]["taskId"].as_str().unwrap();
    let get = format!(r#"{{"jsonrpc":"2.0","id":8,"method":"tasks/get","params":{{"taskId":"{task}"}}}}"#);
    let stands = edge().post(&headers, &get).await;
    assert!(stands.body.contains(r#""status":"working""#), "{stands:?}");
    assert_pinned(&upstream);
}

#[tokio::test]
async fn a_parked_call_goes_on_at_the_node_that_asked() {
    let called = Mutex::new(String::new());
    let upstream = pinned(move |request| match request.verb.as_str() {
        "GET" => {
            let id = called.lock().unwrap().clone();
            open_stream(&format!(
                "data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"content\":[]}}}}\n\n"
            ))
        }
        _ if request.method().is_empty() => status(202, ""),
        _ => {
            *called.lock().unwrap() = request.id();
            open_stream(&format!("id: e/1\ndata: {QUESTION}\n\n"))
        }
    })
    .await;
    let called = |edge: &Edge, more: &str| {
        let body = ask("7", "tools/call", &format!(r#""name":"u_echo","arguments":{{}},{more}"#), CAN, "");
        let request = edge.request("POST", &modern("tools/call", Some("u_echo")), &body);
        async move { crate::support::Reply::of(request).await }
    };
    let parked = called(&legacy_only(&upstream), "").await;
    let parked: serde_json::Value = serde_json::from_str(parked.messages().last().unwrap()).unwrap();
    let state = parked["result"]["requestState"].as_str().expect("it is parked");
    let input =
        format!(r#""inputResponses":{{"question-1":{{"action":"decline"}}}},"requestState":"{state}","#);
    let done = called(&legacy_only(&upstream), &input).await;
    let expected = r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":[]}}"#;
    assert_eq!((done.status, done.messages()), (200, vec![expected.to_owned()]));
    assert_eq!(upstream.calls("tools/call").len(), 1);
    assert_pinned(&upstream);
}
