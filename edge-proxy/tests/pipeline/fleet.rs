//! Several edges as one: what only one holds is found from all, and what one is told all know.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use trunkline_edge_proxy::fleet::{Delivery, Undelivered};
use trunkline_edge_proxy::observe::DeliveryOutcome;
use trunkline_edge_proxy::session::WaiterAddress;

use crate::streams::{telling, until};
use crate::support::{PATIENCE, Recorded, Reply, Socket, Sse, TestFleet, Upstream, eventually, json, mcp};

const NOWHERE: &str = "http://127.0.0.1:9/mcp";
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo"}}"#;
const DONE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

fn delivery(message: &'static str) -> Delivery {
    Delivery { message: Bytes::from_static(message.as_bytes()), answers: None }
}

fn ok(request: &Recorded) -> axum::response::Response {
    json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()))
}

#[tokio::test]
async fn what_one_edge_holds_is_reached_from_another() {
    let fleet = TestFleet::start(NOWHERE, 2).await;
    let (there, here) = (&fleet.edges[0].shared, &fleet.edges[1].shared);
    let mut waiter = there.environment.fleet.waiters().register().unwrap();
    let address = waiter.address();
    let (sender, mut answers) = mpsc::channel(4);
    let asked = Delivery { message: Bytes::from_static(b"?"), answers: Some(sender) };
    here.environment.fleet.deliver(&address, asked).await.unwrap();
    let Delivery { message, answers: back } = waiter.next().await;
    assert_eq!(message, "?");
    let back = back.unwrap();
    for part in ["one", "two"] {
        back.send(Bytes::from_static(part.as_bytes())).await.unwrap();
        assert_eq!(answers.recv().await.unwrap(), part);
    }
    drop(back);
    assert_eq!(answers.recv().await, None, "the end is that the sender is dropped");

    drop(waiter);
    assert_eq!(here.environment.fleet.deliver(&address, delivery("late")).await, Err(Undelivered::Gone));
    let nobody = WaiterAddress { edge: "e9".into(), number: address.number };
    assert_eq!(here.environment.fleet.deliver(&nobody, delivery("lost")).await, Err(Undelivered::Gone));
    assert_eq!(here.environment.metrics.sibling_deliveries(DeliveryOutcome::Delivered).get(), 1);
    assert_eq!(here.environment.metrics.sibling_deliveries(DeliveryOutcome::Gone).get(), 2);
}

#[tokio::test]
async fn a_holder_hears_that_nobody_wants_its_answers_any_more() {
    let fleet = TestFleet::start(NOWHERE, 2).await;
    let mut waiter = fleet.edges[0].shared.environment.fleet.waiters().register().unwrap();
    let (sender, answers) = mpsc::channel(1);
    let asked = Delivery { message: Bytes::new(), answers: Some(sender) };
    fleet.edges[1].shared.environment.fleet.deliver(&waiter.address(), asked).await.unwrap();
    let back = waiter.next().await.answers.unwrap();
    drop(answers);
    tokio::time::timeout(PATIENCE, back.closed()).await.unwrap();
}

#[tokio::test]
async fn large_deliveries_arrive_whole() {
    let fleet = TestFleet::start(NOWHERE, 2).await;
    let mut waiter = fleet.edges[0].shared.environment.fleet.waiters().register().unwrap();
    let large = Bytes::from(vec![b'x'; 20 << 20]);
    let sent = Delivery { message: large.clone(), answers: None };
    fleet.edges[1].shared.environment.fleet.deliver(&waiter.address(), sent).await.unwrap();
    assert!(waiter.next().await.message == large);
}

#[tokio::test]
async fn a_session_that_is_ended_on_one_edge_is_over_on_all() {
    let fleet = TestFleet::start(NOWHERE, 3).await;
    let session = fleet.edges[0].session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    for edge in &fleet.edges {
        assert_eq!(edge.post(&headers, LIST).await.status, 200);
    }
    let mut stream = fleet.edges[2].request("GET", &headers, "").send().await.unwrap();
    until(&mut stream, "\n\n").await;
    assert_eq!(Reply::of(fleet.edges[1].request("DELETE", &headers, "")).await.status, 200);
    for edge in &fleet.edges {
        assert_eq!(edge.post(&headers, LIST).await.status, 404);
    }
    let rest = tokio::time::timeout(PATIENCE, stream.chunk()).await;
    assert_eq!(rest.unwrap().unwrap(), None, "its stream ends with it");
}

#[tokio::test]
async fn an_edge_that_comes_later_knows_what_was_before() {
    let mut fleet = TestFleet::changed(NOWHERE, 2, tells).await;
    let (ended, alive) =
        (fleet.edges[0].session("2025-11-25", "{}").await, fleet.edges[0].session("2025-11-25", "{}").await);
    let subscribe =
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"u+file:///r"}}"#;
    assert_eq!(fleet.edges[0].post(&[("mcp-session-id", &alive)], subscribe).await.body, DONE);
    let level = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}"#;
    assert_eq!(fleet.edges[1].post(&[("mcp-session-id", &alive)], level).await.body, DONE);
    let end = fleet.edges[1].request("DELETE", &[("mcp-session-id", ended.as_str())], "");
    assert_eq!(Reply::of(end).await.status, 200);
    let late = fleet.stranger("e2");
    fleet.edges.push(late);
    fleet.publish().await;
    assert_eq!(fleet.edges[2].post(&[("mcp-session-id", &ended)], LIST).await.status, 404);
    assert_eq!(fleet.edges[2].shared.subscriptions.all(0).len(), 1);
    assert_eq!(fleet.edges[2].shared.levels.all(0), fleet.edges[0].shared.levels.all(0));
}

fn tells(snapshot: &mut crate::support::TestSnapshot) {
    let tells = r#"{"resources":{"subscribe":true}}"#;
    mcp(&mut snapshot.resources.upstreams[0]).legacy_capabilities_json = tells.into();
    mcp(&mut snapshot.resources.upstreams[0]).modern_capabilities_json = tells.into();
}

#[tokio::test]
async fn a_subscription_made_on_one_edge_is_told_of_on_the_stream_at_another() {
    let upstream = Upstream::start(telling).await;
    let fleet = TestFleet::changed(&upstream.url, 2, tells).await;
    let session = fleet.edges[0].session("2025-06-18", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let ask = |what: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/{what}","params":{{"uri":"u+file:///r"}}}}"#)
    };
    let updated = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":\"u+file:///r\"}}\n\n";

    let mut stream = fleet.edges[1].request("GET", &headers, "").send().await.unwrap();
    assert_eq!(until(&mut stream, "\n\n").await, ": keep-alive\n\n");
    assert_eq!(fleet.edges[0].post(&headers, &ask("subscribe")).await.body, DONE);
    assert_eq!(until(&mut stream, "\n\n").await, updated);

    // One that opens later, elsewhere, knows as well; and what is given up is given up everywhere.
    let mut later = fleet.edges[0].request("GET", &headers, "").send().await.unwrap();
    until(&mut later, updated).await;
    assert_eq!(fleet.edges[1].post(&headers, &ask("unsubscribe")).await.body, DONE);
    for edge in &fleet.edges {
        assert!(
            edge.shared
                .subscriptions
                .all(0)
                .iter()
                .all(|known| known.changes.iter().all(|change| !change.subscribed))
        );
    }
}

#[tokio::test]
async fn a_call_is_cancelled_from_any_edge() {
    let upstream = Upstream::start(|_| {
        let never = futures_util::stream::pending::<Result<Bytes, std::convert::Infallible>>();
        let body = axum::body::Body::from_stream(never);
        axum::response::Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    })
    .await;
    let fleet = TestFleet::start(&upstream.url, 2).await;
    let session = fleet.edges[0].session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let call = tokio::spawn(fleet.edges[0].request("POST", &headers, CALL).send());
    eventually("the call arrives", || !upstream.calls("tools/call").is_empty()).await;
    let notification =
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"reason":"r","requestId":1}}"#;
    assert_eq!(fleet.edges[1].post(&headers, notification).await.status, 202);
    let id = upstream.calls("tools/call")[0].id();
    let told = notification.replace(":1}", &format!(":{id}}}"));
    upstream.received(&told).await;
    call.abort();
}

#[tokio::test]
async fn a_level_set_on_one_edge_holds_for_calls_through_another() {
    let upstream = Upstream::start(ok).await;
    let fleet = TestFleet::start(&upstream.url, 2).await;
    let session = fleet.edges[0].session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let level = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}"#;
    assert_eq!(fleet.edges[0].post(&headers, level).await.body, DONE);
    fleet.edges[1].post(&headers, CALL).await;
    upstream
        .received(r#"{"jsonrpc":"2.0","id":"level","method":"logging/setLevel","params":{"level":"debug"}}"#)
        .await;
}

#[tokio::test]
async fn what_is_posted_at_one_edge_is_answered_on_the_stream_at_another() {
    let mut fleet = TestFleet::start(NOWHERE, 2).await;
    let mut client = Sse::open(&fleet.edges[0], "all").await;
    client.post_to(&fleet.edges[1]);
    client.initialize("2024-11-05", "{}").await;
    assert_eq!(client.ask(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await, DONE);
    // The stream is where it was; who brings posts to it is gone.
    fleet.edges.remove(0).leave();
    assert_eq!(client.post(r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#).await.status, 404);
}

#[tokio::test]
async fn a_ticket_opens_one_connection_on_all_edges_together() {
    let fleet = TestFleet::start(NOWHERE, 2).await;
    let bearer = format!("Bearer {}", fleet.edges[0].keys.bearer("all"));
    let asked = fleet.edges[0].at("POST", "/servers/dev/ws/ticket", "").header("authorization", &bearer);
    let taken: serde_json::Value = serde_json::from_str(&Reply::of(asked).await.body).unwrap();
    let offered = format!("mcp, mcp.auth.{}", taken["ticket"].as_str().unwrap());
    let headers = [("sec-websocket-protocol", offered.as_str())];
    assert!(Socket::connect(&fleet.edges[1], "/servers/dev/ws", &headers).await.is_ok());
    for edge in &fleet.edges {
        let (status, _) = Socket::connect(edge, "/servers/dev/ws", &headers).await.err().unwrap();
        assert_eq!(status, 401);
    }
}

#[tokio::test]
async fn an_impostor_reaches_nobody_and_is_told_nothing() {
    let mut fleet = TestFleet::start(NOWHERE, 2).await;
    let mut impostor = fleet.stranger("e9");
    // It knows everybody, and sits where e1 is said to be; but it does not have the key of e1.
    let mut fake = fleet.edges[1].sibling();
    fake.address = impostor.sibling_address().to_string();
    let siblings = [fleet.edges[0].sibling(), fleet.edges[1].sibling()];
    impostor.publish(&siblings, |_| {});
    impostor.joined(2).await;
    let waiter = fleet.edges[0].shared.environment.fleet.waiters().register().unwrap();
    let refused = impostor.shared.environment.fleet.deliver(&waiter.address(), delivery("forged")).await;
    assert_eq!(refused, Err(Undelivered::Gone));

    let session = fleet.edges[0].session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    assert_eq!(Reply::of(impostor.request("DELETE", &headers, "")).await.status, 200);
    assert_eq!(fleet.edges[0].post(&headers, LIST).await.status, 200, "nobody believes an impostor");

    let siblings = [fleet.edges[0].sibling(), fake];
    fleet.edges[0].publish(&siblings, |_| {});
    let at_e1 = WaiterAddress {
        edge: "e1".into(),
        number: impostor.shared.environment.fleet.waiters().register().unwrap().address().number,
    };
    assert_eq!(
        fleet.edges[0].shared.environment.fleet.deliver(&at_e1, delivery("secret")).await,
        Err(Undelivered::Gone),
        "nobody tells an impostor anything"
    );
}

#[tokio::test]
async fn an_edge_that_is_removed_is_no_longer_listened_to() {
    let mut fleet = TestFleet::start(NOWHERE, 2).await;
    let waiter = fleet.edges[0].shared.environment.fleet.waiters().register().unwrap();
    let address = waiter.address();
    fleet.edges[1].shared.environment.fleet.deliver(&address, delivery("a")).await.unwrap();
    let left = [fleet.edges[0].sibling()];
    fleet.edges[0].publish(&left, |_| {});
    let refused = fleet.edges[1].shared.environment.fleet.deliver(&address, delivery("b")).await;
    assert_eq!(refused, Err(Undelivered::Gone), "its connection is older than its removal");
}

/// How long the first edge takes to find that it cannot deliver something, and to end a session.
async fn held_up(fleet: &TestFleet, address: &WaiterAddress, session: &str) -> Duration {
    let began = Instant::now();
    assert_eq!(
        fleet.edges[0].shared.environment.fleet.deliver(address, delivery("a")).await,
        Err(Undelivered::Gone)
    );
    let end = fleet.edges[0].request("DELETE", &[("mcp-session-id", session)], "");
    assert_eq!(Reply::of(end).await.status, 200);
    began.elapsed()
}

/// Moves an edge, as the first one sees it, to where nobody answers.
fn silence(fleet: &mut TestFleet, edge: usize) -> std::net::TcpListener {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut siblings: Vec<_> = fleet.edges.iter().map(|member| member.sibling()).collect();
    siblings[edge].address = silent.local_addr().unwrap().to_string();
    fleet.edges[0].publish(&siblings, |_| {});
    silent
}

#[tokio::test]
async fn an_edge_that_died_holds_nobody_up() {
    let (mut with_dead, mut with_silent) =
        (TestFleet::start(NOWHERE, 3).await, TestFleet::start(NOWHERE, 3).await);
    let sessions = [
        with_dead.edges[0].session("2025-11-25", "{}").await,
        with_silent.edges[0].session("2025-11-25", "{}").await,
    ];
    let dead = with_dead.edges.pop().unwrap();
    let addresses = [&dead.shared, &with_silent.edges[2].shared]
        .map(|e| e.environment.fleet.waiters().register().unwrap().address());
    dead.leave();
    let _silent = silence(&mut with_silent, 2);
    // Nobody waits for an edge that died as long as for one that may yet answer.
    let (died, silent) = tokio::join!(
        held_up(&with_dead, &addresses[0], &sessions[0]),
        held_up(&with_silent, &addresses[1], &sessions[1])
    );
    assert!(died < silent, "{died:?} where one died, {silent:?} where one is silent");
    assert_eq!(with_dead.edges[1].post(&[("mcp-session-id", &sessions[0])], LIST).await.status, 404);
}

#[tokio::test]
async fn an_edge_that_was_cut_off_is_told_when_it_is_back() {
    let mut fleet = TestFleet::start(NOWHERE, 2).await;
    let session = fleet.edges[0].session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let _silent = silence(&mut fleet, 1);
    assert_eq!(Reply::of(fleet.edges[0].request("DELETE", &headers, "")).await.status, 200);
    assert_eq!(fleet.edges[1].post(&headers, LIST).await.status, 200, "it cannot know");
    let siblings = [fleet.edges[0].sibling(), fleet.edges[1].sibling()];
    fleet.edges[0].publish(&siblings, |_| {});
    let told = async {
        while fleet.edges[1].post(&headers, LIST).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
}
