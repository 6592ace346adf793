//! Upstreams whose connections are their sessions: HTTP+SSE and WebSocket.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::mcp::quirk::Quirk;
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
async fn what_is_too_large_ends_its_call_and_nothing_else() {
    for kind in KINDS {
        let talker = Talker::start(move |message| match message.contains("good") {
            true => echo(message),
            false => vec!["x".repeat(80 << 10)],
        })
        .await;
        let limits = Limits { max_event_bytes: 64 << 10, ..Limits::default() };
        let edge = talker.limited(kind, limits);
        let session = edge.session("2025-11-25", "{}").await;
        assert_eq!(call(&edge, &session, CALL).await.error_code(), -31106);
        let good = CALL.replace(r#""u_echo""#, r#""u_echo","arguments":{"good":1}"#);
        assert!(call(&edge, &session, &good).await.body.contains(r#""n":1.0"#));
    }
}

/// Whose answer it is tells its id, which some servers write first and some last.
#[tokio::test]
async fn an_answer_that_is_too_large_ends_its_call_alone() {
    for kind in KINDS {
        for at_end in [false, true] {
            let answered = AtomicUsize::new(0);
            let talker = Talker::start(move |message| {
                let (id, long) = (id(message), "x".repeat(300 << 10));
                let large = match at_end {
                    true => format!(r#"{{"result":{{"long":"{long}"}},"jsonrpc":"2.0","id":{id}}}"#),
                    false => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"long":"{long}"}}}}"#),
                };
                let notification = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"data":"{long}"}}}}"#
                );
                match message.contains("large") {
                    true => vec![notification, large],
                    false if answered.fetch_add(1, Ordering::Relaxed) > 0 => echo(message),
                    // It is answered when it was seen that others go on.
                    false => Vec::new(),
                }
            })
            .await;
            let edge = talker.limited(kind, Limits { max_event_bytes: 64 << 10, ..Limits::default() });
            let session = edge.session("2025-11-25", "{}").await;
            let large = CALL.replace(r#""u_echo""#, r#""u_echo","arguments":{"large":1}"#);
            let waiting = async {
                let reply = call(&edge, &session, CALL).await;
                assert_eq!(reply.body, r#"{"result":{"n":1.0},"jsonrpc":"2.0","id":"a"}"#, "{at_end}");
            };
            let others = async {
                eventually("it waits", || !talker.said("tools/call").is_empty()).await;
                for _ in 0..3 {
                    assert_eq!(call(&edge, &session, &large).await.error_code(), -31106, "{at_end}");
                    assert!(call(&edge, &session, CALL).await.body.contains(r#""n":1.0"#), "{at_end}");
                }
                let (line, first) = talker.said("tools/call").remove(0);
                talker.say(line, &result(&first, r#"{"n":1.0}"#)).await;
            };
            tokio::join!(waiting, others);
            assert_eq!(talker.said("tools/call").len(), 7, "{at_end}: each was made once");
            assert!(talker.said("initialize").len() <= 2, "{at_end}: the connections stay");
        }
    }
}

/// What servers say between messages, and the quirk that it is.
const BETWEEN: &[(&str, Quirk)] = &[
    ("no json", Quirk::UnreadableMessages),
    (r#"{"heartbeat":1}"#, Quirk::UnreadableMessages),
    (r#"{"jsonrpc":"2.0","id":"#, Quirk::UnreadableMessages),
    ("[]", Quirk::UnreadableMessages),
    ("42", Quirk::UnreadableMessages),
];

#[tokio::test]
async fn what_is_no_message_is_skipped_and_ends_no_call() {
    for kind in KINDS {
        for (between, quirk) in BETWEEN {
            let talker = Talker::start(move |message| {
                let mut said = vec![(*between).to_owned(); 3];
                said.extend(echo(message));
                said
            })
            .await;
            let edge = talker.edge(kind);
            let session = edge.session("2025-11-25", "{}").await;
            let replies = futures_util::future::join_all((0..5).map(|_| call(&edge, &session, CALL)));
            for reply in replies.await {
                assert_eq!(reply.body, r#"{"result":{"n":1.0},"jsonrpc":"2.0","id":"a"}"#, "{between}");
            }
            assert_eq!(talker.said("tools/call").len(), 5, "{between}");
            assert!(talker.said("initialize").len() <= 2, "{between}: the connection stays");
            assert!(edge.metrics.upstream_quirk(*quirk).get() >= 3, "{between}");
        }
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_can_be_read_any_more_ends() {
    let talker = Talker::start(|message| match message.contains("good") {
        true => echo(message),
        false => vec!["no json".to_owned(); 1_001],
    })
    .await;
    let mut edge = talker.edge(KINDS[0]);
    edge.snapshot.resources.upstreams[0].request_timeout =
        Some(prost_types::Duration { seconds: 60, nanos: 0 });
    edge.publish();
    let session = edge.session("2025-11-25", "{}").await;
    let reply = call(&edge, &session, CALL).await;
    assert_eq!(reply.error_code(), -31105);
    assert!(reply.body.contains("no json"), "it is quoted: {reply:?}");
    let good = CALL.replace(r#""u_echo""#, r#""u_echo","arguments":{"good":1}"#);
    assert!(call(&edge, &session, &good).await.body.contains(r#""n":1.0"#));
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_ends_its_call_alone() {
    for kind in KINDS {
        let talker = Talker::start(|message| match message.contains("bad") {
            true => vec![format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"a":1,"a":2,}}}}"#, id(message))],
            false => Vec::new(),
        })
        .await;
        let edge = talker.edge(kind);
        let session = edge.session("2025-11-25", "{}").await;
        let bad = CALL.replace(r#""u_echo""#, r#""u_echo","arguments":{"bad":1}"#);
        let (other, broken) = tokio::join!(call(&edge, &session, CALL), call(&edge, &session, &bad));
        assert_eq!(broken.error_code(), -31105, "{broken:?}");
        assert_eq!(other.error_code(), -31102, "it waits for its own answer: {other:?}");
    }
}

#[tokio::test]
async fn an_answer_is_found_however_its_id_is_spelled() {
    for kind in KINDS {
        for spell in ["\"{}\"", "{}.0", "\"{}.0\""] {
            let talker = Talker::start(move |message| {
                let number = spell.replace("{}", &id(message));
                let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1,"progressToken":N}}"#;
                let answer = r#"{"result":{"n":1.0},"jsonrpc":"2.0","id":N}"#;
                vec![progress.replace('N', &number), answer.replace('N', &number)]
            })
            .await;
            let edge = talker.edge(kind);
            let session = edge.session("2025-11-25", "{}").await;
            let reply = call(&edge, &session, CALL).await;
            let last = reply.messages().pop().unwrap();
            assert_eq!(last, r#"{"result":{"n":1.0},"jsonrpc":"2.0","id":"a"}"#, "{spell}");
            assert_eq!(talker.said("tools/call").len(), 1, "{spell}");
            assert!(edge.metrics.upstream_quirk(Quirk::IdsRespelt).get() > 0, "{spell}");
        }
    }
}

#[tokio::test]
async fn a_result_without_an_id_is_nobodys() {
    for kind in KINDS {
        let talker =
            Talker::start(|_| vec![r#"{"jsonrpc":"2.0","id":null,"result":{"whose":1}}"#.to_owned()]).await;
        let edge = talker.edge(kind);
        for capabilities in ["{}", r#"{"roots":{}}"#] {
            let session = edge.session("2025-11-25", capabilities).await;
            let reply = call(&edge, &session, CALL).await;
            assert_eq!(reply.error_code(), -31102, "{capabilities}: {reply:?}");
        }
    }
}

/// An error without an id is about the only call there is; not where a call before it gave up, whose answer it may be.
#[tokio::test]
async fn a_late_error_without_an_id_is_not_the_next_calls() {
    const ERROR: &str = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"about the first"}}"#;
    for kind in KINDS {
        let asked = AtomicUsize::new(0);
        let talker = Talker::start(move |message| match asked.fetch_add(1, Ordering::Relaxed) {
            0 if message.contains("tools/call") => Vec::new(),
            _ if message.contains("tools/call") => vec![ERROR.to_owned(), result(message, r#"{"n":1.0}"#)],
            _ => echo(message),
        })
        .await;
        let mut edge = talker.edge(kind);
        edge.snapshot.resources.upstreams[0].request_timeout =
            Some(prost_types::Duration { seconds: 0, nanos: 300_000_000 });
        edge.publish();
        let session = edge.session("2025-11-25", "{}").await;
        let gave_up = call(&edge, &session, CALL).await;
        assert_eq!(gave_up.error_code(), -31102, "{gave_up:?}");
        for _ in 0..4 {
            let reply = call(&edge, &session, CALL).await;
            assert!(!reply.body.contains("about the first"), "{kind:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn binary_frames_are_read_as_text() {
    let talker = Talker::start(|message| {
        vec![String::new(), "BINARY:".to_owned(), format!("BINARY:{}", result(message, r#"{"n":1.0}"#))]
    })
    .await;
    let edge = talker.edge(KINDS[1]);
    let session = edge.session("2025-11-25", "{}").await;
    assert!(call(&edge, &session, CALL).await.body.contains(r#""n":1.0"#));
    assert!(edge.metrics.upstream_quirk(Quirk::BinaryFrames).get() > 0);
}

#[tokio::test]
async fn an_answer_in_the_response_to_a_post_is_taken_once() {
    let talker = Talker::start(|message| {
        let answer = result(message, r#"{"n":1.0}"#);
        match message.contains("both") {
            true => vec![answer.clone(), format!("POST:{answer}")],
            false => vec![format!("POST:{answer}")],
        }
    })
    .await;
    let edge = talker.edge(KINDS[0]);
    let session = edge.session("2025-11-25", "{}").await;
    for body in [CALL.to_owned(), CALL.replace(r#""u_echo""#, r#""u_echo","arguments":{"both":1}"#)] {
        let reply = call(&edge, &session, &body).await;
        assert_eq!(reply.body, r#"{"result":{"n":1.0},"jsonrpc":"2.0","id":"a"}"#);
    }
    assert_eq!(talker.said("tools/call").len(), 2);
    assert!(edge.metrics.upstream_quirk(Quirk::AnswersInPost).get() > 0);
}

#[tokio::test]
async fn a_stream_may_say_something_before_its_endpoint_but_not_for_ever() {
    let events = [("ping", "{}"), ("message", "hello"), ("heartbeat", r#"{"jsonrpc":"2.0"}"#)];
    let talker = Talker::start(echo).await;
    talker.begin_with(&events);
    let edge = talker.edge(KINDS[0]);
    let session = edge.session("2025-11-25", "{}").await;
    assert!(call(&edge, &session, CALL).await.body.contains(r#""n":1.0"#));
    assert!(edge.metrics.upstream_quirk(Quirk::ForeignEvents).get() >= 2);
    let long = "x".repeat(1 << 10);
    for many in [vec![("ping", "{}"); 64], vec![("ping", long.as_str()); 63 + 2]] {
        let talker = Talker::start(echo).await;
        talker.begin_with(&many);
        let edge = talker.edge(KINDS[0]);
        let session = edge.session("2025-11-25", "{}").await;
        assert_eq!(call(&edge, &session, CALL).await.error_code(), -31107);
    }
}

#[tokio::test]
async fn a_session_that_was_forgotten_behind_an_open_stream_is_opened_anew() {
    for (status, body, works) in [
        (400, CALL, true),
        (401, CALL, true),
        (404, CALL, true),
        (410, CALL, true),
        (500, SAFE, true),
        // It may have run.
        (500, CALL, false),
        (503, CALL, false),
    ] {
        for capabilities in ["{}", r#"{"roots":{}}"#] {
            let talker = Talker::start(echo).await;
            let edge = talker.edge(KINDS[0]);
            let session = edge.session("2025-11-25", capabilities).await;
            for _ in 0..2 {
                assert!(call(&edge, &session, body).await.body.contains(r#""n":1.0"#), "{status}");
            }
            talker.forget(status);
            let first = call(&edge, &session, body).await;
            assert_eq!(first.body.contains(r#""n":1.0"#), works, "{status} {capabilities}: {first:?}");
            for _ in 0..3 {
                assert!(call(&edge, &session, body).await.body.contains(r#""n":1.0"#), "{status}");
            }
            let ran = 2 + usize::from(works) + 3;
            assert_eq!(talker.said("tools/call").len(), ran, "{status} {capabilities}: each ran once");
        }
    }
}

/// A bridge whose server was restarted refuses every call, and keeps its connections.
#[tokio::test]
async fn a_session_that_was_forgotten_behind_an_open_connection_is_opened_anew() {
    const UNKNOWN: &str = r#"{"code":-32000,"message":"Unknown session"}"#;
    const CLOSED: &str = r#"{"code":-32000,"message":"Connection closed"}"#;
    const BROKEN: &str = r#"{"code":-32603,"message":"fetch failed"}"#;
    for kind in KINDS {
        for (error, body, works) in [
            (UNKNOWN, CALL, true),
            (r#"{"code":-32002,"message":"Server not initialized"}"#, CALL, true),
            (CLOSED, SAFE, true),
            (BROKEN, SAFE, true),
            // It may have run.
            (CLOSED, CALL, false),
            (BROKEN, CALL, false),
        ] {
            for capabilities in ["{}", r#"{"roots":{}}"#] {
                let talker = Talker::start(echo).await;
                let edge = talker.edge(kind);
                let session = edge.session("2025-11-25", capabilities).await;
                for _ in 0..2 {
                    assert!(call(&edge, &session, body).await.body.contains(r#""n":1.0"#), "{error}");
                }
                talker.forget_with(error);
                let first = call(&edge, &session, body).await;
                assert_eq!(first.body.contains(r#""n":1.0"#), works, "{error} {capabilities}: {first:?}");
                for _ in 0..3 {
                    assert!(call(&edge, &session, body).await.body.contains(r#""n":1.0"#), "{error}");
                }
                let ran = 2 + usize::from(works) + 3;
                assert_eq!(talker.said("tools/call").len(), ran, "{error} {capabilities}: each ran once");
                assert!(edge.metrics.upstream_quirk(Quirk::ForgetsSessions).get() > 0, "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_tool_that_fails_in_a_living_session_leaves_its_connection() {
    const INVALID: &str = r#"{"code":-32602,"message":"Invalid request parameters"}"#;
    for kind in KINDS {
        for (error, of_ping) in [
            (r#"{"code":-32000,"message":"Unknown session"}"#, None),
            (INVALID, None),
            (INVALID, Some(r#"{"code":-32601,"message":"Method not found"}"#)),
            (INVALID, Some(INVALID)),
            (r#"{"code":-32000,"message":"Connection closed"}"#, Some(INVALID)),
        ] {
            let refused = |message: &str, error: &str| {
                vec![format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id(message))]
            };
            let talker = Talker::start(move |message| match of_ping {
                Some(of_ping) if message.contains(r#""method":"ping""#) => refused(message, of_ping),
                _ if message.contains("bad") => refused(message, error),
                _ => echo(message),
            })
            .await;
            let edge = talker.edge(kind);
            let session = edge.session("2025-11-25", "{}").await;
            let bad = CALL.replace(r#""u_echo""#, r#""u_echo","arguments":{"bad":1}"#);
            for _ in 0..6 {
                assert!(call(&edge, &session, CALL).await.body.contains(r#""n":1.0"#), "{error}");
                assert!(call(&edge, &session, &bad).await.body.contains(r#""error""#), "{error}");
            }
            let calls = talker.said("tools/call");
            assert_eq!(calls.len(), 12, "{error}: each was made once");
            let used: HashSet<usize> = calls.iter().map(|(line, _)| *line).collect();
            // Each of the two workers has one, and tries another once.
            assert!(used.len() <= 2, "{error}: {used:?}");
            assert!(talker.said("initialize").len() <= 4, "{error}");
            assert!(!talker.said("ping").is_empty(), "{error}: nobody asked");
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
async fn what_is_said_beside_having_taken_a_message_does_no_harm() {
    for (status, label, text) in [
        (202, "text/plain", "Accepted".repeat(20_000)),
        (200, "text/html", "<p>".repeat(40_000)),
        (202, "application/json", r#"{"accepted":true}"#.to_owned()),
        (202, "application/json", r#"{"result":"ok"}"#.to_owned()),
        (200, "application/json", r#"{"result":{}}"#.to_owned()),
        (200, "application/json", r#"{"jsonrpc":"2.0","result":{"status":"accepted"}}"#.to_owned()),
        (202, "text/plain", r#"{"jsonrpc":"2.0","id":null,"result":null}"#.to_owned()),
        (200, "text/plain", String::new()),
    ] {
        let talker = Talker::start(echo).await;
        talker.accept_with(status, label, text);
        let edge = talker.edge(KINDS[0]);
        let session = edge.session("2025-11-25", "{}").await;
        for called in 1..=3 {
            let reply = call(&edge, &session, CALL).await;
            assert!(reply.body.contains(r#""n":1.0"#), "{status} {label}: {reply:?}");
            assert_eq!(talker.said("tools/call").len(), called, "{status} {label}");
        }
    }
}

#[tokio::test]
async fn an_answer_to_a_post_is_taken_whatever_its_status_and_label() {
    for (status, label) in
        [(201, "application/json"), (202, "application/json"), (200, "text/plain"), (202, "text/html")]
    {
        let talker = Talker::start(|message| {
            vec![format!(r#"POST:{{"result":{{"content":[],"n":1.0}},"id":{}}}"#, id(message))]
        })
        .await;
        talker.accept_with(status, label, String::new());
        let edge = talker.edge(KINDS[0]);
        let session = edge.session("2025-11-25", "{}").await;
        let reply = call(&edge, &session, CALL).await;
        assert!(
            reply.body.contains(r#""n":1.0"#) && reply.body.contains(r#""jsonrpc":"2.0""#),
            "{status} {label}: {reply:?}"
        );
        assert_eq!(talker.said("tools/call").len(), 1, "{status} {label}");
        assert!(edge.metrics.upstream_quirk(Quirk::AnswersInPost).get() > 0);
        assert!(edge.metrics.upstream_quirk(Quirk::NoVersionMember).get() > 0);
    }
}

#[tokio::test]
async fn a_stream_may_carry_another_label() {
    let talker = Talker::start(echo).await;
    for label in ["text/plain", "application/octet-stream"] {
        talker.label_streams(label);
        let edge = talker.edge(KINDS[0]);
        let session = edge.session("2025-11-25", "{}").await;
        assert!(call(&edge, &session, CALL).await.body.contains(r#""n":1.0"#), "{label}");
        assert!(edge.metrics.upstream_quirk(Quirk::WrongLabel).get() > 0, "{label}");
    }
}

#[tokio::test]
async fn what_is_posted_follows_a_redirect_unless_it_may_lead_to_a_result() {
    for (status, path, follows) in [
        (307, "/elsewhere", true),
        (308, "/message/", true),
        (301, "/message/", true),
        (302, "/message/", true),
        (301, "/elsewhere", false),
        (302, "/elsewhere", false),
        (303, "/message/", false),
    ] {
        let talker = Talker::start(echo).await;
        let edge = talker.edge(KINDS[0]);
        let session = edge.session("2025-11-25", "{}").await;
        assert!(call(&edge, &session, CALL).await.body.contains(r#""n":1.0"#));
        talker.redirect(status, path);
        for calls in 2..=4 {
            let reply = call(&edge, &session, CALL).await;
            assert_eq!(reply.body.contains(r#""n":1.0"#), follows, "{status} {path}: {reply:?}");
            let ran = if follows { calls } else { 1 };
            assert_eq!(talker.said("tools/call").len(), ran, "{status} {path}: each is taken once");
        }
        assert_eq!(edge.metrics.upstream_quirk(Quirk::Redirects).get() > 0, follows, "{status} {path}");
    }
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

pub(crate) async fn until(response: &mut reqwest::Response, needle: &str) -> String {
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

#[tokio::test]
async fn the_request_for_a_websocket_is_led_on_within_its_origin() {
    for path in ["/led/307/ws", "/led/301/led/308/led/302/ws"] {
        let talker = Talker::start(echo).await;
        let edge = talker.edge_at(path);
        let session = edge.session("2025-11-25", "{}").await;
        assert_eq!(
            call(&edge, &session, CALL).await.body,
            r#"{"result":{"n":1.0},"jsonrpc":"2.0","id":"a"}"#
        );
        assert_eq!(
            (talker.said("tools/call").len(), edge.metrics.upstream_quirk(Quirk::Redirects).get() > 0),
            (1, true),
            "{path}"
        );
    }
    // What leads on for ever, elsewhere or with another method is the answer.
    for path in
        ["/led/307/led/307/led/307/led/307/led/307/led/307/ws", "/led/307//elsewhere/ws", "/led/303/ws"]
    {
        let talker = Talker::start(echo).await;
        let edge = talker.edge_at(path);
        let session = edge.session("2025-11-25", "{}").await;
        let refused = call(&edge, &session, CALL).await;
        assert_eq!(refused.error_code(), -31104, "{path}: {refused:?}");
        assert!(talker.said("initialize").is_empty());
    }
}
