//! What one session was given is of no use in another, though both are of the same token: ids of questions, and ids of
//! events.

use crate::eras::open_stream;
use crate::streams::until;
use crate::support::{Edge, Recorded, Reply, Socket, Sse, Upstream, eventually, json, mcp, status};

const CAN: &str = r#"{"sampling":{}}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"u_echo"}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;

/// Asks its clients during each call: on the stream of the call in the legacy era, by requiring input in the modern one.
async fn asking() -> Upstream {
    Upstream::start(|request| match (request.method().as_str(), request.body.contains("io.modelcontextprotocol")) {
        ("tools/call", false) => open_stream(
            "data: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"sampling/createMessage\",\"params\":{\"message\":\"?\"}}\n\n",
        ),
        ("tools/call", true) => {
            let result = if request.body.contains("inputResponses") {
                r#"{"resultType":"complete","content":[]}"#
            } else {
                r#"{"resultType":"input_required","inputRequests":{"k":{"method":"sampling/createMessage","params":{"message":"?"}}},"requestState":"s"}"#
            };
            json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request.id()))
        }
        _ => status(202, ""),
    })
    .await
}

fn edge_before(upstream: &Upstream, era: &str) -> Edge {
    let mut edge = Edge::start(&upstream.url);
    let mcp = mcp(&mut edge.snapshot.resources.upstreams[0]);
    match era {
        "legacy" => mcp.modern_versions.clear(),
        _ => mcp.legacy_version.clear(),
    }
    edge.publish();
    edge
}

fn answer(question: &str, by: &str) -> String {
    let message = &question[question.find('{').unwrap()..];
    let message: serde_json::Value =
        serde_json::Deserializer::from_str(message).into_iter().next().unwrap().unwrap();
    assert_eq!(message["method"], "sampling/createMessage", "{question}");
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"role":"assistant","by":"{by}"}}}}"#, message["id"])
}

/// Answers a question from every other kind of client of the same token.
async fn answer_from_elsewhere(edge: &Edge, question: &str) {
    let answer = answer(question, "another");
    let session = edge.session("2025-11-25", CAN).await;
    let reply = edge.post(&[("mcp-session-id", &session)], &answer).await;
    assert_eq!((reply.status, reply.error_code()), (400, -32600), "{reply:?}");
    let mut socket = Socket::session(edge, "2025-06-18", CAN).await;
    socket.say(&answer).await;
    let mut sse = Sse::session(edge, "2024-11-05", CAN).await;
    sse.say(&answer).await;
    // By then the answers were taken as well, or never are.
    assert!(socket.ask(PING).await.contains(r#""id":"p""#));
    assert!(sse.ask(PING).await.contains(r#""id":"p""#));
}

/// The answers that the upstream was given.
fn answers(upstream: &Upstream) -> Vec<String> {
    let all = upstream.requests().into_iter().filter(|request| request.body.contains(r#""by":"#));
    all.map(|request| request.body.split(r#""by":""#).nth(1).unwrap().split('"').next().unwrap().into())
        .collect()
}

#[tokio::test]
async fn a_question_is_answered_by_the_session_that_was_asked() {
    for era in ["legacy", "modern"] {
        let upstream = asking().await;
        let edge = edge_before(&upstream, era);
        let mut taken = 0;
        let mut is_taken = async |by: &'static str| {
            taken += 1;
            eventually("the answer arrives", || answers(&upstream).len() >= taken).await;
            assert_eq!(answers(&upstream)[taken - 1..], [by], "at a {era} upstream");
        };

        let session = edge.session("2025-11-25", CAN).await;
        let headers = [("mcp-session-id", session.as_str())];
        let mut call = edge.request("POST", &headers, CALL).send().await.unwrap();
        let question = until(&mut call, "sampling/createMessage").await;
        answer_from_elsewhere(&edge, &question).await;
        assert_eq!(edge.post(&headers, &answer(&question, "streamable")).await.status, 202);
        is_taken("streamable").await;

        let mut socket = Socket::session(&edge, "2025-06-18", CAN).await;
        let question = socket.ask(CALL).await;
        answer_from_elsewhere(&edge, &question).await;
        socket.say(&answer(&question, "websocket")).await;
        is_taken("websocket").await;

        let mut sse = Sse::session(&edge, "2024-11-05", CAN).await;
        let question = sse.ask(CALL).await;
        answer_from_elsewhere(&edge, &question).await;
        sse.say(&answer(&question, "sse")).await;
        is_taken("sse").await;
    }
}

#[tokio::test]
async fn a_stream_is_resumed_by_the_session_that_it_belongs_to() {
    let upstream = Upstream::start(|request| match request.verb.as_str() {
        "GET" => open_stream("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"secret\":1}}\n\n"),
        _ => open_stream("id: e/1\nretry: 20\ndata:\n\n"),
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-11-25", "{}").await;
    let mut broken = edge.request("POST", &[("mcp-session-id", &session)], CALL).send().await.unwrap();
    let primed = until(&mut broken, "\n\n").await;
    drop(broken);
    let id = primed.strip_prefix("id: ").and_then(|rest| rest.lines().next()).unwrap();
    let other = edge.session("2025-11-25", "{}").await;
    // It is answered like an id that no edge ever gave: what no request asked for begins.
    let headers = [("mcp-session-id", other.as_str()), ("last-event-id", id)];
    let mut stream = edge.request("GET", &headers, "").send().await.unwrap();
    assert_eq!(until(&mut stream, "\n\n").await, "id: 0\ndata:\n\n");
    let resumed = |request: &Recorded| !request.header("last-event-id").is_empty();
    assert!(!upstream.requests().iter().any(resumed), "the upstream was asked for the rest");
    let headers = [("mcp-session-id", session.as_str()), ("last-event-id", id)];
    let mut stream = edge.request("GET", &headers, "").send().await.unwrap();
    until(&mut stream, "\n\n").await;
    assert!(upstream.requests().iter().any(resumed), "its own session cannot resume it");
}

#[tokio::test]
async fn what_a_modern_client_was_asked_is_answered_by_its_principal_alone() {
    let upstream = asking().await;
    for era in ["legacy", "modern"] {
        let edge = edge_before(&upstream, era);
        let call = |more: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"u_echo"{more},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{CAN}}}}}}}"#
            )
        };
        let post = async |token: &str, body: &str| {
            let request = edge.bare("POST", "dev", body).bearer_auth(edge.keys.bearer(token));
            let headers = crate::support::modern("tools/call", Some("u_echo"));
            let request =
                headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
            Reply::of(request).await
        };
        let asked = post("all", &call("")).await;
        let asked: serde_json::Value = serde_json::from_str(&asked.messages()[0]).unwrap();
        let (state, requests) = (&asked["result"]["requestState"], &asked["result"]["inputRequests"]);
        let key = requests.as_object().unwrap().keys().next().unwrap();
        let input = format!(
            r#","requestState":{state},"inputResponses":{{"{key}":{{"role":"assistant","by":"another"}}}}"#
        );
        let refused = post("some", &call(&input)).await;
        assert!(refused.status == 400 || refused.error_code() == -32602, "{refused:?}");
    }
    assert_eq!(answers(&upstream), [""; 0]);
}
