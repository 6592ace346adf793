//! What one session was given is of no use in another, though both are of the same token: ids of questions, and ids of
//! events. And however many sessions a client begins, upstreams hold a bounded number for them.

use trunkline_edge_proxy::config::limits::Limits;

use crate::eras::open_stream;
use crate::streams::until;
use crate::support::{
    Edge, Recorded, Reply, Socket, Sse, Upstream, edge_before, eventually, initialize, json, status,
};

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

/// A client that initializes again and again makes an upstream hold no more sessions for that.
#[tokio::test]
async fn sessions_of_one_token_make_room_for_each_other() {
    let upstream = Upstream::start(|request| {
        if request.body.contains(r#""hold""#) {
            return open_stream("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n");
        }
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, request.id()))
    })
    .await;
    let mut edge =
        Edge::limited(&upstream.url, Limits { max_upstream_sessions_per_token: 2, ..Limits::default() });
    edge.snapshot.resources.upstreams[0].request_timeout =
        Some(prost_types::Duration { seconds: 600, nanos: 0 });
    edge.publish();
    let metrics = &edge.metrics;
    let begin = async |token: &str, call: &str| {
        let post = |session: Option<&str>, body: &str| {
            let request = edge.bare("POST", "dev", body).bearer_auth(edge.keys.bearer(token));
            session.into_iter().fold(request, |request, session| request.header("mcp-session-id", session))
        };
        let opened = Reply::of(post(None, &initialize("2025-06-18", CAN))).await;
        post(Some(opened.header("mcp-session-id")), call).send().await.unwrap()
    };
    let held = CALL.replace(r#""u_echo""#, r#""u_echo","arguments":{"hold":1}"#);
    let mut running = begin("all", &held).await;
    until(&mut running, "notifications/x").await;
    for _ in 0..20 {
        let answer = begin("all", CALL).await;
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().contains("content")), (200, true));
    }
    // Besides its own two, one that clients share on each worker.
    eventually("the upstream's sessions are ended", || metrics.upstream_sessions.get() <= 4).await;
    let (replaced, shared) =
        (metrics.upstream_sessions_replaced.get(), metrics.upstream_sessions_shared.get());
    assert_eq!(replaced + shared, 19, "{replaced} were replaced, {shared} shared");
    assert!(upstream.calls("initialize").len() <= 22);
    let ended: Vec<String> = upstream
        .requests()
        .iter()
        .filter(|request| request.verb == "DELETE")
        .map(|request| request.header("mcp-session-id").to_owned())
        .collect();
    assert!(!ended.contains(&"up-0".to_owned()), "a session that is needed was ended");

    let opened = upstream.calls("initialize").len();
    assert_eq!(begin("some", CALL).await.status(), 200);
    assert_eq!(upstream.calls("initialize").len(), opened + 1, "another token has its own");
    let now = (metrics.upstream_sessions_replaced.get(), metrics.upstream_sessions_shared.get());
    assert_eq!(now, (replaced, shared));
}
