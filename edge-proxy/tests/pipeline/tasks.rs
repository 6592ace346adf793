//! Tasks of 2025-11-25 between clients and upstreams of that era: relayed, under ids that are their owner's alone.

use std::sync::Mutex;

use crate::support::{
    Edge, Recorded, Reply, Upstream, events, initialize, making, mcp, modern, status, task,
};

const RELATED: &str = "io.modelcontextprotocol/related-task";

fn optional(upstream: &Upstream) -> Edge {
    let mut edge = Edge::start(&upstream.url);
    edge.make_tasks("optional");
    edge
}

fn ask(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":3,"method":"{method}","params":{{{params}}}}}"#)
}

fn result(result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":3,"result":{result}}}"#)
}

/// A task that a session of `edge` begins, and the id that it is given.
async fn begun(edge: &Edge, session: &str) -> String {
    let call = ask("tools/call", r#""name":"u_echo","task":{"ttl":60000}"#);
    let reply = edge.post(&[("mcp-session-id", session)], &call).await;
    let message: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let id = message["result"]["task"]["taskId"].as_str().unwrap().to_owned();
    let expected = result(&format!(r#"{{"task":{}}}"#, task("working").replace("t 1", &id)));
    assert!(id.len() > 40 && (reply.status, &reply.body) == (200, &expected), "{reply:?}");
    id
}

#[tokio::test]
async fn tasks_are_offered_where_the_revision_and_the_upstream_have_them() {
    let upstream = Upstream::start(|request| making(request, "working")).await;
    let mut edge = optional(&upstream);
    let offered = r#""tasks":{"cancel":{},"requests":{"tools":{"call":{}}}}"#;
    let modern_too = ask("server/discover", crate::support::META);
    for (revision, offers) in [("2025-11-25", true), ("2025-06-18", false)] {
        let opened = edge.post(&[], &initialize(revision, "{}")).await;
        assert_eq!(opened.body.contains(offered), offers, "{}", opened.body);
        assert_eq!(opened.body.contains("tasks"), offers, "{}", opened.body);
        let headers = [("mcp-session-id", opened.header("mcp-session-id"))];
        let get = edge.post(&headers, &ask("tasks/get", r#""taskId":"t 1""#)).await;
        assert_eq!(get.error_code(), if offers { -32602 } else { -32601 });
        assert_eq!(edge.post(&headers, &ask("tasks/list", "")).await.error_code(), -32601);
    }
    let discovered = edge.post(&modern("server/discover", None), &modern_too).await;
    assert!(!discovered.body.contains("tasks"), "{}", discovered.body);
    mcp(&mut edge.snapshot.resources.upstreams[0]).legacy_capabilities_json =
        r#"{"tasks":{"cancel":{}}}"#.into();
    edge.publish();
    let opened = edge.post(&[], &initialize("2025-11-25", "{}")).await;
    assert!(!opened.body.contains("tasks"), "{}", opened.body);
}

#[tokio::test]
async fn a_task_is_asked_about_in_its_session_from_any_edge_by_its_owner_alone() {
    let upstream = Upstream::start(|request| making(request, "working")).await;
    let edge = optional(&upstream);
    let session = edge.session("2025-11-25", "{}").await;
    let id = begun(&edge, &session).await;
    let called = &upstream.calls("tools/call")[0];
    let params = r#"{"name":"echo","task":{"ttl":60000}}"#;
    let expected =
        format!(r#"{{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{params}}}"#, called.id());
    assert_eq!((&called.body, called.header("mcp-session-id")), (&expected, "up-0"));

    let elsewhere = optional(&upstream);
    let headers = [("mcp-session-id", session.as_str())];
    // So that it has a session of its own there.
    elsewhere.post(&headers, &ask("prompts/get", r#""name":"u_p""#)).await;
    assert_eq!(upstream.calls("prompts/get")[0].header("mcp-session-id"), "up-1");
    for (method, stands) in [("tasks/get", "working"), ("tasks/cancel", "cancelled")] {
        let about = ask(method, &format!(r#""taskId":"{id}""#));
        let reply = elsewhere.post(&headers, &about).await;
        assert_eq!((reply.status, reply.body), (200, result(&task(stands).replace("t 1", &id))));
        let sent = upstream.calls(method).pop().unwrap();
        let expected = about.replace(r#""id":3"#, &format!(r#""id":{}"#, sent.id())).replace(&id, "t 1");
        assert_eq!((&sent.body, sent.header("mcp-session-id")), (&expected, "up-0"));
    }
    let before = upstream.requests().len();
    let mut forged = id.clone();
    let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.push(last);
    for bad in [r#""taskId":"t 1""#, &format!(r#""taskId":"{forged}""#), r#""taskId":7"#, ""] {
        assert_eq!(edge.post(&headers, &ask("tasks/get", bad)).await.error_code(), -32602, "{bad}");
    }
    let bearer = format!("Bearer {}", edge.keys.bearer("some"));
    let theirs = initialize("2025-11-25", "{}");
    let opened = Reply::of(edge.bare("POST", "dev", &theirs).header("authorization", &bearer)).await;
    let stolen = ask("tasks/get", &format!(r#""taskId":"{id}""#));
    let stolen = edge.bare("POST", "dev", &stolen).header("authorization", &bearer);
    let stolen = stolen.header("mcp-session-id", opened.header("mcp-session-id"));
    assert_eq!(Reply::of(stolen).await.error_code(), -32602);
    assert_eq!(upstream.requests().len(), before);
}

#[tokio::test]
async fn a_task_whose_session_is_gone_is_asked_about_in_the_clients_own() {
    let upstream = Upstream::start(|request| match request.header("mcp-session-id") {
        "up-0" if request.method() == "tasks/get" => status(404, ""),
        _ => making(request, "completed"),
    })
    .await;
    let edge = optional(&upstream);
    let session = edge.session("2025-11-25", "{}").await;
    let id = begun(&edge, &session).await;
    let about = ask("tasks/get", &format!(r#""taskId":"{id}""#));
    let elsewhere = optional(&upstream);
    let reply = elsewhere.post(&[("mcp-session-id", &session)], &about).await;
    assert_eq!((reply.status, reply.body), (200, result(&task("completed").replace("t 1", &id))));
    let asked: Vec<_> = upstream.calls("tasks/get");
    assert_eq!(
        asked.iter().map(|asked| asked.header("mcp-session-id")).collect::<Vec<_>>(),
        ["up-0", "up-1"]
    );
}

/// Asks in the middle of the result of a task, and gives it once it was answered.
fn asking(request: &Recorded, answered: &Mutex<Option<String>>) -> axum::response::Response {
    let related = format!(r#""_meta":{{"{RELATED}":{{"taskId":"t 1"}}}}"#);
    match request.method().as_str() {
        "tasks/result" if answered.lock().unwrap().is_none() => events(&[
            format!(
                r#"{{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{{"message":"?",{related}}}}}"#
            ),
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{}}}"#,
                task("working")
            ),
            r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"another"}}"#
                .to_owned(),
            format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[],{related}}}}}"#, request.id()),
        ]),
        "" if request.verb == "GET" => status(405, ""),
        "" => {
            *answered.lock().unwrap() = Some(request.body.clone());
            status(202, "")
        }
        _ => making(request, "input_required"),
    }
}

#[tokio::test]
async fn a_result_and_what_is_asked_for_it_name_the_task_as_each_side_knows_it() {
    let answered = Mutex::new(None);
    let upstream = Upstream::start(move |request| asking(request, &answered)).await;
    let edge = optional(&upstream);
    let session = edge.session("2025-11-25", r#"{"elicitation":{}}"#).await;
    let id = begun(&edge, &session).await;
    let headers = [("mcp-session-id", session.as_str())];
    let reply = edge.post(&headers, &ask("tasks/result", &format!(r#""taskId":"{id}""#))).await;
    let messages = reply.messages();
    let asked: serde_json::Value = serde_json::from_str(&messages[0]).unwrap();
    let question = asked["id"].as_str().unwrap();
    let related = format!(r#""_meta":{{"{RELATED}":{{"taskId":"{id}"}}}}"#);
    let expected = [
        format!(
            r#"{{"jsonrpc":"2.0","id":"{question}","method":"elicitation/create","params":{{"message":"?",{related}}}}}"#
        ),
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{}}}"#,
            task("working").replace("t 1", &id)
        ),
        result(&format!(r#"{{"content":[],{related}}}"#)),
    ];
    assert_eq!((reply.status, messages), (200, expected.to_vec()));
    let answer =
        format!(r#"{{"jsonrpc":"2.0","id":"{question}","result":{{"action":"decline",{related}}}}}"#);
    assert_eq!(edge.post(&headers, &answer).await.status, 202);
    let told = answer.replace(&format!(r#""{question}""#), r#""q""#).replace(&id, "t 1");
    assert_eq!(upstream.received(&told).await.header("mcp-session-id"), "up-0");
}

#[tokio::test]
async fn task_notifications_of_other_calls_are_dropped() {
    let upstream = Upstream::start(|request| {
        events(&[
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{}}}"#,
                task("working")
            ),
            format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, request.id()),
        ])
    })
    .await;
    let edge = optional(&upstream);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let reply = edge.post(&headers, &ask("tools/call", r#""name":"u_echo""#)).await;
    assert_eq!(reply.messages(), [result(r#"{"content":[]}"#)]);
}
