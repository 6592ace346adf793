//! WebSocket: one frame is one message, in both eras, and the same road as everything else.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use trunkline_edge_proxy::config::limits::Limits;
use trunkline_edge_proxy::observe::{CloseReason, ConnectionTransport};

use crate::support::{
    Edge, META, PATIENCE, Recorded, Reply, Socket, Upstream, events, eventually, json, never, once_told,
    status,
};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo"}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;

fn ok(request: &Recorded) -> axum::response::Response {
    json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()))
}

fn modern_call(id: &str, tool: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}",{META}}}}}"#)
}

fn ended(edge: &Edge, ending: CloseReason) -> u64 {
    edge.metrics.client_sessions_ended(ConnectionTransport::WebSocket, ending).get()
}

#[tokio::test]
async fn a_legacy_session_is_the_connection() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut client = Socket::session(&edge, revision, "{}").await;
        assert_eq!(client.subprotocol.as_deref(), Some("mcp"));
        assert_eq!(client.ask(PING).await, r#"{"jsonrpc":"2.0","id":"p","result":{}}"#);
        assert_eq!(client.ask(CALL).await, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        let batch = client.ask(&format!("[{PING}]")).await;
        let expected = match revision {
            "2024-11-05" | "2025-03-26" => r#"[{"jsonrpc":"2.0","id":"p","result":{}}]"#,
            _ => {
                r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"batches are not part of this revision"}}"#
            }
        };
        assert_eq!(batch, expected);
        assert!(client.ask("{").await.contains("-32700"));
        client.socket.close(None).await.unwrap();
    }
    edge.nothing_is_left().await;
    assert_eq!(ended(&edge, CloseReason::Client), 4);
}

#[tokio::test]
async fn questions_and_their_answers_share_the_socket() {
    let upstream = Upstream::start(|request| match request.method().as_str() {
        "tools/call" => events(&[
            r#"{"jsonrpc":"2.0","id":"up q","method":"sampling/createMessage","params":{}}"#.into(),
            format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()),
        ]),
        _ => status(202, ""),
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let mut client = Socket::session(&edge, "2025-11-25", r#"{"sampling":{}}"#).await;
    let question: serde_json::Value = serde_json::from_str(&client.ask(CALL).await).unwrap();
    assert_eq!(question["method"], "sampling/createMessage");
    assert_eq!(client.next().await, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    client.say(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"x":1e400}}}}"#, question["id"])).await;
    upstream.received(r#"{"jsonrpc":"2.0","id":"up q","result":{"x":1e400}}"#).await;
    // An answer to what nobody asked is dropped, and harms nothing.
    client.say(r#"{"jsonrpc":"2.0","id":"up q","result":{}}"#).await;
    assert_eq!(client.ask(PING).await, r#"{"jsonrpc":"2.0","id":"p","result":{}}"#);
}

#[tokio::test]
async fn modern_requests_stand_alone_and_need_no_headers() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let mut client = Socket::open(&edge).await;
    let discovered = client
        .ask(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{{META}}}}}"#))
        .await;
    assert!(discovered.contains(r#""supportedVersions":["2026-07-28"]"#), "{discovered}");
    assert_eq!(client.ask(&modern_call("2", "u_echo")).await, r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    // What is mirrored in headers is written by the edge.
    let region = modern_call("3", "u_region").replace(r#""name""#, r#""arguments":{"region":"eu"},"name""#);
    assert_eq!(client.ask(&region).await, r#"{"jsonrpc":"2.0","id":3,"result":{}}"#);
    let sent = upstream.calls("tools/call");
    assert_eq!((sent[1].header("mcp-param-region"), sent[1].header("mcp-name")), ("eu", "region"));
    let unknown = client.ask(&modern_call("4", "u_none")).await;
    assert!(unknown.contains("-32602"), "{unknown}");
    let version = modern_call("5", "u_echo").replace("2026-07-28", "2099-01-01");
    assert!(client.ask(&version).await.contains("-32022"));
    // Without the marks of the modern era it is a legacy request, and nothing was initialized.
    assert!(client.ask(PING).await.contains("not initialized; send initialize first"));
}

#[tokio::test]
async fn a_cancelled_modern_call_is_let_go_and_never_answered() {
    let upstream =
        Upstream::start(
            |request| {
                if request.json()["params"]["name"] == "other" { never() } else { ok(request) }
            },
        )
        .await;
    let edge = Edge::start(&upstream.url);
    let mut client = Socket::open(&edge).await;
    for (id, cancelled) in [("7", r#""7""#), (r#""8""#, "8.0")] {
        client.say(&modern_call(id, "u_other")).await;
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":ID}}"#;
        client.say(&cancel.replace("ID", cancelled)).await;
        assert_eq!(client.ask(&modern_call("1", "u_echo")).await, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        let again = modern_call(id, "u_echo");
        assert_eq!(client.ask(&again).await, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
    }
    client.say(&modern_call(r#""slow""#, "u_other")).await;
    assert_eq!(client.ask(&modern_call("2", "u_echo")).await, r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    client.say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"slow"}}"#).await;
    assert_eq!(client.ask(&modern_call("3", "u_echo")).await, r#"{"jsonrpc":"2.0","id":3,"result":{}}"#);
    // Its id is free again.
    let again = modern_call(r#""slow""#, "u_echo");
    assert_eq!(client.ask(&again).await, r#"{"jsonrpc":"2.0","id":"slow","result":{}}"#);
    drop(client);
    edge.nothing_is_left().await;
}

#[tokio::test]
async fn listens_are_told_apart_and_ended_well() {
    let mut edge = Edge::start("http://127.0.0.1:9/mcp");
    let mut client = Socket::open(&edge).await;
    let listen = |id: &str, what: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{{"notifications":{{"{what}":true}},{META}}}}}"#
        )
    };
    let subscription = |id: &str| format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
    for (id, what) in [("1", "toolsListChanged"), ("\"b\"", "promptsListChanged")] {
        let acknowledged = client.ask(&listen(id, what)).await;
        assert!(acknowledged.contains(&subscription(id)), "{acknowledged}");
    }
    edge.snapshot.resources.servers[0].prompts.pop();
    edge.publish();
    assert_eq!(
        client.next().await,
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/prompts/list_changed","params":{{{}}}}}"#,
            subscription("\"b\"")
        )
    );
    edge.drain();
    let mut farewells = [client.next().await, client.next().await];
    farewells.sort();
    let farewell = |id: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete",{}}}}}"#, subscription(id))
    };
    assert_eq!(farewells, [farewell("\"b\""), farewell("1")]);
    assert_eq!(client.closed().await, 1001);
    edge.nothing_is_left().await;
}

#[tokio::test]
async fn a_stopping_edge_answers_what_is_under_way_and_closes() {
    let told = Arc::new(Notify::new());
    let tell = Arc::clone(&told);
    let upstream = Upstream::start(move |request| once_told(&told, request)).await;
    let edge = Edge::start(&upstream.url);
    let mut client = Socket::session(&edge, "2025-06-18", "{}").await;
    client.say(CALL).await;
    eventually("the call arrives", || !upstream.calls("tools/call").is_empty()).await;
    edge.drain();
    assert!(client.ask(PING).await.contains(r#""reason":"draining""#));
    tell.notify_one();
    assert_eq!(client.next().await, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(client.closed().await, 1012);
    edge.nothing_is_left().await;
}

#[tokio::test]
async fn changes_are_told_and_a_revoked_token_closes_it() {
    let mut edge = Edge::start("http://127.0.0.1:9/mcp");
    let mut client = Socket::session(&edge, "2025-11-25", "{}").await;
    client.ask(PING).await;
    edge.snapshot.resources.servers[0].tools.pop();
    edge.publish();
    assert_eq!(client.next().await, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    edge.snapshot.resources.tokens[0].revoked = true;
    edge.publish();
    assert_eq!(client.closed().await, 1008);
    edge.nothing_is_left().await;
}

#[tokio::test]
async fn an_expired_token_closes_it_with_the_next_message() {
    let mut edge = Edge::start("http://127.0.0.1:9/mcp");
    let mut client = Socket::session(&edge, "2025-11-25", "{}").await;
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let expires = now() + 2;
    edge.snapshot.resources.tokens[0].expire_time =
        Some(prost_types::Timestamp { seconds: expires as i64, nanos: 0 });
    edge.publish();
    let code = loop {
        client.say(PING).await;
        match client.next_or_code().await {
            Ok(answer) if answer == r#"{"jsonrpc":"2.0","id":"p","result":{}}"# => {}
            Ok(refused) => {
                assert!(refused.contains("bearer_invalid"), "{refused}");
                break client.closed().await;
            }
            Err(code) => break code,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(code, 1008);
    assert!(now() >= expires, "it is closed too soon");
}

#[tokio::test]
async fn binary_frames_are_read_as_text_and_what_is_none_is_answered() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let mut client = Socket::session(&edge, "2025-11-25", "{}").await;
    let mut ask = async |frame: &[u8]| {
        client.socket.send(Message::Binary(Bytes::copy_from_slice(frame))).await.unwrap();
        client.next().await
    };
    assert_eq!(ask(CALL.as_bytes()).await, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    // It is answered under its id, and the connection goes on.
    assert_eq!(
        ask(b"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"\xff\"}").await,
        r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32700,"message":"the body is not JSON: not UTF-8 from byte 34 on"}}"#
    );
    assert_eq!(ask(PING.as_bytes()).await, r#"{"jsonrpc":"2.0","id":"p","result":{}}"#);
}

#[tokio::test]
async fn what_is_too_large_closes_it() {
    let limits = Limits { max_body_bytes: 10_000, ..Limits::default() };
    let edge = Edge::limited("http://127.0.0.1:9/mcp", limits);
    for frame in [Message::text("x".repeat(2_000_000)), Message::Binary(vec![b' '; 2_000_000].into())] {
        let mut client = Socket::open(&edge).await;
        client.socket.send(frame).await.unwrap();
        assert_eq!(client.closed().await, 1009);
    }
    edge.nothing_is_left().await;
    assert_eq!(ended(&edge, CloseReason::TooLarge), 2);
}

#[tokio::test]
async fn a_page_comes_with_a_ticket_that_is_good_once() {
    let edge = Edge::start("http://127.0.0.1:9/mcp");
    let bearer = format!("Bearer {}", edge.keys.bearer("all"));
    let taken =
        Reply::of(edge.at("POST", "/servers/dev/ws/ticket", "").header("authorization", &bearer)).await;
    assert_eq!((taken.status, taken.header("cache-control")), (200, "no-store"));
    let taken: serde_json::Value = serde_json::from_str(&taken.body).unwrap();
    assert_eq!(taken["expires_in"], 60);
    let offered = format!("mcp, mcp.auth.{}", taken["ticket"].as_str().unwrap());
    let headers = [("sec-websocket-protocol", offered.as_str()), ("origin", "http://localhost:3000")];
    let mut client =
        Socket::connect(&edge, "/servers/dev/ws", &headers).await.unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(client.subprotocol.as_deref(), Some("mcp"));
    assert!(client.ask(&modern_call("1", "u_none")).await.contains("unknown tool"));
    let refused = async |path: &str, headers: &[(&'static str, &str)]| {
        let (status, body) = Socket::connect(&edge, path, headers).await.err().expect("it was let in");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        (status, body["error"]["data"]["reason"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused("/servers/dev/ws", &headers).await, (401, "ticket_invalid".into()));
    for forged in ["mcp, mcp.auth.x", "mcp, mcp.auth."] {
        let headers = [("sec-websocket-protocol", forged)];
        assert_eq!(refused("/servers/dev/ws", &headers).await, (401, "ticket_invalid".into()));
    }
    let mcp = ("sec-websocket-protocol", "mcp");
    assert_eq!(refused("/servers/dev/ws", &[mcp]).await, (401, "bearer_missing".into()));
    let token = format!("/servers/dev/ws?token={}", edge.keys.bearer("all"));
    assert_eq!(refused(&token, &[mcp]).await, (400, "bearer_in_url".into()));
    let evil = [("authorization", bearer.as_str()), ("origin", "http://evil.com")];
    assert_eq!(refused("/servers/dev/ws", &evil).await, (403, "origin_not_allowed".into()));
    assert_eq!(refused("/servers/secret/ws", &evil[..1]).await, (404, "server_unknown".into()));
    let plain = Reply::of(edge.at("GET", "/servers/dev/ws", "").header("authorization", &bearer)).await;
    assert_eq!((plain.status, plain.header("sec-websocket-version")), (426, "13"));
    assert_eq!(Reply::of(edge.at("POST", "/servers/dev/ws/ticket", "")).await.status, 401);
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
    let mut client = Socket::session(&edge, "2025-06-18", "{}").await;
    for number in 1..=60 {
        client.say(&CALL.replace(r#""id":1"#, &format!(r#""id":{number}"#))).await;
    }
    edge.nothing_is_left().await;
    assert_eq!(ended(&edge, CloseReason::NotReading), 1);
    drop(client);
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_let_go() {
    let limits = Limits { ping_interval: Duration::from_millis(500), ..Limits::default() };
    let edge = Edge::limited("http://127.0.0.1:9/mcp", limits);
    let mut alive = Socket::session(&edge, "2025-06-18", "{}").await;
    // It reads nothing, so it answers nothing.
    let silent = Socket::open(&edge).await;
    let reading = async {
        while ended(&edge, CloseReason::Silent) == 0 {
            let _ping = tokio::time::timeout(Duration::from_millis(20), alive.socket.next()).await;
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    assert_eq!(alive.ask(PING).await, r#"{"jsonrpc":"2.0","id":"p","result":{}}"#);
    drop(silent);
}

#[tokio::test]
async fn requests_past_the_bound_are_refused_and_others_are_served() {
    let upstream = Upstream::start(|_| never()).await;
    let limits = Limits { max_in_flight_per_connection: 2, ..Limits::default() };
    let edge = Edge::limited(&upstream.url, limits);
    let mut busy = Socket::session(&edge, "2025-06-18", "{}").await;
    let mut calm = Socket::session(&edge, "2025-06-18", "{}").await;
    for number in 1..=2 {
        busy.say(&CALL.replace(r#""id":1"#, &format!(r#""id":{number}"#))).await;
    }
    assert!(busy.ask(PING).await.contains(r#""reason":"too_many_requests""#));
    assert_eq!(calm.ask(PING).await, r#"{"jsonrpc":"2.0","id":"p","result":{}}"#);
}
