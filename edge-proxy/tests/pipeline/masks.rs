//! Masks of results: on every transport, in every era and between them, of tasks and of what goes on, whatever an upstream sends.

use std::sync::Mutex;

use serde_json::{Value, json};
use trunkline::edge::v1 as wire;

use crate::conditions::{Client, value};
use crate::eras::{ask, legacy_only, modern_only, next_message, open_stream};
use crate::streams::until;
use crate::support::{Edge, Recorded, Upstream, events, json as answer, making, mcp, modern, never, status};
use crate::withdrawn::{before, endless, rest};

const RESULT: &str = r#"{"structuredContent":{"email":"ann@example.org","people":[{"iban":"DE1","n":1.50}]},"content":[{"type":"text","text":"{\"email\":\"ann@example.org\",\"n\":1}"},{"type":"text","text":"ann@example.org"},{"type":"image","data":"AA==","mimeType":"image/png"}],"_meta":{"found":"ann@example.org"}}"#;
const SHOWN: &str = r#""structuredContent":{"email":"[masked]","people":[{"iban":"[masked]","n":1.50}]},"content":[{"type":"text","text":"{\"email\":\"[masked]\",\"people\":[{\"iban\":\"[masked]\",\"n\":1.50}]}"},{"type":"text","text":"[left out by the rule people]"}]"#;
const LOG: &str = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"ann@example.org"}}"#;
const BY_LEVEL: &str = "args.level > 3";
const KNOWS: &str = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;

fn mask(when: &str) -> wire::CompiledRule {
    wire::CompiledRule {
        id: "servers/dev/rules/people".into(),
        effect: wire::CompiledEffect::Mask.into(),
        when: when.into(),
        fields: vec!["email".into(), "people.*.iban".into()],
        ..wire::CompiledRule::default()
    }
}

fn masked(mut edge: Edge, when: &str) -> Edge {
    edge.snapshot.rule(vec![mask(when)]);
    edge.publish();
    edge
}

/// Another tool of the upstream takes the name `u_echo` at the server, as its writer may decide.
fn give_name_away(edge: &mut Edge) {
    let other = edge.snapshot.resources.tools[1].name.clone();
    let server = &mut edge.snapshot.resources.servers[0];
    let tools = server.ruled.as_mut().map_or(&mut server.tools, |ruled| &mut ruled.tools);
    tools.iter_mut().find(|entry| entry.exposed_name == "u_echo").unwrap().target = other;
    edge.publish();
}

fn response(request: &Recorded, member: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},{member}}}"#, request.id())
}

fn result(request: &Recorded) -> String {
    response(request, &format!(r#""result":{RESULT}"#))
}

/// Logs and gives a result for a call.
async fn telling() -> Upstream {
    Upstream::start(|request| match request.json()["params"]["arguments"]["level"].as_u64() {
        Some(level) if level > 3 => events(&[LOG.to_owned(), result(request)]),
        _ => answer(&result(request)),
    })
    .await
}

#[tokio::test]
async fn a_result_is_masked_on_every_transport_and_in_every_era() {
    let upstream = telling().await;
    let shown: Value = serde_json::from_str(&format!("{{{SHOWN}}}")).unwrap();
    let rule = |edge: &mut Edge| edge.snapshot.rule(vec![mask(BY_LEVEL)]);
    for (what, mut client) in Client::all_at(&upstream, rule).await {
        let listed = client.ask("tools/list", "", None).await;
        assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), 4, "{what}: nothing is hidden");
        for (level, expected) in [(3, value(RESULT)), (4, shown.clone())] {
            let params = format!(r#""name":"u_echo","arguments":{{"level":{level}}},"#);
            let mut called = client.ask("tools/call", &params, Some("u_echo")).await;
            if let Some(result) = called["result"].as_object_mut() {
                result.remove("resultType");
            }
            assert_eq!(called, json!({"jsonrpc": "2.0", "id": 1, "result": expected}), "{what}");
        }
        let params = r#""name":"u_echo","arguments":{},"#;
        let undecided = client.ask("tools/call", params, Some("u_echo")).await;
        assert_eq!(undecided["error"]["data"], json!({"reason": "policy_error"}), "{what}");
    }
    assert_eq!(upstream.calls("tools/call").len(), 10);
}

#[tokio::test]
async fn errors_progress_and_what_cannot_be_read_quote_nothing() {
    let upstream = Upstream::start(|request| {
        let token = &request.json()["params"]["_meta"]["progressToken"];
        let progress = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":0.50,"message":"ann@example.org"}}}}"#
        );
        let error = response(request, r#""error":{"code":-32000,"message":"ann@example.org","data":["ann@example.org"]}"#);
        match request.json()["params"]["arguments"]["a"].as_str() {
            Some("error") => events(&[progress, LOG.to_owned(), error]),
            Some("text") => answer("the address of Ann is ann@example.org"),
            Some("broken") => answer(&result(request).replace("}]}", "}}")),
            _ => events(&[r#"{"email":"ann@example.org","#.into(), result(request).replace("}]}", "}}")]),
        }
    })
    .await;
    let edge = masked(Edge::start(&upstream.url), "");
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let call = |what: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"u_echo","arguments":{{"a":"{what}"}},"_meta":{{"progressToken":"t"}}}}}}"#
        )
    };
    let failed = r#"{"jsonrpc":"2.0","id":"c","error":{"code":-32000,"message":"the message is left out by the rule people"}}"#;
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":0.50}}"#;
    let reply = edge.post(&headers, &call("error")).await;
    assert_eq!(reply.messages(), [progress, failed]);
    let unreadable = r#"{"jsonrpc":"2.0","id":"c","error":{"code":-31105,"message":"upstream u: sent a response that is not valid MCP: what it sent is masked","data":{"reason":"upstream_malformed","upstream":"u"}}}"#;
    for what in ["text", "broken", "stream"] {
        assert_eq!(edge.post(&headers, &call(what)).await.messages(), [unreadable], "{what}");
    }
}

/// A task of 2025-11-25, of an upstream and a client of that era.
#[tokio::test]
async fn a_task_is_masked_at_any_edge_also_where_its_arguments_are_gone() {
    let stands = r#"{"taskId":"t 1","status":"working","statusMessage":"ann@example.org"}"#;
    let upstream = Upstream::start(move |request| match request.method().as_str() {
        "tasks/result" => events(&[
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{stands}}}"#),
            result(request),
        ]),
        "tasks/get" => answer(&response(request, &format!(r#""result":{stands}"#))),
        _ => making(request, "working"),
    })
    .await;
    let tasks = || {
        let mut edge = Edge::start(&upstream.url);
        edge.make_tasks("optional");
        masked(edge, BY_LEVEL)
    };
    let (edge, mut elsewhere) = (tasks(), tasks());
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let about = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":3,"method":"{method}","params":{{{params}}}}}"#)
    };
    let call = about("tools/call", r#""name":"u_echo","arguments":{"level":3},"task":{"ttl":60000}"#);
    let begun = value(&edge.post(&headers, &call).await.body);
    let id = begun["result"]["task"]["taskId"].as_str().unwrap();
    let task = format!(r#""taskId":"{id}""#);
    let got = elsewhere.post(&headers, &about("tasks/get", &task)).await;
    assert_eq!(got.body, format!(r#"{{"jsonrpc":"2.0","id":3,"result":{{{task},"status":"working"}}}}"#));
    let done = elsewhere.post(&headers, &about("tasks/result", &task)).await;
    assert_eq!(
        done.messages(),
        [
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{{{task},"status":"working"}}}}"#
            ),
            format!(r#"{{"jsonrpc":"2.0","id":3,"result":{{{SHOWN}}}}}"#)
        ]
    );
    give_name_away(&mut elsewhere);
    for method in ["tasks/get", "tasks/result"] {
        let unknown = elsewhere.post(&headers, &about(method, &task)).await;
        let expected =
            json!({"jsonrpc": "2.0", "id": 3, "error": {"code": -32602, "message": "unknown task"}});
        assert_eq!(value(&unknown.body), expected, "{method}");
    }
}

/// A modern client, whose upstream makes tasks of the legacy era: one that the edge waits for, and one that it hands over.
#[tokio::test]
async fn a_legacy_task_is_masked_for_a_modern_client() {
    let upstream = Upstream::start(|request| match request.method().as_str() {
        "tasks/result" => answer(&result(request)),
        _ => making(request, "completed"),
    })
    .await;
    let call = |knows: &str| ask("7", "tools/call", r#""name":"u_echo","#, knows, "");
    let headers = modern("tools/call", Some("u_echo"));
    let complete = format!(r#"{{"resultType":"complete",{SHOWN}}}"#);
    let mut waiting = legacy_only(&upstream);
    waiting.make_tasks("required");
    let reply = masked(waiting, "").post(&headers, &call("{}")).await;
    assert_eq!(reply.messages(), [format!(r#"{{"jsonrpc":"2.0","id":7,"result":{complete}}}"#)]);

    let mut handing = legacy_only(&upstream);
    handing.make_tasks("optional");
    let edge = masked(handing, "");
    let handed = value(&edge.post(&headers, &call(KNOWS)).await.body);
    let id = handed["result"]["taskId"].as_str().unwrap_or_else(|| panic!("{handed}"));
    let get = ask("7", "tasks/get", &format!(r#""taskId":"{id}","#), KNOWS, "");
    let got = edge.post(&modern("tasks/get", Some(id)), &get).await;
    let task = format!(
        r#""taskId":"{id}","status":"completed","createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:01Z","ttlMs":60000,"pollIntervalMs":50"#
    );
    let expected = format!(
        r#"{{"jsonrpc":"2.0","id":7,"result":{{{task},"resultType":"complete","result":{complete}}}}}"#
    );
    assert_eq!(got.body, expected);
    // The stream that tells of it has no more.
    let params = format!(r#""notifications":{{"taskIds":["{id}"]}},"#);
    let listen = ask("\"l\"", "subscriptions/listen", &params, KNOWS, "");
    let mut stream =
        edge.request("POST", &modern("subscriptions/listen", None), &listen).send().await.unwrap();
    assert!(next_message(&mut stream).await.contains("acknowledged"));
    let told = value(&next_message(&mut stream).await);
    assert_eq!(told["params"]["result"], value(&complete));
}

/// A modern upstream that makes a task, and tells of it to who listens.
#[tokio::test]
async fn a_modern_task_is_masked_for_who_asks_and_who_listens() {
    let upstream = Upstream::start(|request| {
        let task = format!(
            r#""taskId":"t 1","status":"completed","statusMessage":"ann@example.org","result":{RESULT}"#
        );
        match request.method().as_str() {
            "subscriptions/listen" => {
                let meta = format!(
                    r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{},"k":"ann@example.org"}}"#,
                    request.id()
                );
                let acknowledged = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"notifications":{{}},{meta}}}}}"#
                );
                let told = format!(r#"{{"jsonrpc":"2.0","method":"notifications/tasks","params":{{{task},{meta}}}}}"#);
                open_stream(&format!("data: {acknowledged}\n\ndata: {told}\n\n"))
            }
            "tasks/get" => answer(&response(request, &format!(r#""result":{{"resultType":"complete",{task}}}"#))),
            _ => answer(&response(request, r#""result":{"resultType":"task","taskId":"t 1","status":"working"}"#)),
        }
    })
    .await;
    let mut edge = modern_only(&upstream);
    mcp(&mut edge.snapshot.resources.upstreams[0]).modern_capabilities_json = KNOWS.into();
    let edge = masked(edge, "");
    let call = ask("7", "tools/call", r#""name":"u_echo","#, KNOWS, "");
    let begun = value(&edge.post(&modern("tools/call", Some("u_echo")), &call).await.body);
    let id = begun["result"]["taskId"].as_str().unwrap_or_else(|| panic!("{begun}"));
    let task = format!(r#""taskId":"{id}","status":"completed","result":{{{SHOWN}}}"#);
    let get = ask("7", "tasks/get", &format!(r#""taskId":"{id}","#), KNOWS, "");
    let got = edge.post(&modern("tasks/get", Some(id)), &get).await;
    assert_eq!(
        got.body,
        format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"resultType":"complete",{task}}}}}"#)
    );
    let params = format!(r#""notifications":{{"taskIds":["{id}"]}},"#);
    let listen = ask("\"l\"", "subscriptions/listen", &params, KNOWS, "");
    let mut stream =
        edge.request("POST", &modern("subscriptions/listen", None), &listen).send().await.unwrap();
    assert!(next_message(&mut stream).await.contains("acknowledged"));
    let subscription = r#""_meta":{"io.modelcontextprotocol/subscriptionId":"l"}"#;
    let told =
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/tasks","params":{{{task},{subscription}}}}}"#);
    assert_eq!(next_message(&mut stream).await, told);
}

/// What a modern tool returns may be no object, and becomes text for a legacy client.
#[tokio::test]
async fn a_modern_result_is_masked_for_a_legacy_client() {
    let upstream = Upstream::start(|request| {
        let result = r#"{"resultType":"complete","content":[],"structuredContent":[{"email":"ann@example.org","iban":"DE1"}]}"#;
        answer(&response(request, &format!(r#""result":{result}"#)))
    })
    .await;
    let mut edge = modern_only(&upstream);
    let mut rule = mask("");
    rule.fields = vec!["*.email".into()];
    edge.snapshot.rule(vec![rule]);
    edge.publish();
    let session = edge.session("2025-11-25", "{}").await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo"}}"#;
    let called = edge.post(&[("mcp-session-id", &session)], call).await;
    let text = r#"[{\"email\":\"[masked]\",\"iban\":\"DE1\"}]"#;
    let content = format!(r#"[{{"type":"text","text":"{text}"}}]"#);
    let message = value(called.messages().last().unwrap());
    assert_eq!(message["result"]["content"], value(&content), "{message}");
    assert!(!called.body.contains("ann@example.org"), "{}", called.body);
}

/// The stream of a call, resumed at another edge, which has not seen its arguments.
#[tokio::test]
async fn a_resumed_stream_is_masked() {
    let number = Mutex::new(String::new());
    let upstream = Upstream::start(move |request| match request.verb.as_str() {
        "GET" if request.header("last-event-id").is_empty() => never(),
        "GET" => {
            let number = number.lock().unwrap();
            open_stream(&format!(
                "id: e/2\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{number},\"result\":{RESULT}}}\n\n"
            ))
        }
        _ if request.method() == "tools/call" => {
            *number.lock().unwrap() = request.id();
            open_stream("id: e/1\nretry: 20\ndata:\n\n")
        }
        _ => status(202, ""),
    })
    .await;
    let (edge, mut elsewhere) = (masked(before(&upstream), BY_LEVEL), masked(before(&upstream), BY_LEVEL));
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let call = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"u_echo","arguments":{"level":3}}}"#;
    let mut broken = edge.request("POST", &headers, call).send().await.unwrap();
    let primed = until(&mut broken, "\n\n").await;
    drop(broken);
    let id = primed.strip_prefix("id: ").and_then(|rest| rest.lines().next()).unwrap();
    let again = [headers[0], ("last-event-id", id)];
    let mut resumed = elsewhere.request("GET", &again, "").send().await.unwrap();
    let told = until(&mut resumed, "people]\"}]}}").await;
    let data = told.lines().rfind(|line| line.starts_with("data: {")).unwrap();
    assert_eq!(&data["data: ".len()..], format!(r#"{{"jsonrpc":"2.0","id":"c","result":{{{SHOWN}}}}}"#));
    // Answered like an id that no edge ever gave: what no request asked for begins.
    give_name_away(&mut elsewhere);
    let mut other = elsewhere.request("GET", &again, "").send().await.unwrap();
    assert_eq!(until(&mut other, "\n\n").await, "id: 0\ndata:\n\n");
}

#[tokio::test]
async fn a_running_call_ends_when_its_name_is_given_to_another_tool() {
    let upstream = endless().await;
    let mut edge = before(&upstream);
    let session = edge.session("2025-11-25", "{}").await;
    let call = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"u_echo","_meta":{"progressToken":"t"}}}"#;
    let mut stream = edge.request("POST", &[("mcp-session-id", &session)], call).send().await.unwrap();
    until(&mut stream, r#""progressToken":"t""#).await;
    give_name_away(&mut edge);
    let stream = rest(stream).await;
    let last = stream.lines().rfind(|line| line.starts_with("data: ")).unwrap();
    assert_eq!(
        value(&last["data: ".len()..]),
        json!({"jsonrpc": "2.0", "id": "c", "error": {"code": -32602, "message": "unknown tool: u_echo"}})
    );
    drop(edge);
}

#[tokio::test]
async fn a_running_call_ends_under_a_mask_that_it_did_not_begin_with() {
    let upstream = endless().await;
    let mut edge = before(&upstream);
    let session = edge.session("2025-11-25", "{}").await;
    let call = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"u_echo","_meta":{"progressToken":"t"}}}"#;
    let mut stream = edge.request("POST", &[("mcp-session-id", &session)], call).send().await.unwrap();
    until(&mut stream, r#""progressToken":"t""#).await;
    edge = masked(edge, "");
    let stream = rest(stream).await;
    let last = stream.lines().rfind(|line| line.starts_with("data: ")).unwrap();
    let told =
        "a rule of this server does not allow this: a rule masks its result since it began; call again";
    assert_eq!(
        value(&last["data: ".len()..])["error"],
        json!({"code": -31012, "message": told, "data": {"reason": "denied_by_rule"}})
    );
    drop(edge);
}
