//! Upstreams that speak the modern era over WebSocket: no handshake, calls that share a connection, and everything that they
//! can do over HTTP.

use std::collections::HashSet;

use crate::channels::until;
use crate::eras::ask;
use crate::support::{Edge, KINDS, META, Talker, eventually, id, mcp, modern, result, speaks};

const CALL: &str = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"u_echo"}}"#;

/// An edge before a WebSocket that speaks the modern era alone.
fn modern_alone(talker: &Talker) -> Edge {
    let mut edge = talker.edge(KINDS[1]);
    speaks(&mut edge.snapshot, "modern");
    edge.publish();
    edge
}

fn modern_call(id: &str, more: &str) -> String {
    ask(id, "tools/call", r#""name":"u_echo","#, "{}", more)
}

#[tokio::test]
async fn modern_calls_share_a_websocket_without_a_handshake() {
    let talker = Talker::start(|message| {
        let sent: serde_json::Value = serde_json::from_str(message).unwrap();
        let token = &sent["params"]["_meta"]["progressToken"];
        let progress = |token: &str| {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":1,"progressToken":{token}}}}}"#)
        };
        let mut said = vec![progress("\"other\"")];
        if !token.is_null() {
            assert_eq!(*token, sent["id"]);
            said.push(progress(&token.to_string()));
        }
        said.push(result(message, r#"{"resultType":"complete","n":1.0}"#));
        said
    })
    .await;
    let edge = modern_alone(&talker);
    let headers = modern("tools/call", Some("u_echo"));
    // All of them under the same id, which is theirs to choose.
    let (plain, following) = (modern_call("7", ""), modern_call("7", r#","progressToken":"p""#));
    let plain = (0..5).map(|_| edge.post(&headers, &plain));
    for reply in futures_util::future::join_all(plain).await {
        assert_eq!(reply.body, r#"{"result":{"resultType":"complete","n":1.0},"jsonrpc":"2.0","id":7}"#);
    }
    let reply = edge.post(&headers, &following).await;
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1,"progressToken":"p"}}"#;
    let answer = r#"{"result":{"resultType":"complete","n":1.0},"jsonrpc":"2.0","id":7}"#;
    assert_eq!(reply.messages(), [progress, answer]);
    assert!(talker.said("initialize").is_empty() && talker.said("notifications/initialized").is_empty());
    let calls = talker.said("tools/call");
    let ids: HashSet<String> = calls.iter().map(|(_, said)| id(said)).collect();
    let lines: HashSet<usize> = calls.iter().map(|(line, _)| *line).collect();
    assert_eq!((calls.len(), ids.len()), (6, 6));
    assert!((1..=2).contains(&lines.len()), "each of two workers holds its own: {lines:?}");
    assert!(calls.iter().all(|(_, said)| said.contains(r#"protocolVersion":"2026-07-28""#)));
}

#[tokio::test]
async fn a_modern_call_on_a_websocket_is_cancelled_when_its_client_hangs_up() {
    let talker = Talker::start(|_| Vec::new()).await;
    let edge = modern_alone(&talker);
    let headers = modern("tools/call", Some("u_echo"));
    let body = modern_call("7", "");
    let calling = edge.request("POST", &headers, &body).send();
    let hanging_up = eventually("it is called", || !talker.said("tools/call").is_empty());
    tokio::select! {
        answered = calling => panic!("{answered:?}"),
        () = hanging_up => {}
    }
    let (line, said) = talker.said("tools/call").remove(0);
    eventually("it is cancelled", || !talker.said("notifications/cancelled").is_empty()).await;
    let (cancelled_on, cancelled) = talker.said("notifications/cancelled").remove(0);
    assert!(cancelled.contains(&format!(r#""requestId":{}"#, id(&said))), "{cancelled}");
    assert_eq!((cancelled_on, talker.said("tools/call").len()), (line, 1));
}

#[tokio::test]
async fn a_modern_call_that_wants_logs_is_alone_on_its_websocket() {
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
    let talker = Talker::start(move |message| {
        vec![log.to_owned(), result(message, r#"{"resultType":"complete","content":[]}"#)]
    })
    .await;
    let edge = modern_alone(&talker);
    let headers = modern("tools/call", Some("u_echo"));
    let level = r#","io.modelcontextprotocol/logLevel":"info""#;
    let reply = edge.post(&headers, &modern_call("7", level)).await;
    let answer = r#"{"result":{"resultType":"complete","content":[]},"jsonrpc":"2.0","id":7}"#;
    assert_eq!(reply.messages(), [log, answer]);
    assert_eq!(edge.post(&headers, &modern_call("7", "")).await.messages(), [answer]);
}

#[tokio::test]
async fn a_legacy_client_is_asked_what_a_modern_websocket_requires() {
    let talker = Talker::start(|message| {
        let sent: serde_json::Value = serde_json::from_str(message).unwrap();
        if sent["params"]["inputResponses"].is_null() {
            let asks = r#"{"resultType":"input_required","requestState":"s","inputRequests":{"k":{"method":"elicitation/create","params":{"message":"?","requestedSchema":{}}}}}"#;
            return vec![result(message, asks)];
        }
        assert_eq!(sent["params"]["requestState"], "s");
        let answered = sent["params"]["inputResponses"]["k"]["action"].to_string();
        vec![result(message, &format!(r#"{{"resultType":"complete","content":[],"answered":{answered}}}"#))]
    })
    .await;
    let edge = modern_alone(&talker);
    let session = edge.session("2025-11-25", r#"{"elicitation":{}}"#).await;
    let headers = [("mcp-session-id", session.as_str())];
    let mut stream = edge.request("POST", &headers, CALL).send().await.unwrap();
    let seen = until(&mut stream, "elicitation/create").await;
    let question = seen.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"action":"decline"}}}}"#, id(question));
    assert_eq!(edge.post(&headers, &answer).await.status, 202);
    until(&mut stream, r#""answered":"decline""#).await;
    let calls = talker.said("tools/call");
    assert_eq!((calls.len(), talker.said("initialize").len()), (2, 0));
    assert_ne!(id(&calls[0].1), id(&calls[1].1));
}

#[tokio::test]
async fn a_listen_watches_a_resource_over_a_modern_websocket() {
    let talker = Talker::start(|message| {
        if !message.contains("subscriptions/listen") {
            return vec![result(message, r#"{"resultType":"complete"}"#)];
        }
        let live = r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{}}"#;
        let updated =
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///r"}}"#;
        vec![live.to_owned(), updated.to_owned()]
    })
    .await;
    let mut edge = modern_alone(&talker);
    mcp(&mut edge.snapshot.resources.upstreams[0]).modern_capabilities_json =
        r#"{"resources":{"subscribe":true}}"#.into();
    edge.publish();
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":"l","method":"subscriptions/listen","params":{{"notifications":{{"resourceSubscriptions":["u+file:///r"]}},{META}}}}}"#
    );
    let mut stream = edge.request("POST", &modern("subscriptions/listen", None), &body).send().await.unwrap();
    let seen = until(&mut stream, "notifications/resources/updated").await;
    assert!(seen.contains(r#""uri":"u+file:///r""#), "{seen}");
    let (line, listen) = talker.said("subscriptions/listen").remove(0);
    assert!(listen.contains(r#""resourceSubscriptions":["file:///r"]"#), "{listen}");
    drop(stream);
    eventually("its connection is closed", || talker.is_left(line)).await;
}
