//! Calls that wait for their client's input when its right ends: they are cancelled at the upstream, wherever they wait.

use std::convert::Infallible;
use std::sync::Mutex;

use axum::response::Response;
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::{WITHDRAWALS, before, before_that, cancelled, last_code, narrow, rest};
use crate::eras::{ask, open_stream};
use crate::streams::until;
use crate::support::{Edge, TestFleet, TestSnapshot, Upstream, eventually, json, mcp, modern, status};

const QUESTION: &str = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"?"}}"#;
const CAN: &str = r#"{"elicitation":{}}"#;

fn legacy_only(snapshot: &mut TestSnapshot) {
    mcp(&mut snapshot.resources.upstreams[0]).modern_versions.clear();
    snapshot.resources.upstreams[0].request_timeout = Some(prost_types::Duration { seconds: 600, nanos: 0 });
}

fn call(more: &str) -> String {
    ask("\"c\"", "tools/call", &format!(r#""name":"u_echo",{more}"#), CAN, "")
}

async fn state_of(edge: &Edge) -> String {
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &call("")).await;
    let message: serde_json::Value = serde_json::from_str(&reply.messages()[0]).unwrap();
    message["result"]["requestState"].as_str().unwrap_or_else(|| panic!("{message}")).to_owned()
}

#[tokio::test]
async fn a_parked_call_is_cancelled_whether_its_stream_is_held_or_not() {
    for (what, withdraw, _) in WITHDRAWALS {
        for event_id in ["id: e/1\n", ""] {
            let upstream =
                Upstream::start(move |_| open_stream(&format!("{event_id}data: {QUESTION}\n\n"))).await;
            let mut edge = before_that(&upstream, what);
            legacy_only(&mut edge.snapshot);
            edge.publish();
            state_of(&edge).await;
            assert_eq!(edge.metrics.parked_calls.get(), 1, "{what}");
            withdraw(&mut edge);
            edge.publish();
            cancelled(&upstream).await;
            edge.nothing_is_left().await;
            eventually("nothing is parked", || edge.metrics.parked_calls.get() == 0).await;
        }
    }
}

/// Asks, reports progress when it is answered, and then goes on for ever.
async fn asking_once() -> Upstream {
    let answered = watch::Sender::new(String::new());
    let call = Mutex::new(String::new());
    Upstream::start(move |request| {
        if request.method().is_empty() {
            answered.send_replace(call.lock().unwrap().clone());
            return status(202, "");
        }
        *call.lock().unwrap() = request.id();
        let mut answered = answered.subscribe();
        let progress = async move {
            let call = answered.wait_for(|call| !call.is_empty()).await.unwrap().clone();
            Ok::<_, Infallible>(format!(
                "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{call},\"progress\":1}}}}\n\n"
            ))
        };
        let asked = futures_util::stream::iter([Ok(format!("data: {QUESTION}\n\n"))]);
        let body = asked.chain(futures_util::stream::once(progress)).chain(futures_util::stream::pending());
        let body = axum::body::Body::from_stream(body);
        Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    })
    .await
}

/// The edge that holds the call learns of it first, or the edge that its client is at.
#[tokio::test]
async fn a_call_that_one_edge_holds_for_a_client_of_another_ends_at_both() {
    for told_first in [0, 1] {
        let upstream = asking_once().await;
        let mut fleet = TestFleet::changed(&upstream.url, 2, legacy_only).await;
        let state = state_of(&fleet.edges[0]).await;
        let input =
            format!(r#""requestState":"{state}","inputResponses":{{"question-1":{{"action":"accept"}}}},"#);
        let body = ask(
            "\"c\"",
            "tools/call",
            &format!(r#""name":"u_echo",{input}"#),
            CAN,
            r#","progressToken":"t""#,
        );
        let headers = modern("tools/call", Some("u_echo"));
        let mut stream = fleet.edges[1].request("POST", &headers, &body).send().await.unwrap();
        until(&mut stream, r#""progressToken":"t""#).await;
        let siblings = [fleet.edges[0].sibling(), fleet.edges[1].sibling()];
        fleet.edges[told_first].publish(&siblings, |snapshot| {
            snapshot.resources.tokens[0].tools = vec!["u_safe".into()];
        });
        assert_eq!(last_code(&rest(stream).await), -32602);
        cancelled(&upstream).await;
        for edge in &fleet.edges {
            edge.nothing_is_left().await;
        }
    }
}

/// A legacy client is asked on its stream, and may leave it and answer on another.
#[tokio::test]
async fn a_question_is_withdrawn_though_its_client_has_left() {
    let upstream = Upstream::start(|request| {
        let input = r#"{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"message":"?"}}},"requestState":"s"}"#;
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{input}}}"#, request.id()))
    })
    .await;
    let mut edge = before(&upstream);
    mcp(&mut edge.snapshot.resources.upstreams[0]).legacy_version.clear();
    edge.publish();
    let session = edge.session("2025-11-25", CAN).await;
    let headers = [("mcp-session-id", session.as_str())];
    let mut call = edge.request("POST", &headers, super::CALL).send().await.unwrap();
    until(&mut call, "elicitation/create").await;
    drop(call);
    eventually("its client has left", || edge.metrics.streams.get() == 0).await;
    assert_eq!((edge.metrics.parked_calls.get(), edge.waiters.len()), (1, 1));
    narrow(&mut edge);
    edge.publish();
    edge.nothing_is_left().await;
    eventually("nothing is parked", || edge.metrics.parked_calls.get() == 0).await;
}
