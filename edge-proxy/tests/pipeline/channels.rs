//! Upstreams whose connections are their sessions: HTTP+SSE and WebSocket.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use trunkline_edge_proxy::config::limits::Limits;

use crate::support::{
    Edge, KINDS, PATIENCE, Reply, Talker, TestFleet, TestSnapshot, Upstream, eventually, id, json, mcp,
    result,
};

const CALL: &str = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"u_echo"}}"#;
const SAFE: &str = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"u_safe"}}"#;

fn echo(message: &str) -> Vec<String> {
    vec![result(message, r#"{"n":1.0}"#)]
}

async fn call(edge: &Edge, session: &str, body: &str) -> Reply {
    edge.post(&[("mcp-session-id", session)], body).await
}

#[tokio::test]
async fn calls_that_nobody_can_ask_back_share_a_warm_connection() {
    for kind in KINDS {
        let talker = Talker::start(echo).await;
        let edge = talker.edge(kind);
        for _ in 0..3 {
            let session = edge.session("2025-11-25", "{}").await;
            let replies = (0..5).map(|_| call(&edge, &session, CALL));
            for reply in futures_util::future::join_all(replies).await {
                assert_eq!(reply.body, r#"{"result":{"n":1.0},"jsonrpc":"2.0","id":"a"}"#);
            }
        }
        // Each of two workers holds its own.
        assert!((1..=2).contains(&talker.said("initialize").len()));
        let calls = talker.said("tools/call");
        let ids: HashSet<(usize, String)> = calls.iter().map(|(line, said)| (*line, id(said))).collect();
        assert_eq!((calls.len(), ids.len()), (15, 15));
        assert!(calls.iter().all(|(_, said)| said.contains(r#""params":{"name":"echo"}"#)));
    }
}

#[tokio::test]
async fn progress_finds_its_call_and_strangers_do_not() {
    for kind in KINDS {
        let talker = Talker::start(|message| {
            let number = id(message);
            let progress = |token: &str| {
                format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":1,"progressToken":{token}}}}}"#)
            };
            vec![
                progress("\"other\""),
                r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#.into(),
                r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#.into(),
                r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#.into(),
                progress(&number),
                result(message, "{}"),
            ]
        })
        .await;
        let edge = talker.edge(kind);
        let session = edge.session("2025-11-25", "{}").await;
        let body = CALL.replace(r#"{"name""#, r#"{"_meta":{"progressToken":"t"},"name""#);
        let reply = call(&edge, &session, &body).await;
        assert_eq!(
            reply.messages(),
            [
                r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1,"progressToken":"t"}}"#,
                r#"{"result":{},"jsonrpc":"2.0","id":"a"}"#
            ]
        );
        talker.heard(r#"{"jsonrpc":"2.0","id":"p","result":{}}"#).await;
        talker
            .heard(r#"{"jsonrpc":"2.0","id":"q","error":{"code":-32601,"message":"this client does not support this request"}}"#)
            .await;
    }
}

#[tokio::test]
async fn a_question_reaches_its_client_alone_and_the_answer_its_connection() {
    for kind in KINDS {
        // Everybody is asked under the same id; who answers is told by the connection.
        let talker = Talker::start(|_| {
            vec![
                r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"asking"}}"#.into(),
                r#"{"jsonrpc":"2.0","id":0,"method":"elicitation/create","params":{"message":"?"}}"#.into(),
            ]
        })
        .await;
        let edge = talker.edge(kind);
        let session = edge.session("2025-11-25", r#"{"elicitation":{}}"#).await;
        let headers = [("mcp-session-id", session.as_str())];
        let mut streams = Vec::new();
        for _ in 0..3 {
            let mut stream = edge.request("POST", &headers, CALL).send().await.unwrap();
            let seen = until(&mut stream, "elicitation/create").await;
            assert!(seen.contains(r#""data":"asking""#), "{seen}");
            let question = seen.lines().filter_map(|line| line.strip_prefix("data: ")).nth(1).unwrap();
            streams.push((id(question), stream));
        }
        let lines: HashSet<usize> = talker.said("tools/call").into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines.len(), 3, "each call has a connection of its own");
        for (nth, (asked, mut stream)) in streams.into_iter().enumerate().rev() {
            let answer = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"nth":{nth}}}}}"#);
            assert_eq!(call(&edge, &session, &answer(&asked)).await.status, 202);
            let (line, said) = talker.said("tools/call").remove(nth);
            assert_eq!(talker.heard(&answer("0")).await, line);
            talker.say(line, &result(&said, "{}")).await;
            until(&mut stream, r#"{"result":{},"jsonrpc":"2.0","id":"a"}"#).await;
            drop(stream);
            // Nobody asks any more.
            let late = async {
                while call(&edge, &session, &answer(&asked)).await.status != 400 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(PATIENCE, late).await.expect("somebody still asks");
        }
    }
}

#[tokio::test]
async fn a_question_is_answered_at_any_edge() {
    let changes: [fn(&mut TestSnapshot); 2] = [
        |snapshot| mcp(&mut snapshot.resources.upstreams[0]).set_transport(KINDS[0]),
        |snapshot| mcp(&mut snapshot.resources.upstreams[0]).set_transport(KINDS[1]),
    ];
    for (kind, change) in KINDS.into_iter().zip(changes) {
        let talker = Talker::start(|_| {
            vec![r#"{"jsonrpc":"2.0","id":0,"method":"elicitation/create","params":{"message":"?"}}"#.into()]
        })
        .await;
        let fleet = TestFleet::changed(&talker.url(kind), 2, change).await;
        let session = fleet.edges[0].session("2025-11-25", r#"{"elicitation":{}}"#).await;
        let headers = [("mcp-session-id", session.as_str())];
        let mut stream = fleet.edges[0].request("POST", &headers, CALL).send().await.unwrap();
        let seen = until(&mut stream, "elicitation/create").await;
        let question = id(seen.lines().find_map(|line| line.strip_prefix("data: ")).unwrap());
        let answer = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"action":"accept"}}}}"#);
        assert_eq!(fleet.edges[1].post(&headers, &answer(&question)).await.status, 202);
        talker.heard(&answer("0")).await;
    }
}

#[tokio::test]
async fn only_what_is_safe_is_done_again_when_a_connection_breaks() {
    for kind in KINDS {
        let calls = AtomicUsize::new(0);
        let talker = Talker::start(move |message| match calls.fetch_add(1, Ordering::Relaxed) {
            0 | 2 => vec!["END".to_owned()],
            _ => echo(message),
        })
        .await;
        let edge = talker.edge(kind);
        let session = edge.session("2025-11-25", "{}").await;
        let broken: serde_json::Value =
            serde_json::from_str(&call(&edge, &session, CALL).await.body).unwrap();
        assert_eq!((&broken["error"]["code"], &broken["id"]), (&(-31103).into(), &"a".into()), "{broken}");
        assert_eq!(broken["error"]["data"]["reason"], "upstream_interrupted");
        assert!(call(&edge, &session, CALL).await.body.contains(r#""n":1.0"#), "it is opened anew");
        assert!(call(&edge, &session, SAFE).await.body.contains(r#""n":1.0"#), "it is made again");
        assert_eq!(talker.said("tools/call").len(), 4);
    }
}

#[tokio::test]
async fn cancelling_reaches_the_connection_of_the_call() {
    for kind in KINDS {
        for capabilities in ["{}", r#"{"roots":{}}"#] {
            let talker = Talker::start(|_| Vec::new()).await;
            let edge = talker.edge(kind);
            let session = edge.session("2025-11-25", capabilities).await;
            let headers = [("mcp-session-id", session.as_str())];
            let call = edge.request("POST", &headers, CALL);
            let made = tokio::spawn(Reply::of(call));
            eventually("the call arrives", || !talker.said("tools/call").is_empty()).await;
            let cancel = |id: &str| {
                format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"reason":"r","requestId":{id}}}}}"#
                )
            };
            assert_eq!(edge.post(&headers, &cancel(r#""a""#)).await.status, 202);
            assert_eq!(made.await.unwrap().error_code(), -31103);
            let (line, said) = talker.said("tools/call").remove(0);
            assert_eq!(talker.heard(&cancel(&id(&said))).await, line);
            assert_eq!(talker.said("notifications/cancelled").len(), 1);
        }
    }
}

#[tokio::test]
async fn a_client_that_wants_logs_has_a_connection_of_its_own_with_the_level() {
    for kind in KINDS {
        let talker = Talker::start(|message| {
            let log =
                r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
            vec![log.to_owned(), result(message, "{}")]
        })
        .await;
        let edge = talker.edge(kind);
        let session = edge.session("2025-11-25", "{}").await;
        let level = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}"#;
        assert_eq!(call(&edge, &session, level).await.status, 200);
        // The order to every worker travels on its own.
        let told = async {
            while call(&edge, &session, CALL).await.messages().len() != 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("no log message came");
        let (_, said) = talker.said("logging/setLevel").remove(0);
        assert!(said.ends_with(r#""params":{"level":"info"}}"#), "{said}");
    }
}

#[tokio::test]
async fn resources_are_watched_on_a_connection_of_their_own() {
    for kind in KINDS {
        let talker = Talker::start(|message| {
            let told = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///r"}}"#;
            vec![result(message, "{}"), told.to_owned()]
        })
        .await;
        let mut edge = talker.edge(kind);
        mcp(&mut edge.snapshot.resources.upstreams[0]).legacy_capabilities_json =
            r#"{"resources":{"subscribe":true}}"#.into();
        edge.publish();
        let session = edge.session("2025-11-25", "{}").await;
        let headers = [("mcp-session-id", session.as_str())];
        let mut stream = edge.request("GET", &headers, "").send().await.unwrap();
        let subscribe =
            r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"u+file:///r"}}"#;
        assert_eq!(call(&edge, &session, subscribe).await.body, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        until(&mut stream, r#""uri":"u+file:///r""#).await;
    }
}

#[tokio::test]
async fn what_is_too_large_or_no_message_ends_the_connection_and_nothing_else() {
    for kind in KINDS {
        for (wrong, code) in [("x".repeat(80 << 10), -31106), ("no json".to_owned(), -31105)] {
            let talker = Talker::start(move |message| match message.contains("good") {
                true => echo(message),
                false => vec![wrong.clone()],
            })
            .await;
            let limits = Limits { max_event_bytes: 64 << 10, ..Limits::default() };
            let edge = talker.limited(kind, limits);
            let session = edge.session("2025-11-25", "{}").await;
            assert_eq!(call(&edge, &session, CALL).await.error_code(), code);
            let good = CALL.replace(r#""u_echo""#, r#""u_echo","arguments":{"good":1}"#);
            assert!(call(&edge, &session, &good).await.body.contains(r#""n":1.0"#));
        }
    }
}

#[tokio::test]
async fn an_upstream_that_sends_us_elsewhere_is_not_followed() {
    let elsewhere = Upstream::raw(|_| json(r#"{"jsonrpc":"2.0","id":0,"result":{}}"#)).await;
    for place in [elsewhere.url.clone(), "//127.0.0.2/message".to_owned(), "x".repeat(9 << 10)] {
        let upstream = Upstream::raw(move |_| {
            let body = axum::body::Body::from(format!("event: endpoint\ndata: {place}\n\n"));
            axum::response::Response::builder()
                .header("content-type", "text/event-stream")
                .body(body)
                .unwrap()
        })
        .await;
        let mut edge = Edge::start(&upstream.url);
        mcp(&mut edge.snapshot.resources.upstreams[0]).set_transport(KINDS[0]);
        edge.publish();
        let session = edge.session("2025-11-25", "{}").await;
        let refused: serde_json::Value =
            serde_json::from_str(&call(&edge, &session, CALL).await.body).unwrap();
        assert_eq!(refused["error"]["data"]["reason"], "upstream_session", "{refused}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_connection_that_fell_silent_is_left() {
    let talker = Talker::start(|message| match message.contains("tools/call") {
        true if message.contains("now") => echo(message),
        _ => Vec::new(),
    })
    .await;
    let edge = talker.edge(KINDS[0]);
    let session = edge.session("2025-11-25", "{}").await;
    assert_eq!(call(&edge, &session, CALL).await.error_code(), -31102);
    let (silent, said) = talker.said("tools/call").remove(0);
    let line = talker.heard(&cancelled(&id(&said))).await;
    assert_eq!(line, silent, "it is told that nobody waits");
    assert_eq!(talker.heard(r#"{"jsonrpc":"2.0","id":"there?","method":"ping"}"#).await, silent);
    let now = CALL.replace(r#""u_echo""#, r#""u_echo","arguments":{"now":1}"#);
    // Whatever came on it would be a sign of life.
    eventually("it is left", || talker.is_left(silent)).await;
    assert!(call(&edge, &session, &now).await.body.contains(r#""n":1.0"#));
    assert_ne!(talker.said("tools/call").pop().unwrap().0, silent);
}

fn cancelled(number: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number},"reason":"no response in time"}}}}"#
    )
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_left_alone_for_a_while() {
    let edge = Talker::start(echo).await.edge(KINDS[0]);
    let mut gone = edge;
    for upstream in &mut gone.snapshot.resources.upstreams {
        upstream.url = "ws://127.0.0.1:1/ws".into();
    }
    gone.publish();
    let session = gone.session("2025-11-25", "{}").await;
    for _ in 0..3 {
        assert_eq!(call(&gone, &session, CALL).await.error_code(), -31101);
    }
}

async fn until(response: &mut reqwest::Response, needle: &str) -> String {
    let mut seen = String::new();
    let read = async {
        while !seen.contains(needle) {
            let chunk = response.chunk().await.unwrap();
            seen.push_str(std::str::from_utf8(&chunk.expect("the stream goes on")).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no {needle}"));
    seen
}
