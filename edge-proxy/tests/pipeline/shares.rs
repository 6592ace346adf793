//! What tokens share of an edge: one may take half of what there is, and the next finds room.

use inbound::Holder;
use trunkline_edge_proxy::config::limits::Limits;
use trunkline_edge_proxy::observe::Bound;
use trunkline_edge_proxy::session::SubscribingSession;

use crate::eras::{ask, open_stream};
use crate::streams::{telling, telling_edge, until};
use crate::support::{
    Edge, Reply, Socket, Upstream, eventually, initialize, json, mcp, modern, never, status,
};

/// Gives the edge one more token with the rights of `tokens/all`, which by no chance is counted with that one. Returns its
/// id.
fn another_token(edge: &mut Edge) -> String {
    let differs = |id: &String| Holder::of(format!("uid-{id}").as_str()) != Holder::of("uid-all");
    let id = (0..).map(|number| format!("other{number}")).find(differs).unwrap();
    let mut token = edge.snapshot.resources.tokens[0].clone();
    (token.name, token.uid) = (format!("tokens/{id}"), format!("uid-{id}"));
    edge.snapshot.resources.tokens.push(token);
    edge.publish();
    id
}

/// A request of a token, with these headers.
async fn post(edge: &Edge, token: &str, headers: &[(&str, &str)], body: &str) -> reqwest::Response {
    let request = edge.bare("POST", "dev", body).bearer_auth(edge.keys.bearer(token));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.send().await.unwrap()
}

async fn session(edge: &Edge, token: &str) -> String {
    let opened = post(edge, token, &[], &initialize("2025-11-25", "{}")).await;
    opened.headers()["mcp-session-id"].to_str().unwrap().to_owned()
}

fn error(code: i64, message: &str, reason: &str) -> serde_json::Value {
    serde_json::json!({"code": code, "message": message, "data": {"reason": reason}})
}

#[tokio::test]
async fn one_token_leaves_requests_in_flight_to_the_next() {
    let upstream = Upstream::start(|request| match request.body.contains("hold") {
        true => never(),
        false => json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, request.id())),
    })
    .await;
    let mut edge = Edge::limited(&upstream.url, Limits { max_in_flight: 8, ..Limits::default() });
    let other = another_token(&mut edge);
    let (mine, theirs) = (session(&edge, "all").await, session(&edge, &other).await);
    edge.nothing_is_left().await;
    let held =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo","arguments":{"hold":1}}}"#;
    let mut flood = Vec::new();
    for count in 1..=4 {
        let request = edge.request("POST", &[("mcp-session-id", &mine)], held);
        flood.push(tokio::spawn(request.send()));
        let metrics = &edge.metrics;
        eventually("the request is in flight", || metrics.in_flight.get() == count).await;
    }
    let message = "this token has its share of the requests in flight at this edge (--max-in-flight); wait for responses first";
    let refused = error(-31009, message, "too_many_requests");
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let reply = Reply::of(edge.request("POST", &[("mcp-session-id", &mine)], ping)).await;
    let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!((reply.status, reply.header("retry-after"), &body["error"]), (429, "1", &refused));
    let bearer = format!("Bearer {}", edge.keys.bearer("all"));
    for path in ["/servers/dev/sse", "/servers/dev/ws/ticket"] {
        let method = if path.ends_with("sse") { "GET" } else { "POST" };
        let reply = Reply::of(edge.at(method, path, "").header("authorization", &bearer)).await;
        assert_eq!(reply.status, 429, "{path}");
    }
    let socket = [("authorization", bearer.as_str()), ("sec-websocket-protocol", "mcp")];
    let refused = Socket::connect(&edge, "/servers/dev/ws", &socket).await.err().unwrap();
    assert_eq!(refused.0, 429);
    assert_eq!(edge.metrics.shares_refused(Bound::InFlight).get(), 4);

    let call = held.replace("hold", "go");
    let reply = post(&edge, &other, &[("mcp-session-id", &theirs)], &call).await;
    assert_eq!((reply.status().as_u16(), reply.text().await.unwrap().contains("content")), (200, true));
    flood.iter().for_each(tokio::task::JoinHandle::abort);
    edge.nothing_is_left().await;
    assert_eq!(post(&edge, "all", &[("mcp-session-id", &mine)], &call).await.status(), 200);
}

/// Messages of connections are requests in flight as well.
#[tokio::test]
async fn a_connection_has_the_share_of_its_token() {
    let upstream = Upstream::start(|_| never()).await;
    let mut edge = Edge::limited(&upstream.url, Limits { max_in_flight: 6, ..Limits::default() });
    let other = another_token(&mut edge);
    let mut socket = Socket::session(&edge, "2025-06-18", "{}").await;
    edge_is_idle(&edge).await;
    for count in 1..=3 {
        let call =
            format!(r#"{{"jsonrpc":"2.0","id":{count},"method":"tools/call","params":{{"name":"u_echo"}}}}"#);
        socket.say(&call).await;
        eventually("the call is in flight", || edge.metrics.in_flight.get() == count).await;
    }
    let refused = socket.ask(r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#).await;
    assert!(refused.contains(r#""id":9,"error":{"code":-31009,"#), "{refused}");
    let opened = post(&edge, &other, &[], &initialize("2025-11-25", "{}")).await;
    assert_eq!(opened.status(), 200);
}

async fn edge_is_idle(edge: &Edge) {
    eventually("the edge is idle", || edge.metrics.in_flight.get() == 0).await;
}

const QUESTION: &str = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"?"}}"#;

#[tokio::test]
async fn one_token_leaves_parked_calls_to_the_next() {
    let upstream = Upstream::start(|request| match request.method().as_str() {
        "tools/call" => open_stream(&format!("data: {QUESTION}\n\n")),
        _ => status(202, ""),
    })
    .await;
    let mut edge = Edge::limited(&upstream.url, Limits { max_parked_calls: 4, ..Limits::default() });
    mcp(&mut edge.snapshot.resources.upstreams[0]).modern_versions.clear();
    let other = another_token(&mut edge);
    let call = ask("7", "tools/call", r#""name":"u_echo","#, r#"{"elicitation":{}}"#, "");
    let park = async |token: &str| {
        let reply = post(&edge, token, &modern("tools/call", Some("u_echo")), &call).await;
        let text = reply.text().await.unwrap();
        let message = text.strip_prefix("data: ").unwrap_or(&text);
        serde_json::from_str::<serde_json::Value>(message).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(park("all").await["result"]["resultType"], "input_required");
    }
    let refused = serde_json::json!({
        "code": -31110,
        "message": "upstream u: this token has its share of the calls that wait for client input at this edge (--max-parked-calls); send their input first",
        "data": {"reason": "too_many_parked_calls", "upstream": "u"},
    });
    assert_eq!(park("all").await["error"], refused);
    assert_eq!(edge.metrics.shares_refused(Bound::ParkedCalls).get(), 1);
    assert_eq!(park(&other).await["result"]["resultType"], "input_required");
    assert_eq!(edge.metrics.parked_calls.get(), 3);
}

#[tokio::test]
async fn one_token_leaves_places_for_subscriptions_to_the_next() {
    let upstream = Upstream::start(telling).await;
    let mut edge = telling_edge(&upstream);
    let other = another_token(&mut edge);
    for number in 0..32_768_u128 {
        let session_id = number.to_be_bytes();
        let subscriber =
            SubscribingSession { session_id: &session_id, expires: u64::MAX, principal: "uid-all" };
        edge.shared.subscriptions.change(subscriber, "u+file:///r", true, 1).unwrap();
    }
    let subscribe =
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"u+file:///r"}}"#;
    let mine = session(&edge, "all").await;
    let reply = post(&edge, "all", &[("mcp-session-id", &mine)], subscribe).await;
    assert_eq!(reply.status(), 429);
    let message = "this token has its share of the sessions with subscriptions at this edge; end sessions that are no longer used";
    let body: serde_json::Value = reply.json().await.unwrap();
    assert_eq!(body["error"], error(-31009, message, "too_many_subscriptions"));
    let stream = Reply::of(edge.request("GET", &[("mcp-session-id", &mine)], "")).await;
    assert_eq!(stream.status, 429, "a stream that would be told of no subscription");
    assert_eq!(edge.metrics.shares_refused(Bound::Subscriptions).get(), 2);

    let theirs = session(&edge, &other).await;
    let headers = [("mcp-session-id", theirs.as_str())];
    let reply = post(&edge, &other, &headers, subscribe).await;
    assert_eq!(reply.text().await.unwrap(), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    // Whoever ends sessions has room again: one more than the other has taken meanwhile.
    for number in 0..2_u128 {
        edge.shared.subscriptions.end(&number.to_be_bytes());
    }
    let reply = post(&edge, "all", &[("mcp-session-id", &mine)], subscribe).await;
    assert_eq!(reply.status(), 200);
}

/// A ticket of a token, as a page offers it.
async fn ticket(edge: &Edge, token: &str) -> String {
    let request = edge.at("POST", "/servers/dev/ws/ticket", "").bearer_auth(edge.keys.bearer(token));
    let taken: serde_json::Value = serde_json::from_str(&Reply::of(request).await.body).unwrap();
    format!("mcp, mcp.auth.{}", taken["ticket"].as_str().unwrap())
}

async fn open(edge: &Edge, ticket: &str) -> Result<Socket, (u16, serde_json::Value)> {
    let headers = [("sec-websocket-protocol", ticket)];
    let refused = |(status, body): (u16, String)| (status, serde_json::from_str(&body).unwrap());
    Socket::connect(edge, "/servers/dev/ws", &headers).await.map_err(refused)
}

#[tokio::test]
async fn one_token_leaves_tickets_to_the_next() {
    let mut edge = Edge::start("http://127.0.0.1:9/mcp");
    let other = another_token(&mut edge);
    for number in 0..32_768_u128 {
        let used = edge.shared.used_tickets.used(number.to_be_bytes(), "uid-all", u64::MAX, 1);
        assert_eq!(used, Ok(true));
    }
    let (status, body) = open(&edge, &ticket(&edge, "all").await).await.err().expect("it was let in");
    let message =
        "this token has its share of the tickets that were used within a minute; try again in a minute";
    assert_eq!((status, &body["error"]), (429, &error(-31009, message, "too_many_tickets")));
    assert_eq!(edge.metrics.shares_refused(Bound::Tickets).get(), 1);
    assert!(open(&edge, &ticket(&edge, &other).await).await.is_ok());
}

#[tokio::test]
async fn a_ticket_is_not_used_by_a_request_that_is_refused() {
    let edge =
        Edge::limited("http://127.0.0.1:9/mcp", Limits { max_streams_per_token: 1, ..Limits::default() });
    let session = edge.session("2025-11-25", "{}").await;
    let mut stream = edge.request("GET", &[("mcp-session-id", &session)], "").send().await.unwrap();
    until(&mut stream, "\n\n").await;
    let ticket = ticket(&edge, "all").await;
    let (status, body) = open(&edge, &ticket).await.err().expect("it was let in");
    assert_eq!((status, &body["error"]["data"]["reason"]), (429, &"too_many_streams".into()));
    drop(stream);
    edge.nothing_is_left().await;
    let socket = open(&edge, &ticket).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    drop(socket);
    edge.nothing_is_left().await;
    let (status, body) = open(&edge, &ticket).await.err().expect("it was let in twice");
    assert_eq!((status, &body["error"]["data"]["reason"]), (401, &"ticket_invalid".into()));
}
