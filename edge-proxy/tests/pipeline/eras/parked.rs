//! Questions of a legacy upstream in the middle of a modern client's call: parked, brought back, at any edge, or lost.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::Response;
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, watch};
use trunkline_edge_proxy::config::limits::Limits;
use trunkline_edge_proxy::session::EndedCall;

use crate::eras::{ask, legacy_limited, legacy_only, open_stream, result, speaks_legacy_alone};
use crate::support::{Edge, Reply, TestFleet, Upstream, events, eventually, json, modern, status};

const QUESTION: &str =
    r#"{"jsonrpc":"2.0","id":"up q","method":"elicitation/create","params":{"message":"\u00e9?"}}"#;
const ASKED: &str = r#""question-1":{"method":"elicitation/create","params":{"message":"\u00e9?"}}"#;
const CAN: &str = r#"{"elicitation":{},"roots":{}}"#;

/// An upstream that asks in the middle, gives its events ids, and responds when it is answered.
async fn resumable() -> Upstream {
    let call = Mutex::new(String::new());
    let answered = watch::Sender::new(false);
    Upstream::start(move |request| {
        if request.verb == "GET" {
            let id = call.lock().unwrap();
            let rest = [
                format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":1}}}}"#
                ),
                format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#),
            ];
            // The last event once more, as some servers do.
            return once_answered(&[QUESTION.into()], &rest, answered.subscribe());
        }
        if request.method().is_empty() {
            answered.send_replace(true);
            return status(202, "");
        }
        *call.lock().unwrap() = request.id();
        answered.send_replace(false);
        open_stream(&format!("id: e/0\ndata:\n\nid: e/1\ndata: {QUESTION}\n\n"))
    })
    .await
}

/// A stream of the messages in `first`, and of those in `rest` once the upstream is answered.
fn once_answered(first: &[String], rest: &[String], mut answered: watch::Receiver<bool>) -> Response {
    if *answered.borrow() {
        return events(&[first, rest].concat());
    }
    let [first, rest] = [first, rest].map(|messages| {
        let text: String = messages.iter().map(|message| format!("data: {message}\n\n")).collect();
        Ok::<_, std::convert::Infallible>(bytes::Bytes::from(text))
    });
    let rest = futures_util::stream::once(async move {
        answered.wait_for(|answered| *answered).await.unwrap();
        rest
    });
    let body = axum::body::Body::from_stream(futures_util::stream::iter([first]).chain(rest));
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

/// The id of a call, and its stream.
type Waiting = (String, mpsc::UnboundedSender<String>);

/// An upstream that asks in the middle, and goes on with the same stream when it is answered.
async fn unresumable() -> Upstream {
    let open: Arc<Mutex<Option<Waiting>>> = Arc::default();
    Upstream::start(move |request| {
        if request.method().is_empty() {
            let (id, stream) = open.lock().unwrap().take().unwrap();
            stream.send(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#)).unwrap();
            return status(202, "");
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(QUESTION.to_owned()).unwrap();
        *open.lock().unwrap() = Some((request.id(), sender));
        let messages = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
        let body = messages.map(|message| Ok::<_, std::convert::Infallible>(format!("data: {message}\n\n")));
        let body = axum::body::Body::from_stream(body);
        Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    })
    .await
}

fn call(tool: &str, more: &str, meta: &str) -> String {
    ask("7", "tools/call", &format!(r#""name":"{tool}","arguments":{{"a":1}},{more}"#), CAN, meta)
}

fn bring(state: &str, answers: &str) -> String {
    format!(r#""inputResponses":{{{answers}}},"requestState":"{state}","#)
}

const ANSWER: &str = r#""question-1":{"action":"accept","content":{"x":1.50}},"other":{"action":"accept"}"#;

/// Calls, and returns the state that comes with exactly this question.
async fn parked(edge: &Edge, tool: &str) -> String {
    let reply = edge.post(&modern("tools/call", Some(tool)), &call(tool, "", "")).await;
    state_of(&reply)
}

fn state_of(reply: &Reply) -> String {
    let messages = reply.messages();
    let message: serde_json::Value = serde_json::from_str(messages.last().unwrap()).unwrap();
    let state = message["result"]["requestState"].as_str().expect(&messages[0]).to_owned();
    let expected = format!(
        r#"{{"jsonrpc":"2.0","id":7,"result":{{"resultType":"input_required","inputRequests":{{{ASKED}}},"requestState":"{state}"}}}}"#
    );
    assert_eq!((reply.status, messages), (200, vec![expected]));
    state
}

const DONE: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":[]}}"#;

#[tokio::test]
async fn a_parked_call_goes_on_at_another_edge() {
    let upstream = resumable().await;
    let state = parked(&legacy_only(&upstream), "u_echo").await;
    let elsewhere = legacy_only(&upstream);
    let retry = call("u_echo", &bring(&state, ANSWER), r#","progressToken":"p""#);
    let reply = elsewhere.post(&modern("tools/call", Some("u_echo")), &retry).await;
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}"#;
    assert_eq!((reply.status, reply.messages()), (200, vec![progress.to_owned(), DONE.to_owned()]));
    let told = upstream
        .received(r#"{"jsonrpc":"2.0","id":"up q","result":{"action":"accept","content":{"x":1.50}}}"#)
        .await;
    assert_eq!((told.header("mcp-session-id"), told.header("mcp-protocol-version")), ("up-0", "2025-11-25"));
    let resumed: Vec<_> = upstream.requests().into_iter().filter(|request| request.verb == "GET").collect();
    assert_eq!(resumed.len(), 1);
    assert_eq!((resumed[0].header("last-event-id"), resumed[0].header("mcp-session-id")), ("e/1", "up-0"));
    assert_eq!((upstream.calls("initialize").len(), upstream.calls("tools/call").len()), (1, 1));
}

#[tokio::test]
async fn a_retry_that_is_made_twice_answers_the_upstream_once() {
    let upstream = resumable().await;
    let edge = legacy_only(&upstream);
    let state = parked(&edge, "u_echo").await;
    for _ in 0..2 {
        let retry = call("u_echo", &bring(&state, ANSWER), "");
        let reply = edge.post(&modern("tools/call", Some("u_echo")), &retry).await;
        assert_eq!((reply.status, reply.messages()), (200, vec![DONE.to_owned()]));
    }
    assert_eq!(upstream.requests().iter().filter(|request| request.verb == "GET").count(), 2);
    assert_eq!(upstream.calls("").iter().filter(|request| request.body.contains("up q")).count(), 1);
}

/// An upstream that asks in the middle, responds when it is answered, and keeps no event that it has sent: a stream that is
/// asked for again says nothing.
async fn forgetful() -> Upstream {
    let call = Mutex::new(Some(String::new()));
    let answered = watch::Sender::new(false);
    Upstream::start(move |request| match (request.verb.as_str(), request.method().as_str()) {
        ("GET", _) => match call.lock().unwrap().take() {
            Some(id) => {
                let response = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#);
                once_answered(&[], &[response], answered.subscribe())
            }
            None => open_stream(": nothing\n\n"),
        },
        (_, "") => {
            answered.send_replace(true);
            status(202, "")
        }
        _ => {
            *call.lock().unwrap() = Some(request.id());
            answered.send_replace(false);
            open_stream(&format!("id: e/1\ndata: {QUESTION}\n\n"))
        }
    })
    .await
}

#[tokio::test]
async fn a_state_that_is_brought_after_its_call_has_ended_is_refused_at_every_edge() {
    let upstream = forgetful().await;
    let fleet = TestFleet::changed(&upstream.url, 2, speaks_legacy_alone).await;
    let (here, there) = (&fleet.edges[0], &fleet.edges[1]);
    let state = parked(here, "u_echo").await;
    let retry = call("u_echo", &bring(&state, ANSWER), "");
    let reply = here.post(&modern("tools/call", Some("u_echo")), &retry).await;
    assert_eq!((reply.status, reply.messages()), (200, vec![DONE.to_owned()]));

    let number = upstream.calls("tools/call")[0].id().parse().unwrap();
    let ended = EndedCall::of("u", b"up-0", number);
    eventually("the other edge knows", || there.shared.environment.ended_calls.contains(ended)).await;
    for edge in [here, there] {
        let reply = edge.post(&modern("tools/call", Some("u_echo")), &retry).await;
        let lost = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-31109,"message":"upstream u: the call that waited for this input is lost","data":{"reason":"upstream_call_lost","upstream":"u","retryable":false}}}"#;
        assert_eq!((reply.status, reply.body.as_str()), (200, lost));
    }
    assert_eq!(upstream.calls("tools/call").len(), 1);
    assert_eq!(upstream.calls("").iter().filter(|request| request.body.contains("up q")).count(), 1);
    assert_eq!(upstream.calls("notifications/cancelled").len(), 0);
}

#[tokio::test]
async fn an_upstream_that_has_not_yet_seen_the_stream_close_is_asked_for_it_again() {
    let (made, gets) = (Mutex::new(String::new()), AtomicUsize::new(0));
    let upstream = Upstream::start(move |request| {
        if request.verb == "GET" {
            let id = made.lock().unwrap();
            return match gets.fetch_add(1, Ordering::Relaxed) {
                0 => status(409, ""),
                _ => events(&[format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#)]),
            };
        }
        if request.method().is_empty() {
            return status(202, "");
        }
        *made.lock().unwrap() = request.id();
        open_stream(&format!("id: e/0\ndata:\n\nid: e/1\ndata: {QUESTION}\n\n"))
    })
    .await;
    let edge = legacy_only(&upstream);
    let state = parked(&edge, "u_echo").await;
    let retry = call("u_echo", &bring(&state, ANSWER), "");
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &retry).await;
    assert_eq!((reply.status, reply.messages()), (200, vec![DONE.to_owned()]));
}

#[tokio::test]
async fn a_parked_call_is_gone_on_with_by_its_own_retry_alone() {
    let upstream = resumable().await;
    let edge = legacy_only(&upstream);
    let state = parked(&edge, "u_echo").await;
    let headers = modern("tools/call", Some("u_echo"));
    let mut forged = state.clone();
    let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.push(last);
    for bad in [
        call("u_echo", &bring(&forged, ANSWER), ""),
        call("u_echo", &bring(&state, ANSWER), "").replace(r#""a":1"#, r#""a":2"#),
        call("u_echo", r#""requestState":7,"#, ""),
    ] {
        assert_eq!(edge.post(&headers, &bad).await.error_code(), -32602, "{bad}");
    }
    let other = call("u_other", &bring(&state, ANSWER), "");
    assert_eq!(edge.post(&modern("tools/call", Some("u_other")), &other).await.error_code(), -32602);
    let mut theirs = edge.bare("POST", "dev", &call("u_echo", &bring(&state, ANSWER), ""));
    theirs = theirs.header("authorization", format!("Bearer {}", edge.keys.bearer("some")));
    for (name, value) in &headers {
        theirs = theirs.header(*name, *value);
    }
    assert_eq!(Reply::of(theirs).await.error_code(), -32602);
    // A client that brings nothing is asked again, and the upstream is left alone.
    let before = upstream.requests().len();
    for nothing in
        [bring(&state, ""), bring(&state, r#""other":{}"#), format!(r#""requestState":"{state}","#)]
    {
        let again = edge.post(&headers, &call("u_echo", &nothing, "")).await;
        assert_eq!(state_of(&again), state);
    }
    assert_eq!(upstream.requests().len(), before);
    let reply = edge.post(&headers, &call("u_echo", &bring(&state, ANSWER), "")).await;
    assert_eq!(reply.messages().last().unwrap(), DONE);
}

#[tokio::test]
async fn server_requests_made_together_are_sent_together_and_answered_one_by_one() {
    let (call_id, answered) = (Mutex::new(String::new()), watch::Sender::new(false));
    let upstream = Upstream::start(move |request| {
        if request.verb == "GET" {
            let id = call_id.lock().unwrap();
            let result = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#);
            return once_answered(&[], &[result], answered.subscribe());
        }
        if request.method().is_empty() {
            answered.send_replace(request.id() == "5");
            return status(202, "");
        }
        *call_id.lock().unwrap() = request.id();
        let roots = r#"{"jsonrpc":"2.0","id":5,"method":"roots/list"}"#;
        open_stream(&format!("id: 1\ndata: {QUESTION}\n\nid: 2\ndata: {roots}\n\n"))
    })
    .await;
    let edge = legacy_only(&upstream);
    let headers = modern("tools/call", Some("u_echo"));
    let asked = |state: &str, questions: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"result":{{"resultType":"input_required","inputRequests":{{{questions}}},"requestState":"{state}"}}}}"#
        )
    };
    let state = |reply: &Reply| {
        let message: serde_json::Value = serde_json::from_str(reply.messages().last().unwrap()).unwrap();
        message["result"]["requestState"].as_str().unwrap().to_owned()
    };
    let roots = r#""question-2":{"method":"roots/list","params":{}}"#;
    let first = edge.post(&headers, &call("u_echo", "", "")).await;
    assert_eq!(first.messages(), [asked(&state(&first), &format!("{ASKED},{roots}"))]);
    let second = edge.post(&headers, &call("u_echo", &bring(&state(&first), ANSWER), "")).await;
    assert_eq!(second.messages(), [asked(&state(&second), roots)]);
    let rest = bring(&state(&second), r#""question-2":{"roots":[]}"#);
    let third = edge.post(&headers, &call("u_echo", &rest, "")).await;
    assert_eq!(third.messages(), [DONE]);
    upstream.received(r#"{"jsonrpc":"2.0","id":5,"result":{"roots":[]}}"#).await;
}

#[tokio::test]
async fn a_call_that_cannot_be_resumed_is_held_and_goes_on_from_any_worker() {
    let upstream = unresumable().await;
    let edge = legacy_only(&upstream);
    let headers = modern("tools/call", Some("u_echo"));
    for _ in 0..4 {
        let state = parked(&edge, "u_echo").await;
        let again = edge.post(&headers, &call("u_echo", &bring(&state, ""), "")).await;
        let state = state_of(&again);
        let reply = edge.post(&headers, &call("u_echo", &bring(&state, ANSWER), "")).await;
        assert_eq!((reply.status, reply.messages()), (200, vec![DONE.to_owned()]));
    }
    upstream
        .received(r#"{"jsonrpc":"2.0","id":"up q","result":{"action":"accept","content":{"x":1.50}}}"#)
        .await;
    assert_eq!(upstream.calls("tools/call").len(), 4);
    assert_eq!(upstream.calls("notifications/cancelled").len(), 0);
}

#[tokio::test]
async fn a_call_whose_holder_is_gone_is_lost_and_never_made_again() {
    let upstream = unresumable().await;
    let edge = legacy_only(&upstream);
    for (tool, retryable) in [("u_echo", false), ("u_safe", true)] {
        let state = parked(&edge, tool).await;
        let elsewhere = legacy_only(&upstream);
        let retry = call(tool, &bring(&state, ANSWER), "");
        let reply = elsewhere.post(&modern("tools/call", Some(tool)), &retry).await;
        let expected = format!(
            r#"{{"jsonrpc":"2.0","id":7,"error":{{"code":-31109,"message":"upstream u: the call that waited for this input is lost","data":{{"reason":"upstream_call_lost","upstream":"u","retryable":{retryable}}}}}}}"#
        );
        assert_eq!((reply.status, reply.body), (200, expected));
    }
    assert_eq!(upstream.calls("tools/call").len(), 2);
}

#[tokio::test]
async fn a_session_that_ended_meanwhile_is_a_call_that_is_lost() {
    let upstream = Upstream::start(|request| match request.method().as_str() {
        "tools/call" => open_stream(&format!("id: 1\ndata: {QUESTION}\n\n")),
        _ => status(404, ""),
    })
    .await;
    let edge = legacy_only(&upstream);
    let state = parked(&edge, "u_echo").await;
    let retry = call("u_echo", &bring(&state, ANSWER), "");
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &retry).await;
    assert_eq!((reply.status, reply.error_code()), (200, -31109));
    assert_eq!(upstream.calls("tools/call").len(), 1);
}

#[tokio::test]
async fn a_client_that_never_comes_back_leaves_nobody_waiting() {
    let limits = Limits { parked_call_lifetime: Duration::from_millis(300), ..Limits::default() };
    for upstream in [resumable().await, unresumable().await] {
        let edge = legacy_limited(&upstream, limits.clone());
        parked(&edge, "u_echo").await;
        upstream.received(r#"{"jsonrpc":"2.0","id":"up q","result":{"action":"cancel"}}"#).await;
    }
}

#[tokio::test]
async fn no_more_calls_are_parked_than_may_be() {
    let limits = Limits { max_parked_calls: 0, ..Limits::default() };
    let upstream = resumable().await;
    let edge = legacy_limited(&upstream, limits);
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &call("u_echo", "", "")).await;
    let crowded = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-31110,"message":"upstream u: too many calls wait for client input at this edge (--max-parked-calls); try again later","data":{"reason":"too_many_parked_calls","upstream":"u"}}}"#;
    assert_eq!(reply.messages(), [crowded]);
    upstream.received(r#"{"jsonrpc":"2.0","id":"up q","result":{"action":"cancel"}}"#).await;
}

#[tokio::test]
async fn a_client_receives_no_server_request_that_it_did_not_declare() {
    let upstream = Upstream::start(|request| {
        events(&[
            QUESTION.into(),
            r#"{"jsonrpc":"2.0","id":6,"method":"sampling/createMessage","params":{}}"#.into(),
            result(request, "{}"),
        ])
    })
    .await;
    let edge = legacy_only(&upstream);
    let body = ask("7", "tools/call", r#""name":"u_echo","#, "{}", "");
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &body).await;
    assert_eq!(reply.messages(), [r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete"}}"#]);
    upstream.received(r#"{"jsonrpc":"2.0","id":"up q","result":{"action":"cancel"}}"#).await;
    upstream
        .received(
            r#"{"jsonrpc":"2.0","id":6,"error":{"code":-32601,"message":"this client does not support this request"}}"#,
        )
        .await;
}

#[tokio::test]
async fn urls_that_must_be_visited_first_are_asked_for_and_the_call_is_made_again() {
    let calls = Mutex::new(0);
    let upstream = Upstream::start(move |request| {
        *calls.lock().unwrap() += 1;
        if *calls.lock().unwrap() > 1 {
            return json(&result(request, r#"{"content":[]}"#));
        }
        json(&format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32042,"message":"m","data":{{"elicitations":[{{"mode":"url","elicitationId":"e","url":"https://x.y/","message":"go"}}]}}}}}}"#,
            request.id()
        ))
    })
    .await;
    let edge = legacy_only(&upstream);
    let can = r#"{"elicitation":{"url":{}}}"#;
    let headers = modern("tools/call", Some("u_echo"));
    let call = |more: &str| ask("7", "tools/call", &format!(r#""name":"u_echo",{more}"#), can, "");
    let asked = edge.post(&headers, &call("")).await;
    let message: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    let state = message["result"]["requestState"].as_str().expect(&asked.body);
    let question = r#""question-1":{"method":"elicitation/create","params":{"mode":"url","url":"https://x.y/","message":"go"}}"#;
    assert_eq!(
        asked.body,
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"result":{{"resultType":"input_required","inputRequests":{{{question}}},"requestState":"{state}"}}}}"#
        )
    );
    let done = edge.post(&headers, &call(&bring(state, r#""question-1":{"action":"accept"}"#))).await;
    assert_eq!((done.status, done.body.as_str()), (200, DONE));
    let sent = upstream.calls("tools/call").pop().unwrap();
    let id = sent.id();
    let expected =
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo"}}}}"#);
    assert_eq!(sent.body, expected);
}

#[tokio::test]
async fn a_client_that_cannot_visit_urls_is_told_what_it_lacks() {
    let upstream = Upstream::start(|request| {
        json(&format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32042,"message":"m","data":{{"elicitations":[{{}}]}}}}}}"#,
            request.id()
        ))
    })
    .await;
    let edge = legacy_only(&upstream);
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &call("u_echo", "", "")).await;
    let lacking = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32021,"message":"missing required client capability","data":{"requiredCapabilities":{"elicitation":{"url":{}}}}}}"#;
    assert_eq!((reply.status, reply.body.as_str()), (400, lacking));
}
