//! What an upstream says on the stream of a call beside its response: relayed only where the client may be told, in
//! either era.

use std::sync::Mutex;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::eras::ask;
use crate::streams::until;
use crate::support::{Edge, PATIENCE, Recorded, Upstream, events, json, modern, speaks, status};

const VENDOR: &str = r#"{"jsonrpc":"2.0","method":"vendor/said","params":{"a":1.50}}"#;
const LOGGED: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"x"}}"#;

fn updated(method: &str, uri: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"uri":"{uri}"}}}}"#)
}

fn progress(token: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#
    )
}

/// Everything that an upstream might say during a call, and then the response.
fn talkative(request: &Recorded) -> axum::response::Response {
    match request.method().as_str() {
        "tools/call" => {}
        "" => return status(202, ""),
        _ => return json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id())),
    }
    let token = request.json()["params"]["_meta"]["progressToken"].to_string();
    let changed = |list: &str| format!(r#"{{"jsonrpc":"2.0","method":"notifications/{list}/list_changed"}}"#);
    let ask =
        |id: u8, method: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{}}}}"#);
    let mut said = vec![
        updated("notifications/resources/updated", "file:///t/1"),
        updated("notifications/resources/updated", "file:///r"),
        updated("notifications/resources/updated", "file:///t/2"),
        updated("notifications/resources/touched", "file:///t/2"),
        updated("vendor/looked", "file:///t/1"),
        updated("vendor/looked", "file:///nowhere"),
    ];
    said.extend(["tools", "prompts", "resources", "roots"].map(changed));
    said.extend([progress("999"), progress(r#""p2""#), progress(&token)]);
    said.extend([r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned(), VENDOR.to_owned()]);
    said.extend([r#"{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"t"}}"#.to_owned()]);
    said.extend([LOGGED.to_owned(), ask(5, "vendor/ask"), ask(6, "resources/read"), ask(7, "tools/call")]);
    // This client declared nothing that it could be asked.
    said.extend([ask(8, "sampling/createMessage"), ask(9, "roots/list")]);
    said.push(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, request.id()));
    events(&said)
}

/// An edge before it that speaks one era with it, and whose token may read `u+file:///t/1` alone.
fn edge_before(upstream: &Upstream, era: &str) -> Edge {
    let mut edge = Edge::start(&upstream.url);
    speaks(&mut edge.snapshot, era);
    edge.snapshot.resources.tokens[0].resources = vec!["u+file:///t/1".into()];
    edge.publish();
    edge
}

#[tokio::test]
async fn a_client_is_told_what_it_may_know_and_nothing_else() {
    for (client, upstream_era) in
        [("legacy", "legacy"), ("legacy", "modern"), ("modern", "legacy"), ("modern", "modern")]
    {
        let upstream = Upstream::start(talkative).await;
        let edge = edge_before(&upstream, upstream_era);
        let reply = if client == "legacy" {
            let session = edge.session("2025-11-25", "{}").await;
            let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo","_meta":{"progressToken":"p"}}}"#;
            edge.post(&[("mcp-session-id", &session)], call).await
        } else {
            let more = r#","progressToken":"p","io.modelcontextprotocol/logLevel":"error""#;
            let call = ask("1", "tools/call", r#""name":"u_echo","#, "{}", more);
            edge.post(&modern("tools/call", Some("u_echo")), &call).await
        };
        let mut messages = reply.messages();
        let response = messages.pop().unwrap();
        assert!(response.contains(r#""id":1,"result""#) && response.contains("content"), "{response}");
        let mut expected = vec![
            updated("notifications/resources/updated", "u+file:///t/1"),
            updated("vendor/looked", "u+file:///t/1"),
            progress(r#""p""#),
            VENDOR.to_owned(),
            LOGGED.to_owned(),
        ];
        if (client, upstream_era) == ("modern", "legacy") {
            // A modern client is told of resources on the streams of its subscriptions alone.
            expected.remove(0);
        }
        assert_eq!(messages, expected, "a {client} client at a {upstream_era} upstream");
        if upstream_era == "legacy" {
            for id in 5..=9 {
                let refused = format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"this client does not support this request"}}}}"#
                );
                upstream.received(&refused).await;
            }
        }
    }
}

/// An upstream whose reader ignores case would take the other member, which nobody checked (`encoding/json` of Go).
#[tokio::test]
async fn what_is_checked_is_what_any_upstream_reads() {
    let upstream = Upstream::start(talkative).await;
    let edge = edge_before(&upstream, "legacy");
    let session = edge.session("2025-11-25", "{}").await;
    for (method, params, said) in [
        (
            "tools/call",
            r#""name":"u_echo","Name":"other""#,
            r#"params: member \"Name\" differs from \"name\" in case only"#,
        ),
        (
            "tools/call",
            r#""name":"u_echo","ARGUMENTS":{}"#,
            r#"params: member \"ARGUMENTS\" differs from \"arguments\" in case only"#,
        ),
        (
            "tools/call",
            r#""name":"u_echo","_META":{}"#,
            r#"params: member \"_META\" differs from \"_meta\" in case only"#,
        ),
        (
            "resources/read",
            r#""uri":"u+file:///t/1","URI":"file:///r""#,
            r#"params: member \"URI\" differs from \"uri\" in case only"#,
        ),
        (
            "tasks/get",
            r#""taskId":"1","TaskId":"2""#,
            r#"params: member \"TaskId\" differs from \"taskId\" in case only"#,
        ),
        (
            "completion/complete",
            r#""ref":{"type":"ref/resource","uri":"u+file:///t/1","Uri":"x"},"argument":{"name":"a","value":""}"#,
            r#"params.ref: member \"Uri\" differs from \"uri\" in case only"#,
        ),
    ] {
        let request = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#);
        let reply = edge.post(&[("mcp-session-id", &session)], &request).await;
        assert!(reply.body.contains(said), "{method}: {}", reply.body);
    }
    let sent = upstream.requests();
    assert!(!sent.iter().any(|request| request.body.contains("differ") || request.method() == "tools/call"));
}

/// A right that is narrowed while a call runs narrows what it tells.
#[tokio::test]
async fn a_running_call_tells_of_what_may_be_read_now() {
    let (tell, told) = mpsc::unbounded_channel::<()>();
    let told = Mutex::new(Some(told));
    let upstream = Upstream::start(move |_| {
        let about = updated("notifications/resources/updated", "file:///t/1");
        let events = UnboundedReceiverStream::new(told.lock().unwrap().take().unwrap())
            .map(move |()| Ok::<_, std::convert::Infallible>(format!("data: {about}\n\ndata: {VENDOR}\n\n")));
        let response = axum::response::Response::builder().header("content-type", "text/event-stream");
        response.body(axum::body::Body::from_stream(events)).unwrap()
    })
    .await;
    let mut edge = edge_before(&upstream, "legacy");
    let session = edge.session("2025-11-25", "{}").await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo"}}"#;
    tell.send(()).unwrap();
    let mut stream = edge.request("POST", &[("mcp-session-id", &session)], call).send().await.unwrap();
    let seen = until(&mut stream, "vendor/said").await;
    assert!(seen.contains("u+file:///t/1"), "{seen}");
    edge.snapshot.resources.tokens[0].resources = vec!["u+file:///t/2".into()];
    edge.publish();
    // The worker of the call learns of it in its own time.
    let narrowed = async {
        loop {
            tell.send(()).unwrap();
            if !until(&mut stream, "vendor/said").await.contains("file:///t/1") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, narrowed).await.expect("it still tells of what may no longer be read");
}
