//! Tools that are tasks in one era, for clients of the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::eras::{ask, legacy_only, modern_only, next_message, open_stream};
use crate::support::{
    Edge, Recorded, Upstream, events, eventually, json, making, mcp, modern, never, status,
};

const RELATED: &str = r#""_meta":{"k":1,"io.modelcontextprotocol/related-task":{"taskId":"t 1"}}"#;
const PROGRESS: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":0.50}}"#;
const DONE: &str =
    r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":[],"_meta":{"k":1}}}"#;

/// An edge whose upstream takes calls of `u_echo` as tasks alone.
fn required(upstream: &Upstream) -> Edge {
    let mut edge = legacy_only(upstream);
    edge.make_tasks("required");
    edge
}

fn call(capabilities: &str, meta: &str) -> String {
    ask("7", "tools/call", r#""name":"u_echo","arguments":{"a":1.0},"#, capabilities, meta)
}

/// The result of a task, as its server tells it.
fn result(request: &Recorded) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[],{RELATED}}}}}"#, request.id())
}

#[tokio::test]
async fn a_modern_call_of_a_tool_that_is_a_task_is_answered_with_its_result() {
    let token = Mutex::new(String::new());
    let upstream = Upstream::start(move |request| {
        if request.method() != "tasks/result" {
            *token.lock().unwrap() = request.id();
            return making(request, "working");
        }
        let progress = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{},"progress":0.50}}}}"#,
            token.lock().unwrap()
        );
        events(&[progress, result(request)])
    })
    .await;
    let edge = required(&upstream);
    let body = call("{}", r#","progressToken":"p""#);
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &body).await;
    assert_eq!((reply.status, reply.messages()), (200, vec![PROGRESS.to_owned(), DONE.to_owned()]));
    let (called, asked) = (&upstream.calls("tools/call")[0], &upstream.calls("tasks/result")[0]);
    let id = called.id();
    assert_ne!(id, asked.id());
    let params =
        format!(r#"{{"name":"echo","arguments":{{"a":1.0}},"_meta":{{"progressToken":{id}}},"task":{{}}}}"#);
    assert_eq!(
        called.body,
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#)
    );
    let expected = format!(
        r#"{{"jsonrpc":"2.0","id":{},"method":"tasks/result","params":{{"taskId":"t 1"}}}}"#,
        asked.id()
    );
    assert_eq!((&asked.body, asked.header("mcp-session-id")), (&expected, "up-0"));
    assert_eq!(upstream.calls("tasks/cancel").len(), 0);
}

#[tokio::test]
async fn a_tool_that_may_be_a_task_is_called_as_none() {
    let upstream = Upstream::start(|request| {
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[],{RELATED}}}}}"#, request.id()))
    })
    .await;
    let mut edge = legacy_only(&upstream);
    // The last says so of its tools, and nothing of tasks.
    for support in ["optional", "forbidden", "required"] {
        edge.make_tasks(support);
        if support == "required" {
            mcp(&mut edge.snapshot.resources.upstreams[0]).legacy_capabilities_json =
                r#"{"tools":{}}"#.into();
            edge.publish();
        }
        let reply = edge.post(&modern("tools/call", Some("u_echo")), &call("{}", "")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let called = upstream.calls("tools/call").pop().unwrap();
        let expected = format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{{"name":"echo","arguments":{{"a":1.0}}}}}}"#,
            called.id()
        );
        assert_eq!(called.body, expected, "{support}");
    }
}

#[tokio::test]
async fn a_result_that_is_cut_off_is_asked_for_again_when_the_task_is_over() {
    let (asked, looked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let upstream = Upstream::start(move |request| match request.method().as_str() {
        "tasks/result" if asked.fetch_add(1, Ordering::SeqCst) == 0 => status(504, "<html>"),
        "tasks/result" => json(&result(request)),
        "tasks/get" => match looked.fetch_add(1, Ordering::SeqCst) {
            0 => making(request, "working"),
            1 => status(502, ""),
            2 => making(request, "working"),
            _ => making(request, "completed"),
        },
        _ => making(request, "working"),
    })
    .await;
    let edge = required(&upstream);
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &call("{}", "")).await;
    assert_eq!((reply.status, reply.messages()), (200, vec![DONE.to_owned()]));
    assert!(reply.header("content-type").starts_with("text/event-stream"));
    let results = upstream.calls("tasks/result");
    assert_eq!((results.len(), upstream.calls("tasks/get").len()), (2, 4));
    assert_ne!(results[0].id(), results[1].id());
    assert_eq!((upstream.calls("tools/call").len(), upstream.calls("tasks/cancel").len()), (1, 0));
}

#[tokio::test]
async fn a_task_that_its_server_forgot_is_a_lost_call() {
    let upstream = Upstream::start(|request| match request.method().as_str() {
        "tasks/result" => never(),
        "tasks/get" => json(&format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32602,"message":"unknown task"}}}}"#,
            request.id()
        )),
        _ => making(request, "working"),
    })
    .await;
    let edge = required(&upstream);
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &call("{}", "")).await;
    let expected = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-31109,"message":"upstream u: the call that waited for this input is lost","data":{"reason":"upstream_call_lost","upstream":"u","retryable":false}}}"#;
    assert_eq!((reply.status, reply.messages()), (200, vec![expected.to_owned()]));
    assert_eq!(upstream.calls("tools/call").len(), 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_has_cancelled_the_task_once() {
    let upstream = Upstream::start(|request| match request.method().as_str() {
        "tasks/result" => never(),
        _ => making(request, "working"),
    })
    .await;
    let edge = required(&upstream);
    let hasty = edge.request("POST", &modern("tools/call", Some("u_echo")), &call("{}", ""));
    let mut stream = hasty.send().await.unwrap();
    eventually("the task is followed", || !upstream.calls("tasks/get").is_empty()).await;
    let waited = tokio::time::timeout(Duration::ZERO, stream.chunk()).await;
    assert!(waited.is_err(), "{waited:?}");
    drop(stream);
    eventually("the task is cancelled", || !upstream.calls("tasks/cancel").is_empty()).await;
    edge.nothing_is_left().await;
    let cancelled = upstream.calls("tasks/cancel");
    let expected = format!(
        r#"{{"jsonrpc":"2.0","id":{},"method":"tasks/cancel","params":{{"taskId":"t 1"}}}}"#,
        cancelled[0].id()
    );
    assert_eq!((cancelled.len(), &cancelled[0].body), (1, &expected));
    assert!(!upstream.calls("tasks/get").is_empty());
    assert_eq!(upstream.calls("notifications/cancelled").len(), 0);
}

#[tokio::test]
async fn a_server_that_makes_no_task_after_all_has_answered() {
    let upstream = Upstream::start(|request| {
        let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error"}}"#;
        match request.json()["params"]["arguments"]["a"].as_f64() {
            Some(1.0) => {
                json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, request.id()))
            }
            _ => events(&[
                log.to_owned(),
                format!(
                    r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32601,"message":"no"}}}}"#,
                    request.id()
                ),
            ]),
        }
    })
    .await;
    let edge = required(&upstream);
    let headers = modern("tools/call", Some("u_echo"));
    let level = r#","io.modelcontextprotocol/logLevel":"info""#;
    let done = r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":[]}}"#;
    let reply = edge.post(&headers, &call("{}", level)).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, done));
    let reply = edge.post(&headers, &call("{}", level).replace("1.0", "2")).await;
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error"}}"#;
    let failed = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no"}}"#;
    assert_eq!((reply.status, reply.messages()), (200, vec![log.to_owned(), failed.to_owned()]));
    assert_eq!(upstream.calls("tasks/result").len(), 0);
}

#[tokio::test]
async fn a_task_that_asks_something_is_gone_on_with_at_any_edge() {
    let question = |id: u32| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"elicitation/create","params":{{"message":"?",{RELATED}}}}}"#
        )
    };
    let (asked, call_id) = (Arc::new(AtomicUsize::new(0)), Mutex::new(String::new()));
    let results = Arc::clone(&asked);
    let upstream = Upstream::start(move |request| match request.method().as_str() {
        "tasks/result" => match results.fetch_add(1, Ordering::SeqCst) {
            0 => open_stream(&format!("data: {}\n\ndata: {}\n\n", question(1), question(2))),
            _ => {
                let progress = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{},"progress":0.50}}}}"#,
                    call_id.lock().unwrap()
                );
                events(&[progress, result(request)])
            }
        },
        "tools/call" => {
            *call_id.lock().unwrap() = request.id();
            making(request, "working")
        }
        "tasks/get" if asked.load(Ordering::SeqCst) > 1 => making(request, "completed"),
        _ => making(request, "input_required"),
    })
    .await;
    let headers = modern("tools/call", Some("u_echo"));
    let here = required(&upstream);
    let reply = here.post(&headers, &call(r#"{"elicitation":{}}"#, "")).await;
    let parked: serde_json::Value = serde_json::from_str(&reply.messages()[0]).unwrap();
    let state = parked["result"]["requestState"].as_str().unwrap();
    let asked = |number: u32| {
        format!(
            r#""question-{number}":{{"method":"elicitation/create","params":{{"message":"?","_meta":{{"k":1}}}}}}"#
        )
    };
    let expected = format!(
        r#"{{"jsonrpc":"2.0","id":7,"result":{{"resultType":"input_required","inputRequests":{{{},{}}},"requestState":"{state}"}}}}"#,
        asked(1),
        asked(2)
    );
    assert_eq!((reply.status, reply.messages()), (200, vec![expected.clone()]));
    let left = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{},"reason":"waiting for input from the client"}}}}"#,
        upstream.calls("tasks/result")[0].id()
    );
    upstream.received(&left).await;

    let bring = |answers: &str, meta: &str| {
        let brought = format!(
            r#""name":"u_echo","inputResponses":{{{answers}}},"requestState":"{state}","arguments":{{"a":1.0}},"#
        );
        ask("7", "tools/call", &brought, r#"{"elicitation":{}}"#, meta)
    };
    let elsewhere = required(&upstream);
    let first = r#""question-1":{"action":"accept"}"#;
    let again = elsewhere.post(&headers, &bring(first, "")).await;
    assert_eq!((again.status, again.messages()), (200, vec![expected]));
    let both = format!(r#"{first},"question-2":{{"action":"decline"}}"#);
    // The second retry brings the upstream nothing that it has not.
    for _ in 0..2 {
        let reply = elsewhere.post(&headers, &bring(&both, r#","progressToken":"p""#)).await;
        assert_eq!((reply.status, reply.messages()), (200, vec![PROGRESS.to_owned(), DONE.to_owned()]));
    }
    assert_eq!(upstream.calls("").iter().filter(|request| request.verb == "POST").count(), 2);
    for told in [
        r#"{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}"#,
        r#"{"jsonrpc":"2.0","id":2,"result":{"action":"decline"}}"#,
    ] {
        assert_eq!(upstream.received(told).await.header("mcp-session-id"), "up-0");
    }
    assert_eq!((upstream.calls("tools/call").len(), upstream.calls("tasks/cancel").len()), (1, 0));
}

/// What a client declares that knows the extension.
const KNOWS: &str = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;

/// A legacy upstream's task as a client of the extension is told it, but for its id.
fn told(id: &str, status: &str, kind: &str, more: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":7,"result":{{"taskId":"{id}","status":"{status}","createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:01Z","ttlMs":60000,"pollIntervalMs":50,"resultType":"{kind}"{more}}}}}"#
    )
}

/// A task that a client of the extension is handed, and its id.
async fn handed(edge: &Edge) -> String {
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &call(KNOWS, "")).await;
    let begun: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let id = begun["result"]["taskId"].as_str().expect(&reply.body).to_owned();
    assert!(id.len() > 40 && reply.body == told(&id, "working", "task", ""), "{reply:?}");
    id
}

async fn about(edge: &Edge, method: &str, id: &str) -> String {
    let body = ask("7", method, &format!(r#""taskId":"{id}","#), KNOWS, "");
    let reply = edge.post(&modern(method, Some(id)), &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

#[tokio::test]
async fn a_client_of_the_extension_is_handed_a_legacy_task_and_follows_it_in_its_own_words() {
    let stands = Arc::new(Mutex::new(("working", String::new())));
    let now = Arc::clone(&stands);
    let upstream = Upstream::start(move |request| {
        let (status, result) = now.lock().unwrap().clone();
        match request.method().as_str() {
            "tasks/result" => events(&[format!(r#"{{"jsonrpc":"2.0","id":{},{result}}}"#, request.id())]),
            "tasks/cancel" if status != "working" => making_nothing(request),
            "tasks/get" if status == "forgotten" => making_nothing(request),
            _ => making(request, status),
        }
    })
    .await;
    let mut edge = legacy_only(&upstream);
    edge.make_tasks("optional");
    let discovered =
        edge.post(&modern("server/discover", None), &ask("7", "server/discover", "", "{}", "")).await;
    assert!(discovered.body.contains(&KNOWS[1..KNOWS.len() - 1]), "{discovered:?}");
    let id = handed(&edge).await;
    let called = &upstream.calls("tools/call")[0];
    assert_eq!(called.json()["params"]["task"], serde_json::json!({}));
    let mut elsewhere = legacy_only(&upstream);
    elsewhere.make_tasks("optional");
    let acknowledged = r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete"}}"#;
    assert_eq!(about(&elsewhere, "tasks/cancel", &id).await, acknowledged);
    assert_eq!(about(&elsewhere, "tasks/update", &id).await, acknowledged);
    let failed = format!(r#""result":{{"content":[],"isError":true,{RELATED}}}"#);
    let result = r#","result":{"resultType":"complete","content":[],"isError":true,"_meta":{"k":1}}"#;
    for (status, upstreams, expected, more) in [
        ("working", "", "working", ""),
        ("input_required", "", "input_required", r#","inputRequests":{}"#),
        ("cancelled", "", "cancelled", ""),
        ("completed", failed.as_str(), "completed", result),
        ("failed", failed.as_str(), "completed", result),
        (
            "failed",
            r#""error":{"code":-32603,"message":"no"}"#,
            "failed",
            r#","error":{"code":-32603,"message":"no"}"#,
        ),
    ] {
        *stands.lock().unwrap() = (status, upstreams.to_owned());
        assert_eq!(
            about(&elsewhere, "tasks/get", &id).await,
            told(&id, expected, "complete", more),
            "{status}"
        );
    }
    // What is over cannot be cancelled, and need not.
    assert_eq!(about(&elsewhere, "tasks/cancel", &id).await, acknowledged);
    *stands.lock().unwrap() = ("forgotten", String::new());
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let unknown = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"unknown task"}}"#;
        assert_eq!(about(&elsewhere, method, &id).await, unknown, "{method}");
    }
    let sessions =
        |method: &str| upstream.calls(method).iter().all(|asked| asked.header("mcp-session-id") == "up-0");
    assert!(sessions("tasks/get") && sessions("tasks/result") && sessions("tasks/cancel"));
    assert_eq!(upstream.calls("tools/call").len(), 1);
}

#[tokio::test]
async fn a_listen_is_notified_of_a_legacy_task_in_the_words_of_the_extension_and_of_no_other() {
    let stands = Arc::new(Mutex::new("working"));
    let now = Arc::clone(&stands);
    let upstream = Upstream::start(move |request| match request.method().as_str() {
        "tasks/result" => json(&result(request)),
        _ => making(request, &now.lock().unwrap()),
    })
    .await;
    let mut edge = legacy_only(&upstream);
    edge.make_tasks("optional");
    let id = handed(&edge).await;
    // At another edge than the one that began it.
    let mut elsewhere = legacy_only(&upstream);
    elsewhere.make_tasks("optional");
    let listen = |ids: &str| {
        ask("\"l\"", "subscriptions/listen", &format!(r#""notifications":{{"taskIds":{ids}}},"#), KNOWS, "")
    };
    let headers = modern("subscriptions/listen", None);
    let subscription = r#""io.modelcontextprotocol/subscriptionId":"l""#;
    let acknowledged = |honoured: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"notifications":{{{honoured}}},"_meta":{{{subscription}}}}}}}"#
        )
    };
    let notified = |status: &str, more: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/tasks","params":{{"taskId":"{id}","status":"{status}","createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:01Z","ttlMs":60000,"pollIntervalMs":50{more},"_meta":{{{subscription}}}}}}}"#
        )
    };
    let mut stream =
        elsewhere.request("POST", &headers, &listen(&format!(r#"["t 1","{id}"]"#))).send().await.unwrap();
    assert_eq!(next_message(&mut stream).await, acknowledged(&format!(r#""taskIds":["{id}"]"#)));
    assert_eq!(next_message(&mut stream).await, notified("working", ""));
    // What has not changed is not told again, however often it is looked at.
    let polls = upstream.calls("tasks/get").len();
    eventually("it is polled", || upstream.calls("tasks/get").len() > polls + 3).await;
    *stands.lock().unwrap() = "input_required";
    assert_eq!(next_message(&mut stream).await, notified("input_required", r#","inputRequests":{}"#));
    *stands.lock().unwrap() = "completed";
    let result = r#","result":{"resultType":"complete","content":[],"_meta":{"k":1}}"#;
    assert_eq!(next_message(&mut stream).await, notified("completed", result));
    assert_eq!(upstream.calls("tools/call").len(), 1);
    assert!(upstream.calls("tasks/get").iter().all(|asked| asked.header("mcp-session-id") == "up-0"));

    // Nobody else is told of it, and no poll is made for them.
    let polls = upstream.calls("tasks/get").len();
    let bearer = format!("Bearer {}", edge.keys.bearer("some"));
    let theirs = listen(&format!(r#"["{id}"]"#));
    let mut theirs = edge.bare("POST", "dev", &theirs).header("authorization", bearer);
    for (name, value) in headers {
        theirs = theirs.header(name, value);
    }
    assert_eq!(next_message(&mut theirs.send().await.unwrap()).await, acknowledged(""));
    assert_eq!(upstream.calls("tasks/get").len(), polls);
}

#[tokio::test]
async fn a_task_is_polled_no_longer_than_its_stream_lasts() {
    let upstream = Upstream::start(|request| making(request, "working")).await;
    let mut edge = legacy_only(&upstream);
    edge.make_tasks("optional");
    let id = handed(&edge).await;
    let body =
        ask("1", "subscriptions/listen", &format!(r#""notifications":{{"taskIds":["{id}"]}},"#), KNOWS, "");
    let stream = edge.request("POST", &modern("subscriptions/listen", None), &body).send().await.unwrap();
    eventually("it is polled", || upstream.calls("tasks/get").len() > 2).await;
    drop(stream);
    // It is polled every 50 ms: one that goes on would be seen among so many looks.
    let (mut polls, mut unchanged) = (0, 0);
    eventually("the polling ends", || {
        let now = upstream.calls("tasks/get").len();
        unchanged = if now == polls { unchanged + 1 } else { 0 };
        polls = now;
        unchanged > 50
    })
    .await;
}

fn making_nothing(request: &Recorded) -> axum::response::Response {
    let error = r#"{"code":-32602,"message":"unknown task"}"#;
    json(&format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, request.id()))
}

#[tokio::test]
async fn a_client_of_the_extension_that_can_be_asked_is_not_handed_a_legacy_task() {
    let upstream = Upstream::start(|request| match request.method().as_str() {
        "tasks/result" => json(&result(request)),
        _ => making(request, "working"),
    })
    .await;
    let knows = KNOWS.replacen('{', r#"{"elicitation":{},"#, 1);
    let reply = required(&upstream).post(&modern("tools/call", Some("u_echo")), &call(&knows, "")).await;
    assert_eq!((reply.status, reply.messages()), (200, vec![DONE.to_owned()]));
}

#[tokio::test]
async fn a_legacy_client_gets_no_tasks_of_a_modern_upstream() {
    let upstream = Upstream::raw(|request| {
        json(&format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"complete","content":[]}}}}"#,
            request.id()
        ))
    })
    .await;
    let mut edge = modern_only(&upstream);
    mcp(&mut edge.snapshot.resources.upstreams[0]).modern_capabilities_json =
        r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#.into();
    edge.publish();
    let opened = edge.post(&[], &crate::support::initialize("2025-11-25", "{}")).await;
    assert!(!opened.body.contains("tasks"), "{}", opened.body);
    let headers = [("mcp-session-id", opened.header("mcp-session-id"))];
    let call =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo","task":{"ttl":1}}}"#;
    let answered = edge.post(&headers, call).await;
    assert_eq!(
        (answered.status, answered.body.as_str()),
        (200, r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[]}}"#)
    );
    let sent = &upstream.calls("tools/call")[0].json()["params"];
    let declared = &sent["_meta"]["io.modelcontextprotocol/clientCapabilities"];
    assert_eq!((sent.get("task"), declared), (None, &serde_json::json!({})));
    let get = r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"t"}}"#;
    assert_eq!(edge.post(&headers, get).await.error_code(), -32601);
}
