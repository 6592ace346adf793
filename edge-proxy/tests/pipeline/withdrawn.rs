//! A right that is withdrawn while it is used: calls that run, streams that are resumed, questions that are answered.

mod parked;
mod subscriptions;
mod tasks;
mod without_client;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt as _;
use trunkline::edge::v1 as wire;
use trunkline_edge_proxy::config::limits::Limits;

use crate::streams::until;
use crate::support::{
    Edge, Keys, META, PATIENCE, Recorded, Reply, Socket, Sse, Upstream, deny, events, eventually, json, mcp,
    modern, pair, role, status, team, withdrawal,
};

/// How long anything may go on after its right was withdrawn. It is to be a second; a busy machine takes longer, but not as
/// long as any sweep or keep-alive that could end it otherwise.
const WITHDRAWAL: Duration = Duration::from_secs(10);

const CALL: &str = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"u_echo","_meta":{"progressToken":"t"}}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;
const UNKNOWN: &str =
    r#"{"jsonrpc":"2.0","id":"c","error":{"code":-32602,"message":"unknown tool: u_echo"}}"#;

/// Each way in which a right ends, and the code of what a call is then answered.
type Withdrawal = (&'static str, fn(&mut Edge), i64);

const WITHDRAWALS: [Withdrawal; 22] = [
    ("the token is revoked", |edge| edge.snapshot.resources.tokens[0].revoked = true, -31001),
    ("the token is deleted", |edge| drop(edge.snapshot.resources.tokens.remove(0)), -31001),
    ("the token expires", |edge| edge.snapshot.resources.tokens[0].expire_time = Some(soon()), -31001),
    ("the scope is narrowed", narrow, -32602),
    ("the tool leaves the server", |edge| edge.snapshot.resources.servers[0].tools.clear(), -32602),
    ("the server is deleted", |edge| drop(edge.snapshot.resources.servers.remove(0)), -31004),
    ("the owner of the token is disabled", |edge| edge.snapshot.access().suspended = true, -31001),
    (
        "the owner of the token loses their rights",
        |edge| edge.snapshot.access().ceiling = Some(nothing()),
        -31004,
    ),
    ("the token begins later", |edge| edge.snapshot.access().not_before = Some(late()), -31012),
    (
        "the token is for other addresses",
        |edge| edge.snapshot.access().from = vec!["192.0.2.0/24".into()],
        -31012,
    ),
    ("the token is for another day", |edge| edge.snapshot.access().windows = vec![closed_window()], -31012),
    (METHOD_TAKEN, |edge| edge.snapshot.access().methods = all_but_calls(), -32601),
    (RULED[0], |edge| edge.snapshot.rule(vec![deny(&["u_echo"], "")]), -32602),
    (RULED[1], |edge| edge.snapshot.rule(vec![deny(&["u_echo"], FROM_HERE)]), -31012),
    // Of a call that began before there was the rule, nobody knows the arguments.
    (RULED[2], |edge| edge.snapshot.rule(vec![deny(&["u_echo"], "args.level > 3")]), -31012),
    (RULED[3], |edge| edge.snapshot.rule(vec![deny(&["u_echo"], "who knows")]), -32602),
    ("person: the user is disabled", |edge| lose(edge, 4, &[]), -31001),
    ("person: the member is removed", |edge| lose(edge, 0, &[(4, ["", "core"])]), -31004),
    ("person: the role is unbound", |edge| lose(edge, 0, &[(4, ["developer", "core"])]), -31004),
    (
        "person: the role is edited",
        |edge| edge.snapshot.resources.grants[0] = role("developer", false, false),
        -31004,
    ),
    ("person: the team is deleted", |edge| drop(edge.snapshot.resources.grants.remove(1)), -31004),
    ("person: the team's scope is narrowed", |edge| narrow_team(edge, "u_safe"), -32602),
];

/// Taken is the one method that tools are called by: what was said of tools is not known any more.
const METHOD_TAKEN: &str = "the method is taken";

const RULED: [&str; 4] = [
    "a rule refuses the tool",
    "a rule refuses the address",
    "a rule looks at arguments",
    "a rule that nobody can read",
];

const FROM_HERE: &str = r#"source.ip.inRange("127.0.0.0/8")"#;

/// Those that concern tools alone.
const OF_TOOLS: [&str; 8] = [
    RULED[0],
    RULED[1],
    RULED[2],
    RULED[3],
    "the scope is narrowed",
    "the tool leaves the server",
    METHOD_TAKEN,
    "person: the team's scope is narrowed",
];

fn nothing() -> wire::Ceiling {
    wire::Ceiling { owner_uid: "uid-of-ann".into(), pairs: vec![pair("developer", "core")] }
}

/// In the next century.
fn late() -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: 4_102_444_800, nanos: 0 }
}

/// A window of another day of the week, so that it opens in a day at the earliest.
pub(crate) fn closed_window() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // 1970 began on a Thursday.
    let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    format!("{} 00:00-24:00 UTC", days[(now / 86_400 + 3) as usize % 7])
}

fn all_but_calls() -> Vec<String> {
    ["tools/list", "resources/*", "prompts/*", "completion/*", "subscriptions/*", "tasks/*", "logging/*"]
        .map(str::to_owned)
        .into()
}

fn lose(edge: &mut Edge, epoch: i64, pairs: &[(i64, [&str; 2])]) {
    edge.snapshot.resources.withdrawals.push(withdrawal("users/ann", epoch, pairs));
}

fn narrow_team(edge: &mut Edge, tool: &str) {
    edge.snapshot.resources.grants[1] = team("core", &["servers/dev"], &[tool]);
}

fn narrow(edge: &mut Edge) {
    edge.snapshot.resources.tokens[0].tools = vec!["u_safe".into()];
}

/// Not yet over when it is published.
fn soon() -> prost_types::Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    prost_types::Timestamp { seconds: i64::try_from(now.as_secs()).unwrap() + 2, nanos: 0 }
}

/// An edge whose client is whoever loses a right by `what`.
fn before_that(upstream: &Upstream, what: &str) -> Edge {
    let mut edge = before(upstream);
    if what.starts_with("person:") {
        edge.become_person();
    }
    edge
}

/// An edge whose calls do not end because they take too long.
pub(crate) fn before(upstream: &Upstream) -> Edge {
    let mut edge = Edge::start(&upstream.url);
    edge.snapshot.resources.upstreams[0].request_timeout =
        Some(prost_types::Duration { seconds: PATIENCE.as_secs() as i64, nanos: 0 });
    edge.publish();
    edge
}

/// An upstream whose calls report progress and then go on for ever.
pub(crate) async fn endless() -> Upstream {
    Upstream::start(|request| {
        let token = request.json()["params"]["_meta"]["progressToken"].clone();
        let progress = format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{token},\"progress\":1}}}}\n\n"
        );
        let first = futures_util::stream::iter([Ok(bytes::Bytes::from(progress))]);
        let open = first.chain(futures_util::stream::pending::<Result<_, std::convert::Infallible>>());
        let response = axum::response::Response::builder().header("content-type", "text/event-stream");
        response.body(axum::body::Body::from_stream(open)).unwrap()
    })
    .await
}

/// The code of the error in the last message of a stream.
fn last_code(stream: &str) -> i64 {
    let last = stream.lines().rfind(|line| line.starts_with("data: ")).unwrap();
    let message: serde_json::Value = serde_json::from_str(&last["data: ".len()..]).unwrap();
    assert_eq!(message["id"], "c", "{stream}");
    message["error"]["code"].as_i64().unwrap()
}

pub(crate) async fn rest(stream: reqwest::Response) -> String {
    let rest = tokio::time::timeout(WITHDRAWAL, stream.text()).await;
    rest.expect("the stream goes on").unwrap()
}

async fn cancelled(upstream: &Upstream) {
    let number = upstream.calls("tools/call")[0].json()["id"].clone();
    let is_told = || {
        let told = upstream.calls("notifications/cancelled");
        told.iter().any(|sent| sent.json()["params"]["requestId"] == number)
    };
    eventually("the upstream is told", is_told).await;
    assert_eq!(upstream.calls("notifications/cancelled").len(), 1, "the upstream is told more than once");
}

#[tokio::test]
async fn a_running_call_of_a_session_ends_and_its_upstream_is_told() {
    for (what, withdraw, code) in WITHDRAWALS {
        let upstream = endless().await;
        let mut edge = before_that(&upstream, what);
        let session = edge.session("2025-11-25", "{}").await;
        let mut call = edge.request("POST", &[("mcp-session-id", &session)], CALL).send().await.unwrap();
        until(&mut call, r#""progressToken":"t""#).await;
        withdraw(&mut edge);
        edge.publish();
        assert_eq!(last_code(&rest(call).await), code, "{what}");
        cancelled(&upstream).await;
        edge.nothing_is_left().await;
    }
}

#[tokio::test]
async fn a_running_modern_call_ends() {
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"u_echo",{}}}}}"#,
        META.replacen('{', r#"{"progressToken":"t","#, 1)
    );
    for (what, withdraw, code) in WITHDRAWALS {
        for era in ["modern", "legacy"] {
            let upstream = endless().await;
            let mut edge = before_that(&upstream, what);
            if era == "legacy" {
                mcp(&mut edge.snapshot.resources.upstreams[0]).modern_versions.clear();
                edge.publish();
            }
            let headers = modern("tools/call", Some("u_echo"));
            let mut stream = edge.request("POST", &headers, &call).send().await.unwrap();
            until(&mut stream, r#""progressToken":"t""#).await;
            withdraw(&mut edge);
            edge.publish();
            assert_eq!(last_code(&rest(stream).await), code, "{what}, at a {era} upstream");
            if era == "legacy" {
                cancelled(&upstream).await;
            }
            edge.nothing_is_left().await;
        }
    }
}

/// The time of a bearer ends what it began, though its token goes on.
#[tokio::test]
async fn a_running_call_ends_with_the_time_of_its_bearer() {
    let upstream = endless().await;
    let edge = before(&upstream);
    let session = edge.session("2025-11-25", "{}").await;
    let claims = serde_json::json!(
        {"iss": "i", "aud": "a", "sub": "tokens/all", "jti": "uid-all", "exp": soon().seconds}
    );
    let bearer = format!("Bearer {}", edge.keys.sign(claims));
    let begin = |method: &str, body: &str| {
        let request = edge.bare(method, "dev", body).header("authorization", &bearer);
        request.header("mcp-session-id", &session).send()
    };
    let mut listening = begin("GET", "").await.unwrap();
    let mut call = begin("POST", CALL).await.unwrap();
    until(&mut listening, "id: 0").await;
    until(&mut call, r#""progressToken":"t""#).await;
    assert_eq!(last_code(&rest(call).await), -31001);
    assert_eq!(rest(listening).await, "");
    cancelled(&upstream).await;
    assert_eq!(begin("POST", PING).await.unwrap().status(), 401);
    assert_eq!(edge.post(&[("mcp-session-id", &session)], PING).await.status, 200);
    edge.nothing_is_left().await;
}

#[tokio::test]
async fn a_call_without_an_answer_yet_ends_as_well() {
    let upstream = Upstream::start(|_| crate::support::never()).await;
    let mut edge = before(&upstream);
    let session = edge.session("2025-11-25", "{}").await;
    let call = edge.request("POST", &[("mcp-session-id", &session)], CALL);
    let call = tokio::spawn(async move { Reply::of(call).await });
    eventually("the call arrives", || !upstream.calls("tools/call").is_empty()).await;
    narrow(&mut edge);
    edge.publish();
    let reply = call.await.unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, UNKNOWN));
    cancelled(&upstream).await;
}

/// A modern client is refused in the words of its era, which are others for resources.
#[tokio::test]
async fn a_read_that_ends_is_refused_in_its_own_era() {
    let upstream = endless().await;
    let read = format!(
        r#"{{"jsonrpc":"2.0","id":"c","method":"resources/read","params":{{"uri":"u+file:///r",{}}}}}"#,
        META.replacen('{', r#"{"progressToken":"t","#, 1)
    );
    let mut edge = before(&upstream);
    let headers = modern("resources/read", Some("u+file:///r"));
    let mut stream = edge.request("POST", &headers, &read).send().await.unwrap();
    until(&mut stream, r#""progressToken":"t""#).await;
    edge.snapshot.resources.tokens[0].resources.clear();
    edge.publish();
    assert_eq!(last_code(&rest(stream).await), -32602);
}

/// What was answered is answered: a client that reads slowly gets one response, whatever was withdrawn meanwhile.
#[tokio::test]
async fn an_answer_that_was_given_is_not_followed_by_a_refusal() {
    let upstream = Upstream::start(|request| {
        let progress =
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
        let long = "x".repeat(24 << 20);
        let id = request.id();
        events(&[progress.into(), format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"long":"{long}"}}}}"#)])
    })
    .await;
    let limits = Limits { max_event_bytes: 64 << 20, ..Limits::default() };
    let mut edge = Edge::limited(&upstream.url, limits);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let mut call = edge.request("POST", &headers, CALL).send().await.unwrap();
    let first = until(&mut call, r#""result""#).await;
    // Others run on both workers, so that it is seen when each has looked at its calls.
    let running = endless().await;
    edge.snapshot.resources.upstreams[0].url = running.url.clone();
    edge.publish();
    let mut others = Vec::new();
    for number in 0..8 {
        let call = CALL.replace("\"c\"", &number.to_string());
        let mut other = edge.request("POST", &headers, &call).send().await.unwrap();
        until(&mut other, r#""progressToken":"t""#).await;
        others.push(other);
    }
    narrow(&mut edge);
    edge.publish();
    for other in others {
        rest(other).await;
    }
    let whole = first + &rest(call).await;
    assert_eq!(whole.matches(r#""id":"c""#).count(), 1, "{}", &whole[whole.len() - 200..]);
    assert!(whole.ends_with("x\"}}\n\n"), "{}", &whole[whole.len() - 200..]);
}

#[tokio::test]
async fn a_connection_loses_the_call_and_keeps_the_rest() {
    let upstream = endless().await;
    let mut edge = before(&upstream);
    let mut socket = Socket::session(&edge, "2025-06-18", "{}").await;
    let mut sse = Sse::session(&edge, "2024-11-05", "{}").await;
    assert!(socket.ask(CALL).await.contains(r#""progressToken":"t""#));
    assert!(sse.ask(CALL).await.contains(r#""progressToken":"t""#));
    narrow(&mut edge);
    edge.publish();
    let pong = r#"{"jsonrpc":"2.0","id":"p","result":{}}"#;
    let mut told = Vec::new();
    while !told.iter().any(|message| message == UNKNOWN) {
        told.push(socket.next().await);
    }
    // Beside that only the lists have changed, of which the connection goes on telling.
    told.push(socket.ask(PING).await);
    while !told.iter().any(|message| message == pong) {
        told.push(socket.next().await);
    }
    let mut told_too = Vec::new();
    while !told_too.iter().any(|message| message == UNKNOWN) {
        told_too.push(sse.next().await);
    }
    told_too.push(sse.ask(PING).await);
    while !told_too.iter().any(|message| message == pong) {
        told_too.push(sse.next().await);
    }
    for message in told.into_iter().chain(told_too) {
        let expected = message == UNKNOWN || message == pong || message.contains("/list_changed");
        assert!(expected, "{message}");
    }
}

#[tokio::test]
async fn a_connection_ends_when_its_token_does() {
    let mut edge = Edge::start("http://127.0.0.1:9/mcp");
    let mut socket = Socket::session(&edge, "2025-06-18", "{}").await;
    let mut sse = Sse::session(&edge, "2024-11-05", "{}").await;
    let session = edge.session("2025-06-18", "{}").await;
    let listening = edge.request("GET", &[("mcp-session-id", &session)], "").send().await.unwrap();
    edge.snapshot.resources.tokens[0].expire_time = Some(soon());
    edge.publish();
    tokio::time::timeout(WITHDRAWAL, socket.closed()).await.expect("the socket stays open");
    let ended = async { while sse.event().await.is_some() {} };
    tokio::time::timeout(WITHDRAWAL, ended).await.expect("HTTP+SSE stays open");
    rest(listening).await;
    edge.nothing_is_left().await;
}

#[tokio::test]
async fn the_stream_of_a_tool_that_was_lost_is_not_resumed() {
    let upstream = Upstream::start(|request| {
        if request.verb == "GET" {
            return events(&[r#"{"jsonrpc":"2.0","id":1,"result":{"secret":1}}"#.into()]);
        }
        let primed = [Ok(bytes::Bytes::from_static(b"id: e/1\nretry: 20\ndata:\n\n"))];
        let open = futures_util::stream::iter(primed)
            .chain(futures_util::stream::pending::<Result<_, std::convert::Infallible>>());
        let response = axum::response::Response::builder().header("content-type", "text/event-stream");
        response.body(axum::body::Body::from_stream(open)).unwrap()
    })
    .await;
    let mut edge = before(&upstream);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let mut broken = edge.request("POST", &headers, CALL).send().await.unwrap();
    let primed = until(&mut broken, "\n\n").await;
    drop(broken);
    let id = primed.strip_prefix("id: ").and_then(|rest| rest.lines().next()).unwrap();
    narrow(&mut edge);
    edge.publish();
    // It is answered like an id that no edge ever gave: what no request asked for begins.
    let again = [headers[0], ("last-event-id", id)];
    let mut stream = edge.request("GET", &again, "").send().await.unwrap();
    assert_eq!(until(&mut stream, "\n\n").await, "id: 0\ndata:\n\n");
    let resumed = |request: &Recorded| !request.header("last-event-id").is_empty();
    assert!(!upstream.requests().iter().any(resumed), "the upstream was asked for the rest");
}

#[tokio::test]
async fn a_response_to_a_server_request_is_refused_after_the_tool_was_lost() {
    let upstream = Upstream::start(|request| match request.method().as_str() {
        "tools/call" => events(&[
            r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"?"}}"#.into(),
            format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()),
        ]),
        _ => status(202, ""),
    })
    .await;
    for withdraw in [narrow, |edge: &mut Edge| edge.snapshot.resources.servers[0].tools.clear()] {
        let mut edge = before(&upstream);
        let session = edge.session("2025-11-25", r#"{"elicitation":{}}"#).await;
        let headers = [("mcp-session-id", session.as_str())];
        let reply = edge.post(&headers, CALL).await;
        let question: serde_json::Value = serde_json::from_str(&reply.messages()[0]).unwrap();
        withdraw(&mut edge);
        edge.publish();
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"x":1}}}}"#, question["id"]);
        assert_eq!(edge.post(&headers, &answer).await.status, 400);
    }
    let answered = |request: &Recorded| request.json()["result"]["x"] == 1;
    assert!(!upstream.requests().iter().any(answered), "the upstream was answered");
}

#[tokio::test]
async fn of_templates_that_overlap_the_one_that_is_permitted_is_read() {
    let upstream = Upstream::start(|request| {
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"contents":[]}}}}"#, request.id()))
    })
    .await;
    let mut edge = before(&upstream);
    edge.snapshot.resources.resources.push(wire::Resource {
        name: "upstreams/u/resources/deep".into(),
        uri_template: "file:///t/{+path}".into(),
        definition_json: r#"{"uriTemplate":"file:///t/{+path}","name":"deep"}"#.into(),
        ..Default::default()
    });
    edge.snapshot.resources.servers[0].resource_templates.push(wire::Entry {
        exposed_name: "u+file:///t/{+path}".into(),
        target: "upstreams/u/resources/deep".into(),
        uri_prefix: "u+".into(),
        ..Default::default()
    });
    edge.snapshot.resources.tokens[0].resources = vec!["u+file:///t/{+path}".into()];
    edge.publish();
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let listed = edge.post(&headers, r#"{"jsonrpc":"2.0","id":1,"method":"resources/templates/list"}"#).await;
    assert!(listed.body.contains("deep") && !listed.body.contains("{id}"), "{}", listed.body);
    let read = r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"u+file:///t/1"}}"#;
    assert_eq!(edge.post(&headers, read).await.body, r#"{"jsonrpc":"2.0","id":1,"result":{"contents":[]}}"#);
}

#[tokio::test]
async fn capabilities_are_those_of_what_the_caller_sees() {
    let mut edge = Edge::start("http://127.0.0.1:9/mcp");
    let initialize = crate::support::initialize("2025-11-25", "{}");
    let capabilities = |reply: &Reply| {
        let message: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        message["result"]["capabilities"].clone()
    };
    let all = capabilities(&edge.post(&[], &initialize).await);
    assert_eq!(
        all,
        serde_json::json!({
            "tools": {"listChanged": true}, "resources": {"listChanged": true}, "prompts": {"listChanged": true},
            "completions": {}, "logging": {}
        })
    );
    let token = &mut edge.snapshot.resources.tokens[0];
    (token.tools, token.resources, token.prompts) = (vec!["u_none".into()], Vec::new(), Vec::new());
    edge.publish();
    let none = capabilities(&edge.post(&[], &initialize).await);
    assert_eq!(none, serde_json::json!({"tools": {"listChanged": true}}));
}

/// A bearer that is presented again is verified again. A call that runs already goes on: the token is as it was.
const KEY_GONE: Withdrawal = (
    "the key of the bearer is gone",
    |edge| edge.snapshot.resources.trust_bundles[0].verification_keys = vec![Keys::named("k2").public()],
    -31001,
);

/// All but the one that is a matter of time.
fn at_once() -> impl Iterator<Item = Withdrawal> {
    WITHDRAWALS.into_iter().filter(|(what, ..)| !what.contains("expires"))
}

#[tokio::test]
async fn a_request_whose_right_ends_while_its_body_comes_is_not_carried_out() {
    for (what, withdraw, code) in at_once().chain([KEY_GONE]) {
        let upstream = endless().await;
        let mut edge = before_that(&upstream, what);
        let session = edge.session("2025-11-25", "{}").await;
        edge.nothing_is_left().await;
        let (send_rest, rest) = tokio::sync::oneshot::channel();
        let (first, last) = CALL.split_at(20);
        let last = futures_util::stream::once(async move { rest.await.map(|()| last) });
        let body = futures_util::stream::iter([Ok(first)]).chain(last);
        let body = reqwest::Body::wrap_stream(body);
        let request = edge.request("POST", &[("mcp-session-id", &session)], "").body(body);
        let reply = tokio::spawn(request.send());
        let metrics = std::sync::Arc::clone(&edge.metrics);
        eventually("the edge waits for the body", || metrics.in_flight.get() == 1).await;
        withdraw(&mut edge);
        edge.publish();
        send_rest.send(()).unwrap();
        let reply: serde_json::Value = reply.await.unwrap().unwrap().json().await.unwrap();
        assert_eq!(reply["error"]["code"], code, "{what}: {reply}");
        assert!(upstream.calls("tools/call").is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_batch_whose_right_ends_goes_no_further() {
    for (what, withdraw, _) in at_once() {
        let upstream = endless().await;
        let mut edge = before_that(&upstream, what);
        let session = edge.session("2025-03-26", "{}").await;
        let batch = format!("[{CALL},{CALL},{CALL}]");
        let reply = edge.request("POST", &[("mcp-session-id", &session)], &batch);
        let reply = tokio::spawn(reply.send());
        eventually("the first call runs", || upstream.calls("tools/call").len() == 1).await;
        withdraw(&mut edge);
        edge.publish();
        reply.await.unwrap().unwrap().text().await.unwrap();
        edge.nothing_is_left().await;
        assert_eq!(upstream.calls("tools/call").len(), 1, "{what}");
    }
}
