//! Legacy conversations: sessions that any edge opens, shared upstream sessions, cancelling, questions to the client.

use std::collections::HashSet;
use std::sync::Mutex;

use futures_util::StreamExt as _;

use crate::support::{Edge, PATIENCE, Reply, Upstream, events, eventually, json, status};

pub(crate) const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo"}}"#;

fn ok(request: &crate::support::Recorded) -> axum::response::Response {
    json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()))
}

#[tokio::test]
async fn initialize_is_answered_from_the_snapshot() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    for (asked, answered) in
        [("2025-03-26", "2025-03-26"), ("2026-07-28", "2025-11-25"), ("1999-01-01", "2025-11-25")]
    {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":"a","method":"initialize","params":{{"protocolVersion":"{asked}","capabilities":{{}}}}}}"#
        );
        let reply = edge.post(&[], &body).await;
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            r#"{{"jsonrpc":"2.0","id":"a","result":{{"protocolVersion":"{answered}","capabilities":{{"tools":{{"listChanged":true}},"resources":{{"listChanged":true}},"prompts":{{"listChanged":true}},"completions":{{}},"logging":{{}}}},"serverInfo":{{"name":"dev","title":"Dev","version":"{version}"}},"instructions":"Be kind."}}}}"#
        );
        assert_eq!((reply.status, &reply.body), (200, &expected));
        assert!(reply.header("mcp-session-id").bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_session_is_its_owners_alone_and_ends_when_told() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-11-25", "{}").await;
    let initialized = edge
        .post(&[("mcp-session-id", &session)], r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
        .await;
    assert_eq!((initialized.status, initialized.body.as_str()), (202, ""));
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(
        edge.post(&[("mcp-session-id", &session)], ping).await.body,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#
    );
    assert_eq!(edge.post(&[], ping).await.status, 400);
    assert_eq!(edge.post(&[("mcp-session-id", "nonsense")], ping).await.status, 404);
    let wrong = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2020-01-01")];
    assert_eq!(edge.post(&wrong, ping).await.status, 400);
    let other = format!("Bearer {}", edge.keys.bearer("some"));
    let stolen =
        edge.bare("POST", "dev", ping).header("authorization", other).header("mcp-session-id", &session);
    assert_eq!(Reply::of(stolen).await.status, 404);
    assert_eq!(Reply::of(edge.request("DELETE", &[("mcp-session-id", &session)], "")).await.status, 200);
    // Several times, because each connection may meet the other worker.
    for _ in 0..4 {
        assert_eq!(edge.post(&[("mcp-session-id", &session)], ping).await.status, 404);
    }
    assert_eq!(Reply::of(edge.request("DELETE", &[("mcp-session-id", &session)], "")).await.status, 404);
}

#[tokio::test]
async fn clients_share_an_upstream_session_only_when_they_declare_the_same() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let calls = async |capabilities: &str| {
        let session = edge.session("2025-11-25", capabilities).await;
        for _ in 0..3 {
            assert_eq!(
                edge.post(&[("mcp-session-id", &session)], CALL).await.body,
                r#"{"jsonrpc":"2.0","id":1,"result":{}}"#
            );
        }
    };
    for capabilities in ["{}", "{}", r#"{"sampling":{}}"#] {
        calls(capabilities).await;
    }
    let opened = upstream.calls("initialize");
    // Each of two workers holds its own.
    assert!((2..=4).contains(&opened.len()), "{}", opened.len());
    let mut declared: Vec<String> =
        opened.iter().map(|sent| sent.json()["params"]["capabilities"].to_string()).collect();
    declared.sort();
    declared.dedup();
    assert_eq!(declared, [r#"{"sampling":{}}"#, "{}"]);
    let calls = upstream.calls("tools/call");
    let mut ids: Vec<(String, String)> =
        calls.iter().map(|sent| (sent.header("mcp-session-id").to_owned(), sent.id())).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 9, "ids repeat within a session");
}

#[tokio::test]
async fn a_session_that_the_upstream_forgot_is_opened_anew_unnoticed() {
    for (forgetting, text) in [
        (404, "gone"),
        (
            400,
            r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}"#,
        ),
    ] {
        let seen = Mutex::new(HashSet::new());
        // Every session is good for one call.
        let upstream = Upstream::start(move |request| {
            let first = seen.lock().unwrap().insert(request.header("mcp-session-id").to_owned());
            if first { ok(request) } else { status(forgetting, text) }
        })
        .await;
        let edge = Edge::start(&upstream.url);
        let session = edge.session("2025-11-25", "{}").await;
        for _ in 0..4 {
            let reply = edge.post(&[("mcp-session-id", &session)], CALL).await;
            assert_eq!(reply.body, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        }
        assert_eq!(upstream.calls("initialize").len(), 4);
    }
}

#[tokio::test]
async fn a_refusal_that_only_speaks_of_sessions_is_no_reason_to_call_again() {
    let upstream = Upstream::start(|request| {
        let id = request.id();
        let mut refusal = json(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"Bad Request: No valid session ID provided"}}}}"#
        ));
        *refusal.status_mut() = http::StatusCode::BAD_REQUEST;
        refusal
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-11-25", "{}").await;
    for _ in 0..2 {
        let reply = edge.post(&[("mcp-session-id", &session)], CALL).await;
        assert_eq!(
            reply.body,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}"#
        );
    }
    assert_eq!(upstream.calls("tools/call").len(), 2);
}

#[tokio::test]
async fn a_stream_that_broke_off_goes_on_at_any_edge() {
    let number = Mutex::new(String::new());
    let upstream = Upstream::start(move |request| {
        if request.verb == "GET" {
            let number = number.lock().unwrap();
            return events(&[format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{}}}}"#)]);
        }
        *number.lock().unwrap() = request.id();
        let primed =
            futures_util::stream::iter([Ok(bytes::Bytes::from_static(b"id: e/1\nretry: 20\ndata:\n\n"))]);
        let open = primed.chain(futures_util::stream::pending::<Result<_, std::convert::Infallible>>());
        let body = axum::body::Body::from_stream(open);
        axum::response::Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let mut broken = edge.request("POST", &headers, CALL).send().await.unwrap();
    let primed = String::from_utf8(broken.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    drop(broken);
    let id =
        primed.strip_prefix("id: ").and_then(|rest| rest.strip_suffix("\nretry: 20\ndata: \n\n")).unwrap();
    let again = [headers[0], ("last-event-id", id)];
    let rest = Reply::of(edge.request("GET", &again, "")).await;
    assert_eq!(rest.body, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n");
    let asked = upstream.requests().into_iter().find(|request| request.verb == "GET").unwrap();
    assert_eq!((asked.header("last-event-id"), &asked.header("mcp-session-id")[..3]), ("e/1", "up-"));
}

#[tokio::test]
async fn a_question_reaches_the_client_and_its_answer_the_upstream() {
    let upstream = Upstream::start(|request| match request.method().as_str() {
        "tools/call" => events(&[
            r#"{"jsonrpc":"2.0","id":"up q","method":"elicitation/create","params":{"message":"?"}}"#.into(),
            r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#.into(),
            format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()),
        ]),
        _ => status(202, ""),
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-11-25", r#"{"elicitation":{}}"#).await;
    let headers = [("mcp-session-id", session.as_str())];
    let reply = edge.post(&headers, CALL).await;
    let messages = reply.messages();
    assert_eq!((messages.len(), messages[1].as_str()), (2, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
    let question: serde_json::Value = serde_json::from_str(&messages[0]).unwrap();
    let id = question["id"].as_str().unwrap();
    assert_eq!(
        messages[0],
        format!(
            r#"{{"jsonrpc":"2.0","id":"{id}","method":"elicitation/create","params":{{"message":"?"}}}}"#
        )
    );
    // Any edge can lead it back: here one that never saw the question.
    let answered = edge
        .post(
            &headers,
            &format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"action":"accept","x":1e400}}}}"#),
        )
        .await;
    assert_eq!((answered.status, answered.body.as_str()), (202, ""));
    // The answers to the question and to the ping travel on their own, in either order.
    let answer = r#"{"jsonrpc":"2.0","id":"up q","result":{"action":"accept","x":1e400}}"#;
    let delivered = upstream.received(answer).await;
    assert!(delivered.header("mcp-session-id").starts_with("up-"));
    upstream.received(r#"{"jsonrpc":"2.0","id":5,"result":{}}"#).await;
    let forged = edge.post(&headers, r#"{"jsonrpc":"2.0","id":"up q","result":{}}"#).await;
    assert_eq!(forged.status, 400);
}

#[tokio::test]
async fn cancelling_reaches_the_upstream_under_its_own_id() {
    let upstream = Upstream::start(|_| {
        let never = futures_util::stream::pending::<Result<bytes::Bytes, std::convert::Infallible>>();
        let body = axum::body::Body::from_stream(never);
        axum::response::Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let cancel = |id: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"reason":"r","requestId":{id}}}}}"#
        )
    };
    // Twice: by the time that the second is told, whatever else the first brought about would be.
    for count in 1..=2 {
        let body = CALL.replace(r#""id":1"#, &format!(r#""id":{count}"#));
        let call = tokio::spawn(edge.request("POST", &headers, &body).send());
        eventually("the call arrives", || upstream.calls("tools/call").len() == count).await;
        assert_eq!(edge.post(&headers, &cancel(&count.to_string())).await.status, 202);
        upstream.received(&cancel(&upstream.calls("tools/call")[count - 1].id())).await;
        call.abort();
        edge.nothing_is_left().await;
        assert_eq!(upstream.calls("notifications/cancelled").len(), count);
    }
}

#[tokio::test]
async fn a_level_is_set_where_calls_are_made() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let level = |level: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{{"level":"{level}"}}}}"#)
    };
    assert_eq!(edge.post(&headers, &level("loud")).await.error_code(), -32602);
    assert_eq!(edge.post(&headers, &level("debug")).await.body, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    // The order to every worker travels on its own.
    let told = async {
        while upstream.calls("logging/setLevel").is_empty() {
            edge.post(&headers, CALL).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("no level is set");
    assert_eq!(upstream.calls("logging/setLevel")[0].json()["params"]["level"], "debug");
}

#[tokio::test]
async fn a_batch_is_for_the_revision_that_has_them() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let batch = format!(
        r#"[{CALL},{{"jsonrpc":"2.0","method":"notifications/initialized"}}, {{"jsonrpc":"2.0","id":"b","method":"ping"}},1]"#
    );
    let session = edge.session("2025-03-26", "{}").await;
    let reply = edge.post(&[("mcp-session-id", &session)], &batch).await;
    let expected = r#"[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":"b","result":{}},{"jsonrpc":"2.0","error":{"code":-32600,"message":"a message must be an object"}}]"#;
    assert_eq!((reply.status, reply.body.as_str()), (200, expected));
    let newer = edge.session("2025-06-18", "{}").await;
    let refused = edge.post(&[("mcp-session-id", &newer)], &batch).await;
    assert_eq!((refused.status, refused.error_code()), (400, -32600));
}

#[tokio::test]
async fn forbidden_and_unknown_names_receive_the_same_response() {
    let upstream = Upstream::start(ok).await;
    let edge = Edge::start(&upstream.url);
    let bearer = format!("Bearer {}", edge.keys.bearer("some"));
    let ask = |body: String, session: String| {
        Reply::of(
            edge.bare("POST", "dev", &body)
                .header("authorization", &bearer)
                .header("mcp-session-id", session),
        )
    };
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    let session = ask(initialize.to_owned(), String::new()).await.header("mcp-session-id").to_owned();
    for (method, member, there, not_there) in [
        ("tools/call", "name", "u_other", "u_nothin"),
        ("prompts/get", "name", "u_p", "u_q"),
        ("resources/read", "uri", "u+file:///r", "u+file:///s"),
        ("resources/read", "uri", "u+file:///t/1", "u+file:///x/1"),
    ] {
        let body = |name: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"{member}":"{name}"}}}}"#)
        };
        let denied = ask(body(there), session.clone()).await;
        let unknown = ask(body(not_there), session.clone()).await;
        assert_eq!((denied.status, unknown.status), (200, 200));
        assert_eq!(denied.body.replace(there, not_there), unknown.body);
        assert!(denied.error_code() == if member == "uri" { -32002 } else { -32602 }, "{}", denied.body);
    }
    assert_eq!(ask(CALL.to_owned(), session).await.body, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(upstream.calls("tools/call").len(), 1);
}

#[tokio::test]
async fn older_clients_are_told_in_blocks_that_they_know() {
    const LINK: &str = r#"{"type":"resource_link","uri":"file:///x","name":"x.md"}"#;
    const AUDIO: &str = r#"{"type":"audio","data":"AA==","mimeType":"audio/wav"}"#;
    let upstream = Upstream::start(|request| {
        json(&format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[{AUDIO},{LINK}],"n":1e400}}}}"#,
            request.id()
        ))
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let text = r#"{"type":"text","text":"x.md: file:///x"}"#;
    let blob = r#"{"type":"resource","resource":{"uri":"audio:///0","mimeType":"audio/wav","blob":"AA=="}}"#;
    for (revision, audio, link) in [
        ("2024-11-05", blob, text),
        ("2025-03-26", AUDIO, text),
        ("2025-06-18", AUDIO, LINK),
        ("2025-11-25", AUDIO, LINK),
    ] {
        let session = edge.session(revision, "{}").await;
        let reply = edge.post(&[("mcp-session-id", &session)], CALL).await;
        let content = format!(r#"[{audio},{link}]"#);
        let expected = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":{content},"n":1e400}}}}"#);
        assert_eq!(reply.body, expected, "{revision}");
    }
}
