//! HTTP+SSE of 2024-11-05: one stream, posts to the address it names, and the same road as everything else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use trunkline_edge_proxy::config::limits::Limits;
use trunkline_edge_proxy::config::published::PublishedNames;
use trunkline_edge_proxy::observe::{CloseReason, ConnectionTransport};

use crate::support::{
    Edge, Recorded, Reply, Sse, Upstream, events, eventually, json, never, once_told, status,
};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo"}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;

fn ok(request: &Recorded) -> axum::response::Response {
    json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()))
}

#[tokio::test]
async fn the_stream_says_where_to_post_and_carries_the_answers() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut client = Sse::session(&edge, revision, "{}").await;
        assert!(client.endpoint.starts_with("/servers/dev/sse/"), "{}", client.endpoint);
        assert_eq!(client.ask(PING).await, r#"{"jsonrpc":"2.0","id":"p","result":{}}"#);
        assert_eq!(client.ask(CALL).await, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        let tools = client.ask(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#).await;
        assert!(tools.contains("u_echo"), "{tools}");
    }
    edge.nothing_is_left().await;
    let ended = edge.metrics.client_sessions_ended(ConnectionTransport::Sse, CloseReason::Client).get();
    assert_eq!(ended, 4);
}

#[tokio::test]
async fn progress_comes_before_the_answer_and_questions_are_answered_by_post() {
    let upstream = Upstream::start(|request| match request.method().as_str() {
        "tools/call" => events(&[
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{},"progress":1}}}}"#,
                request.json()["params"]["_meta"]["progressToken"]
            ),
            r#"{"jsonrpc":"2.0","id":"up q","method":"elicitation/create","params":{"message":"?"}}"#.into(),
            format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()),
        ]),
        _ => status(202, ""),
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let mut client = Sse::session(&edge, "2025-06-18", r#"{"elicitation":{}}"#).await;
    let call = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"u_echo","_meta":{"progressToken":"t"}}}"#;
    assert_eq!(
        client.ask(call).await,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1}}"#
    );
    let question: serde_json::Value = serde_json::from_str(&client.next().await).unwrap();
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(client.next().await, r#"{"jsonrpc":"2.0","id":"c","result":{}}"#);
    client
        .say(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"action":"decline"}}}}"#, question["id"]))
        .await;
    upstream.received(r#"{"jsonrpc":"2.0","id":"up q","result":{"action":"decline"}}"#).await;
}

#[tokio::test]
async fn calls_run_beside_each_other_and_can_be_cancelled() {
    let upstream =
        Upstream::start(
            |request| {
                if request.json()["params"]["name"] == "other" { never() } else { ok(request) }
            },
        )
        .await;
    let edge = Edge::start(&upstream.url);
    let mut client = Sse::session(&edge, "2025-03-26", "{}").await;
    client.say(r#"{"jsonrpc":"2.0","id":"slow","method":"tools/call","params":{"name":"u_other"}}"#).await;
    assert_eq!(client.ask(CALL).await, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    // Its id is taken while it runs.
    let taken = client.ask(r#"{"jsonrpc":"2.0","id":"slow","method":"ping"}"#).await;
    assert_eq!(
        taken,
        r#"{"jsonrpc":"2.0","id":"slow","error":{"code":-32600,"message":"a request with this id is already in flight"}}"#
    );
    // The two calls reach the upstream in any order.
    let calls = upstream.calls("tools/call");
    let number = calls.iter().find(|call| call.json()["params"]["name"] == "other").unwrap().id();
    client.say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"slow"}}"#).await;
    let body = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number}}}}}"#
    );
    upstream.received(&body).await;
    let (first, second) =
        (r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#, r#"{"jsonrpc":"2.0","id":"b","method":"ping"}"#);
    let (a, b) = tokio::join!(client.post(first), client.post(second));
    assert_eq!((a.status, b.status), (202, 202));
    let mut answers = [client.next().await, client.next().await];
    answers.sort();
    assert_eq!(
        answers,
        [r#"{"jsonrpc":"2.0","id":"a","result":{}}"#, r#"{"jsonrpc":"2.0","id":"b","result":{}}"#]
    );
}

#[tokio::test]
async fn batches_are_for_the_revision_that_has_them() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let batch = format!("[{CALL},{PING}]");
    let mut client = Sse::session(&edge, "2025-03-26", "{}").await;
    assert_eq!(
        client.ask(&batch).await,
        r#"[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":"p","result":{}}]"#
    );
    let mut newer = Sse::session(&edge, "2025-06-18", "{}").await;
    assert!(newer.ask(&batch).await.contains("batches are not part of this revision"));
}

#[tokio::test]
async fn a_handle_is_good_for_its_owner_while_the_stream_is_open() {
    let edge = Edge::start("http://127.0.0.1:9/mcp");
    let client = Sse::session(&edge, "2024-11-05", "{}").await;
    let bearer = format!("Bearer {}", edge.keys.bearer("all"));
    let post =
        |path: String, bearer: &str| Reply::of(edge.at("POST", &path, PING).header("authorization", bearer));
    let endpoint = client.endpoint.clone();
    let truncated = endpoint[..endpoint.len() - 4].to_owned();
    let forged = format!("{truncated}AAAA");
    let session = edge.session("2025-11-25", "{}").await;
    for wrong in [truncated, forged, format!("/servers/dev/sse/{session}"), "/servers/dev/sse/x".to_owned()] {
        let reply = post(wrong.clone(), &bearer).await;
        assert_eq!((reply.status, reply.error_code()), (404, -31010), "{wrong}");
    }
    let other = format!("Bearer {}", edge.keys.bearer("some"));
    assert_eq!(post(endpoint.clone(), &other).await.status, 404);
    assert_eq!(Reply::of(edge.at("POST", &endpoint, PING)).await.status, 401);
    assert_eq!(client.post("not JSON").await.error_code(), -32700);
    drop(client);
    edge.nothing_is_left().await;
    assert_eq!(post(endpoint, &bearer).await.status, 404);
}

#[tokio::test]
async fn what_is_not_sse_is_told_so() {
    let edge = Edge::start("http://127.0.0.1:9/mcp");
    let bearer = format!("Bearer {}", edge.keys.bearer("all"));
    let ask =
        |method: &str, path: &str| Reply::of(edge.at(method, path, PING).header("authorization", &bearer));
    // Clients that try Streamable HTTP first go on with GET after this.
    let posted = ask("POST", "/servers/dev/sse").await;
    assert_eq!((posted.status, posted.header("allow")), (405, "GET"));
    assert_eq!(ask("GET", "/servers/dev/sse/x").await.header("allow"), "POST");
    assert_eq!(ask("GET", "/servers/secret/sse").await.status, 404);
    assert_eq!(Reply::of(edge.at("GET", "/servers/dev/sse", "")).await.status, 401);
    let in_url = Reply::of(edge.at("GET", "/servers/dev/sse?access_token=x", "")).await;
    assert_eq!((in_url.status, in_url.error_code()), (400, -31001));
    let evil = edge
        .at("GET", "/servers/dev/sse", "")
        .header("authorization", &bearer)
        .header("origin", "http://evil.com");
    assert_eq!(Reply::of(evil).await.status, 403);
}

#[tokio::test]
async fn the_conversation_is_begun_once_and_first() {
    let edge = Edge::start("http://127.0.0.1:9/mcp");
    let mut client = Sse::open(&edge, "all").await;
    let early = client.ask(PING).await;
    assert_eq!(
        early,
        r#"{"jsonrpc":"2.0","id":"p","error":{"code":-31010,"message":"not initialized; send initialize first","data":{"reason":"not_initialized"}}}"#
    );
    client.initialize("2025-06-18", "{}").await;
    let again = client.ask(&crate::support::initialize("2025-06-18", "{}")).await;
    assert!(again.contains("is already initialized"), "{again}");
}

#[tokio::test]
async fn changes_are_told_and_a_revoked_token_ends_it() {
    let mut edge = Edge::start("http://127.0.0.1:9/mcp");
    let mut client = Sse::session(&edge, "2024-11-05", "{}").await;
    // Answered, so what came before was taken.
    client.ask(PING).await;
    edge.snapshot.resources.servers[0].tools.pop();
    edge.publish();
    assert_eq!(client.next().await, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    edge.snapshot.resources.tokens[0].revoked = true;
    edge.publish();
    assert_eq!(client.event().await, None);
    assert_eq!(client.post(PING).await.status, 401);
    drop(client);
    edge.nothing_is_left().await;
    assert_eq!(
        edge.metrics.client_sessions_ended(ConnectionTransport::Sse, CloseReason::Unauthorized).get(),
        1
    );
}

#[tokio::test]
async fn a_stopping_edge_answers_what_is_under_way_and_ends_the_stream() {
    let told = Arc::new(Notify::new());
    let tell = Arc::clone(&told);
    let upstream = Upstream::start(move |request| once_told(&told, request)).await;
    let edge = Edge::start(&upstream.url);
    let mut client = Sse::session(&edge, "2025-06-18", "{}").await;
    client.say(CALL).await;
    eventually("the call arrives", || !upstream.calls("tools/call").is_empty()).await;
    edge.drain();
    tell.notify_one();
    assert_eq!(client.next().await, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(client.event().await, None);
    edge.nothing_is_left().await;
    assert_eq!(edge.metrics.client_sessions_ended(ConnectionTransport::Sse, CloseReason::Drain).get(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let big = "x".repeat(1 << 20);
    let upstream = Upstream::start(move |request| {
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"big":"{big}"}}}}"#, request.id()))
    })
    .await;
    let limits = Limits { send_timeout: Duration::from_millis(300), ..Limits::default() };
    let edge = Edge::limited(&upstream.url, limits);
    let client = Sse::session(&edge, "2025-06-18", "{}").await;
    for number in 1..=60 {
        let call = CALL.replace(r#""id":1"#, &format!(r#""id":{number}"#));
        let reply = client.post(&call).await;
        if reply.status != 202 {
            break;
        }
    }
    edge.nothing_is_left().await;
    assert_eq!(
        edge.metrics.client_sessions_ended(ConnectionTransport::Sse, CloseReason::NotReading).get(),
        1
    );
    drop(client);
}

#[tokio::test]
async fn requests_past_the_bound_are_refused_and_streams_past_the_share_too() {
    let upstream = Upstream::start(|_| never()).await;
    let limits = Limits { max_in_flight_per_connection: 1, max_streams_per_token: 1, ..Limits::default() };
    let edge = Edge::limited(&upstream.url, limits);
    let mut client = Sse::session(&edge, "2025-06-18", "{}").await;
    client.say(CALL).await;
    assert_eq!(
        client.ask(PING).await,
        r#"{"jsonrpc":"2.0","id":"p","error":{"code":-31009,"message":"this connection has too many requests in flight","data":{"reason":"too_many_requests"}}}"#
    );
    let bearer = format!("Bearer {}", edge.keys.bearer("all"));
    let second = Reply::of(edge.at("GET", "/servers/dev/sse", "").header("authorization", bearer)).await;
    assert_eq!((second.status, second.header("retry-after")), (429, "1"));
}

#[tokio::test]
async fn behind_a_path_prefix_the_address_has_it() {
    let published = PublishedNames { public_path_prefix: "/gateway".to_owned(), ..PublishedNames::default() };
    let edge = Edge::named("http://127.0.0.1:9/mcp", Limits::default(), &published);
    let client = Sse::open(&edge, "all").await;
    assert!(client.endpoint.starts_with("/gateway/servers/dev/sse/"), "{}", client.endpoint);
}

#[tokio::test]
async fn resources_are_told_of_and_their_session_ends_with_the_stream() {
    let upstream = Upstream::start(crate::streams::telling).await;
    let edge = crate::streams::telling_edge(&upstream);
    let mut client = Sse::session(&edge, "2024-11-05", "{}").await;
    let subscribe =
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"u+file:///r"}}"#;
    assert_eq!(client.ask(subscribe).await, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(
        client.next().await,
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"u+file:///r"}}"#
    );
    drop(client);
    let is_ended = || upstream.requests().iter().any(|request| request.verb == "DELETE");
    eventually("the session at the upstream ends", is_ended).await;
    edge.nothing_is_left().await;
}
