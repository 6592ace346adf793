//! Clients that are asked for the word that their call is approved, and calls that go on with input once they are.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::response::Response;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use trunkline::policy::v1::ApprovalState;

use super::{HELD, holding, pending, told};
use crate::conditions::{upstream, value};
use crate::eras::{ask, legacy_only, modern_only};
use crate::support::{
    ControlPlane, Edge, Reply, Socket, Sse, Upstream, approve, events, json as answer, modern, status,
};

const PARAMS: &str = r#""name":"u_echo","arguments":{"a":1},"#;
const PAGE: &str = "https://cp.example/approvals/a-1?x=\"";
const FORM: &str = r#"{"elicitation":{}}"#;
const URL: &str = r#"{"elicitation":{"url":{}}}"#;
const BOTH: &str = r#"{"elicitation":{"form":{},"url":{}}}"#;

async fn post(edge: &Edge, params: &str, capabilities: &str) -> Reply {
    edge.post(&modern("tools/call", Some("u_echo")), &ask("1", "tools/call", params, capabilities, "")).await
}

/// What a client asks for that waits, in this mode, with the state that is to be sent back.
fn asked(answer: &str, mode: &str) -> String {
    let answer = value(answer);
    let held = told(1);
    let held = held.strip_suffix(", then make the same call again").unwrap();
    let message = format!("{held}; accept this once it is approved");
    let mut params = json!({"mode": mode, "message": message});
    match mode {
        "url" => params["url"] = PAGE.into(),
        _ => params["requestedSchema"] = json!({"type": "object", "properties": {}}),
    }
    let state = answer["result"]["requestState"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    let requests = json!({"trunkline-approval": {"method": "elicitation/create", "params": params}});
    let result = json!({"resultType": "input_required", "inputRequests": requests, "requestState": state});
    assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 1, "result": result}));
    state
}

/// The params of the same call, with this answer of its client.
fn answered(state: &str, action: &str) -> String {
    let responses = format!(r#"{{"trunkline-approval":{{"action":"{action}"}}}}"#);
    format!(r#"{PARAMS}"inputResponses":{responses},"requestState":"{state}","#)
}

#[tokio::test]
async fn a_modern_client_is_asked_in_the_mode_that_it_takes() {
    let control_plane = ControlPlane::start().await;
    let edge = holding(&upstream().await, &control_plane);
    for (capabilities, page, mode) in [
        (FORM, "", Some("form")),
        (BOTH, "", Some("form")),
        (URL, "", None),
        ("{}", "", None),
        (r#"{"elicitation":null,"sampling":{}}"#, PAGE, None),
        ("{}", PAGE, None),
        (FORM, PAGE, Some("form")),
        (BOTH, PAGE, Some("url")),
        (URL, PAGE, Some("url")),
    ] {
        control_plane.publish(page);
        let reply = post(&edge, PARAMS, capabilities).await;
        match mode {
            Some(mode) => {
                assert_eq!(reply.status, 200, "{capabilities} {page}");
                asked(&reply.body, mode);
            }
            None => {
                let mut expected = pending(1);
                if !page.is_empty() {
                    expected["data"]["url"] = page.into();
                }
                assert_eq!((reply.status, &value(&reply.body)["error"]), (403, &expected), "{capabilities}");
            }
        }
    }
    control_plane.publish("");
    let mut socket = Socket::open(&edge).await;
    asked(&socket.ask(&ask("1", "tools/call", PARAMS, FORM, "")).await, "form");
    // What is not waited for is no question.
    control_plane.decide(1, ApprovalState::Denied, "no");
    let reply = post(&edge, PARAMS, FORM).await;
    assert_eq!(value(&reply.body)["error"]["data"]["reason"], "approval_denied");
}

#[tokio::test]
async fn a_legacy_client_that_takes_urls_is_told_the_page() {
    let control_plane = ControlPlane::start().await;
    let edge = holding(&upstream().await, &control_plane);
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{}}}}}"#,
        PARAMS.trim_end_matches(',')
    );
    control_plane.publish(PAGE);
    let mut plain = pending(1);
    plain["data"]["url"] = PAGE.into();
    let mut by_url = plain.clone();
    by_url["code"] = (-32042).into();
    by_url["data"]["elicitations"] =
        json!([{"mode": "url", "elicitationId": "a-1", "url": PAGE, "message": told(1)}]);
    for (revision, capabilities, expected) in [
        ("2025-11-25", URL, (200, &by_url)),
        ("2025-11-25", BOTH, (200, &by_url)),
        ("2025-11-25", FORM, (403, &plain)),
        ("2025-11-25", "{}", (403, &plain)),
        ("2025-06-18", URL, (403, &plain)),
        ("2024-11-05", URL, (403, &plain)),
    ] {
        let session = edge.session(revision, capabilities).await;
        let reply = edge.post(&[("mcp-session-id", &session)], &call).await;
        assert_eq!((reply.status, &value(&reply.body)["error"]), expected, "{revision} {capabilities}");
    }
    let mut socket = Socket::session(&edge, "2025-11-25", URL).await;
    assert_eq!(value(&socket.ask(&call).await)["error"], by_url);
    let mut stream = Sse::session(&edge, "2024-11-05", URL).await;
    assert_eq!(value(&stream.ask(&call).await)["error"], plain);
    control_plane.publish("");
    let session = edge.session("2025-11-25", URL).await;
    let reply = edge.post(&[("mcp-session-id", &session)], &call).await;
    assert_eq!((reply.status, &value(&reply.body)["error"]), (403, &pending(1)), "there is no page");
}

#[tokio::test]
async fn a_client_that_accepts_calls_again_and_its_upstream_sees_nothing_of_that() {
    let upstream = upstream().await;
    let control_plane = ControlPlane::start().await;
    let edge = holding(&upstream, &control_plane);
    let first = asked(&post(&edge, PARAMS, FORM).await.body, "form");
    let second = asked(&post(&edge, &answered(&first, "accept"), FORM).await.body, "form");
    control_plane.approve(1);
    // Another edge knows as much.
    let mut other = Edge::start(&upstream.url);
    other.keys = edge.keys.clone();
    other.bearer.clone_from(&edge.bearer);
    other.snapshot = edge.snapshot.clone();
    other.publish();
    control_plane.join(&other);
    let reply = post(&other, &answered(&second, "accept"), FORM).await;
    assert_eq!((reply.status, &value(&reply.body)["result"]["content"]), (200, &json!([])), "{reply:?}");
    let sent = upstream.calls("tools/call");
    let plain = ask("1", "tools/call", PARAMS, FORM, "").replace("u_echo", "echo");
    assert_eq!((sent.len(), &sent[0].body), (1, &plain));
    assert_eq!(control_plane.asked().len(), 3);
}

#[tokio::test]
async fn a_client_that_declines_is_not_asked_again_and_makes_no_call() {
    let upstream = upstream().await;
    let control_plane = ControlPlane::start().await;
    let edge = holding(&upstream, &control_plane);
    control_plane.publish(PAGE);
    let state = asked(&post(&edge, PARAMS, FORM).await.body, "form");
    control_plane.approve(1);
    let mut expected = pending(1);
    expected["data"]["url"] = PAGE.into();
    for action in ["decline", "cancel"] {
        let reply = post(&edge, &answered(&state, action), FORM).await;
        assert_eq!((reply.status, &value(&reply.body)["error"]), (403, &expected), "{action}");
    }
    assert_eq!((control_plane.asked().len(), upstream.calls("tools/call").len()), (1, 0));
    // Whoever declines makes no call, though the rule is gone.
    let mut free = holding(&upstream, &control_plane);
    (free.keys, free.bearer, free.snapshot) = (edge.keys.clone(), edge.bearer.clone(), edge.snapshot.clone());
    free.snapshot.rule(Vec::new());
    free.publish();
    let reply = post(&free, &answered(&state, "decline"), FORM).await;
    assert_eq!(value(&reply.body)["error"]["data"], expected["data"]);
    assert_eq!((control_plane.asked().len(), upstream.calls("tools/call").len()), (1, 0));
    // Somebody who has thought better of it has an approval still.
    assert_eq!(post(&edge, &answered(&state, "accept"), FORM).await.status, 200);
    assert_eq!(upstream.calls("tools/call").len(), 1);
}

#[tokio::test]
async fn the_state_of_a_call_is_its_own() {
    let upstream = upstream().await;
    let control_plane = ControlPlane::start().await;
    let mut edge = holding(&upstream, &control_plane);
    let state = asked(&post(&edge, PARAMS, FORM).await.body, "form");
    let unknown = async |edge: &Edge, state: &str| {
        let reply = post(edge, &answered(state, "accept"), FORM).await;
        let message = "params.requestState was not issued for this call, or has expired";
        assert_eq!(value(&reply.body)["error"], json!({"code": -32602, "message": message}), "{state}");
    };
    let sealed = state.strip_suffix('.').unwrap();
    for forged in [".", "x.", &format!("{state}x"), &format!("{}A.", &sealed[..sealed.len() - 1])] {
        if forged != &*state {
            unknown(&edge, forged).await;
        }
    }
    let other = ask("1", "tools/call", &answered(&state, "accept").replace("u_echo", "u_other"), FORM, "");
    let reply = edge.post(&modern("tools/call", Some("u_other")), &other).await;
    assert_eq!(reply.error_code(), -32602, "it is of another tool");
    edge.bearer = edge.keys.bearer("some");
    unknown(&edge, &state).await;
    assert_eq!(upstream.calls("tools/call").len(), 0);
}

/// The upstream asks for input once, with or without a state.
async fn asking(state: &'static str) -> Upstream {
    Upstream::raw(move |request| {
        let result = match request.body.contains("inputResponses") {
            true => r#"{"resultType":"complete","content":[]}"#.to_owned(),
            false => format!(
                r#"{{{state}"resultType":"input_required","inputRequests":{{"k":{{"method":"elicitation/create","params":{{"message":"?"}}}}}}}}"#
            ),
        };
        answer(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request.id()))
    })
    .await
}

fn with_input(state: &Value, arguments: &str) -> String {
    format!(
        r#""name":"u_echo","arguments":{arguments},"inputResponses":{{"k":{{"action":"accept"}}}},"requestState":{state},"#
    )
}

/// Rounds of input belong to the call that was approved, as it was approved.
#[tokio::test]
async fn a_call_that_a_modern_upstream_asks_something_is_not_approved_again() {
    for state in ["", r#""requestState":"up","#] {
        let upstream = asking(state).await;
        let control_plane = ControlPlane::start().await;
        let mut edge = modern_only(&upstream);
        edge.snapshot.rule(vec![approve(&["u_echo"], r#"args.a == 1"#)]);
        edge.publish();
        control_plane.join(&edge);
        // One that needs no approval has a state as ever, which is good for no other.
        let free = value(&post(&edge, r#""name":"u_echo","arguments":{"a":2},"#, FORM).await.body);
        assert_eq!(free["result"].get("requestState").is_some(), !state.is_empty(), "{free}");
        if let Some(state) = free["result"].get("requestState") {
            let reply = post(&edge, &with_input(state, r#"{"a":1}"#), "{}").await;
            assert_eq!(value(&reply.body)["error"], pending(1), "it was not approved");
        } else {
            assert_eq!(value(&post(&edge, PARAMS, "{}").await.body)["error"], pending(1));
        }
        control_plane.approve(1);
        let begun = value(&post(&edge, PARAMS, FORM).await.body);
        let held = &begun["result"]["requestState"];
        assert_eq!(begun["result"]["inputRequests"]["k"]["params"], json!({"message": "?"}), "{begun}");
        assert_eq!(control_plane.asked().len(), 2);

        // What is kept in the state was approved with its arguments, and is made with no others.
        if !state.is_empty() {
            let made = upstream.calls("tools/call").len();
            let reply = post(&edge, &with_input(held, r#"{"a":2}"#), FORM).await;
            assert_eq!((reply.error_code(), upstream.calls("tools/call").len()), (-32602, made), "{reply:?}");
        }

        let reply = post(&edge, &with_input(held, r#"{"a":1}"#), FORM).await;
        assert_eq!(value(&reply.body)["result"]["content"], json!([]), "{reply:?}");
        let sent = upstream.calls("tools/call").pop().unwrap().json();
        let expected = (!state.is_empty()).then(|| json!("up"));
        assert_eq!(sent["params"].get("requestState").cloned(), expected);
        assert_eq!(sent["params"]["inputResponses"], json!({"k": {"action": "accept"}}));
        assert_eq!(control_plane.asked().len(), 2, "it is the same call");

        let made = upstream.calls("tools/call").len();
        let reply = post(&edge, &with_input(held, r#"{"a":1}"#), "{}").await;
        assert_eq!(value(&reply.body)["error"], pending(2), "once");
        control_plane.approve(2);
        let begun = value(&post(&edge, PARAMS, FORM).await.body);
        let again = &begun["result"]["requestState"];
        edge.snapshot.rule(vec![approve(&["u_echo"], "")]);
        edge.publish();
        let reply = post(&edge, &with_input(again, r#"{"a":3}"#), "{}").await;
        assert_eq!(value(&reply.body)["error"], pending(3), "with other arguments it is another call");
        assert_eq!((control_plane.asked().len(), upstream.calls("tools/call").len()), (5, made + 1));
        let reply = post(&edge, &with_input(again, r#"{ "\u0061":1 }"#), FORM).await;
        assert_eq!(value(&reply.body)["result"]["content"], json!([]), "in other words it is the same");
        assert_eq!(control_plane.asked().len(), 5);

        // The rule is gone, and what it began goes on.
        edge.snapshot.rule(Vec::new());
        edge.publish();
        let reply = post(&edge, &with_input(held, r#"{"a":1}"#), FORM).await;
        assert_eq!(value(&reply.body)["result"]["content"], json!([]), "{reply:?}");
    }
}

#[tokio::test]
async fn a_call_that_a_legacy_upstream_asks_something_is_not_approved_again() {
    let upstream = Upstream::start(|request| match request.method().as_str() {
        "tools/call" => crate::eras::open_stream(
            "data: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"elicitation/create\",\"params\":{\"message\":\"?\"}}\n\n",
        ),
        _ => status(202, ""),
    })
    .await;
    let control_plane = ControlPlane::start().await;
    let mut edge = legacy_only(&upstream);
    edge.snapshot.rule(vec![approve(&["u_echo"], "")]);
    edge.publish();
    control_plane.join(&edge);
    asked(&post(&edge, PARAMS, FORM).await.body, "form");
    control_plane.approve(1);
    let begun = value(&post(&edge, PARAMS, FORM).await.messages()[0]);
    let state = &begun["result"]["requestState"];
    assert_eq!(begun["result"]["inputRequests"]["question-1"]["params"], json!({"message": "?"}), "{begun}");
    let answers = r#"{"question-1":{"action":"accept"}}"#;
    let body = format!(r#"{PARAMS}"inputResponses":{answers},"requestState":{state},"#);
    let body = ask("1", "tools/call", &body, FORM, "");
    let going_on = tokio::spawn(edge.request("POST", &modern("tools/call", Some("u_echo")), &body).send());
    let answered =
        || upstream.requests().iter().any(|request| request.json()["result"]["action"] == "accept");
    crate::support::eventually("the upstream has the input", answered).await;
    assert_eq!((control_plane.asked().len(), upstream.calls("tools/call").len()), (2, 1));
    going_on.abort();
}

/// What a server asks its client in a call, and is answered, belongs to the call as well.
#[tokio::test]
async fn the_answer_to_a_question_of_a_legacy_upstream_is_not_held_back() {
    let upstream = Upstream::start(|request| match request.method().as_str() {
        "tools/call" => events(&[
            r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"?"}}"#.into(),
            format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()),
        ]),
        _ => status(202, ""),
    })
    .await;
    let control_plane = ControlPlane::start().await;
    let edge = holding(&upstream, &control_plane);
    let session = edge.session("2025-11-25", FORM).await;
    let headers = [("mcp-session-id", session.as_str())];
    let call = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"u_echo"}}"#;
    let reply = edge.post(&headers, call).await;
    let error = value(&reply.body)["error"].clone();
    assert!(error["message"].as_str().unwrap().starts_with(HELD), "{error}");
    control_plane.approve(1);
    let question = value(&edge.post(&headers, call).await.messages()[0]);
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"x":1}}}}"#, question["id"]);
    assert_eq!(edge.post(&headers, &answer).await.status, 202);
    assert!(upstream.requests().iter().any(|request| request.json()["result"]["x"] == 1));
    assert_eq!(control_plane.asked().len(), 2);
}

/// Whoever goes on with a call at one edge does not go on with it at another, though they do not know of each other.
#[tokio::test]
async fn an_approved_call_goes_on_at_one_edge_of_all() {
    let upstream = asking("").await;
    let control_plane = ControlPlane::start().await;
    let one = modern_holding(&upstream, &control_plane);
    let mut other = modern_holding(&upstream, &control_plane);
    (other.keys, other.bearer, other.snapshot) = (one.keys.clone(), one.bearer.clone(), one.snapshot.clone());
    other.publish();
    asked(&post(&one, PARAMS, FORM).await.body, "form");
    control_plane.approve(1);
    let begun = value(&post(&one, PARAMS, FORM).await.body);
    let going_on = with_input(&begun["result"]["requestState"], r#"{"a":1}"#);
    let (first, second) = tokio::join!(post(&one, &going_on, "{}"), post(&other, &going_on, "{}"));
    let mut told = [first, second].map(|reply| value(&reply.body));
    told.sort_by_key(|answer| answer.get("error").is_some());
    assert_eq!(told[0]["result"]["content"], json!([]), "{told:?}");
    assert_eq!(told[1]["error"], pending(2));
    for edge in [&one, &other] {
        assert_eq!(value(&post(edge, &going_on, "{}").await.body)["error"], pending(2));
    }
    assert_eq!(upstream.calls("tools/call").len(), 2);
    // An answer to the second time is no answer to the new question.
    control_plane.approve(2);
    let begun = value(&post(&other, &going_on, FORM).await.body);
    assert_eq!(begun["result"]["resultType"], "input_required", "{begun}");
    assert_eq!(upstream.calls("tools/call").pop().unwrap().json()["params"].get("inputResponses"), None);
}

fn modern_holding(upstream: &Upstream, control_plane: &ControlPlane) -> Edge {
    let mut edge = modern_only(upstream);
    edge.snapshot.rule(vec![approve(&["u_echo"], "")]);
    edge.publish();
    control_plane.join(&edge);
    edge
}

/// Nobody could say that it has not gone on already.
#[tokio::test]
async fn without_a_control_plane_an_approved_call_does_not_go_on() {
    let upstream = asking("").await;
    let control_plane = ControlPlane::start().await;
    let edge = modern_holding(&upstream, &control_plane);
    asked(&post(&edge, PARAMS, FORM).await.body, "form");
    control_plane.approve(1);
    let begun = value(&post(&edge, PARAMS, FORM).await.body);
    let going_on = with_input(&begun["result"]["requestState"], r#"{"a":1}"#);
    edge.control_plane.send_replace(None);
    let message = format!("{HELD}no control plane took the request for it; try again later");
    let unasked = json!({"code": -31012, "message": message, "data": {"reason": "approval_needed"}});
    assert_eq!(value(&post(&edge, &going_on, FORM).await.body)["error"], unasked);
    assert_eq!((upstream.calls("tools/call").len(), control_plane.rounds()), (1, vec![]));
    control_plane.join(&edge);
    assert_eq!(value(&post(&edge, &going_on, FORM).await.body)["result"]["content"], json!([]));
}

/// Each round goes on once, and the next one after it.
#[tokio::test]
async fn rounds_of_input_follow_each_other() {
    let upstream = Upstream::raw(|request| {
        let result = r#"{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"message":"?"}}}}"#;
        answer(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request.id()))
    })
    .await;
    let control_plane = ControlPlane::start().await;
    let edge = modern_holding(&upstream, &control_plane);
    asked(&post(&edge, PARAMS, FORM).await.body, "form");
    control_plane.approve(1);
    let mut answer = value(&post(&edge, PARAMS, FORM).await.body);
    let mut states = Vec::new();
    for _ in 0..3 {
        states.push(answer["result"]["requestState"].clone());
        answer = value(&post(&edge, &with_input(&states[states.len() - 1], r#"{"a":1}"#), FORM).await.body);
        assert_eq!(answer["result"]["resultType"], "input_required", "{answer}");
    }
    let rounds = [1, 2, 3].map(|round| ("approvals/a-1".to_owned(), round));
    assert_eq!(control_plane.rounds(), rounds);
    for state in &states {
        let reply = post(&edge, &with_input(state, r#"{"a":1}"#), "{}").await;
        assert_eq!(value(&reply.body)["error"], pending(2));
    }
    assert_eq!(upstream.calls("tools/call").len(), 4);
}

/// The id of a call, and its stream.
type Waiting = (String, mpsc::UnboundedSender<String>);

/// A legacy upstream that asks twice on one stream, which cannot be resumed, before it responds.
async fn asking_twice() -> Upstream {
    let open: Arc<Mutex<Option<Waiting>>> = Arc::default();
    let question = |id: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"elicitation/create","params":{{"message":"?"}}}}"#)
    };
    Upstream::start(move |request| {
        if request.method() == "tools/call" {
            let (sender, receiver) = mpsc::unbounded_channel();
            sender.send(question("first")).unwrap();
            *open.lock().unwrap() = Some((request.id(), sender));
            let events = UnboundedReceiverStream::new(receiver)
                .map(|message| Ok::<_, Infallible>(format!("data: {message}\n\n")));
            let response = Response::builder().header("content-type", "text/event-stream");
            return response.body(Body::from_stream(events)).unwrap();
        }
        if let Some((id, stream)) = &*open.lock().unwrap() {
            let end = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#);
            for (answered, next) in [("first", question("second")), ("second", end)] {
                if request.body.contains(&format!(r#""id":"{answered}""#)) {
                    stream.send(next).unwrap();
                }
            }
        }
        status(202, "")
    })
    .await
}

/// Who holds a call open counts its rounds, too.
#[tokio::test]
async fn rounds_of_a_call_that_is_held_open_follow_each_other() {
    let upstream = asking_twice().await;
    let control_plane = ControlPlane::start().await;
    let mut edge = legacy_only(&upstream);
    edge.snapshot.rule(vec![approve(&["u_echo"], "")]);
    edge.publish();
    control_plane.join(&edge);
    asked(&post(&edge, PARAMS, FORM).await.body, "form");
    control_plane.approve(1);
    let mut answer = value(&post(&edge, PARAMS, FORM).await.messages()[0]);
    for round in 1..=2 {
        let (state, key) = (&answer["result"]["requestState"], format!("question-{round}"));
        assert_eq!(answer["result"]["inputRequests"][&key]["params"], json!({"message": "?"}), "{answer}");
        let answers = json!({key: {"action": "accept"}});
        let params = format!(r#"{PARAMS}"inputResponses":{answers},"requestState":{state},"#);
        answer = value(&post(&edge, &params, FORM).await.messages()[0]);
    }
    assert_eq!(answer["result"]["content"], json!([]), "{answer}");
    assert_eq!(control_plane.rounds(), [1, 2].map(|round| ("approvals/a-1".to_owned(), round)));
    assert_eq!((control_plane.asked().len(), upstream.calls("tools/call").len()), (2, 1));
}
