//! Bytes are relayed, not re-typed: both eras, both directions, JSON and streams.

use crate::support::{Edge, META, Upstream, events, json, modern};

const ODD: &str =
    r#"{"z" : 123456789012345678901234567890.5e-3,"a":[ 1,2 ],"é\u00e9":null, "future":{"x":true}}"#;

/// An upstream that answers with its params and what else a future revision may say.
async fn echoing() -> Upstream {
    Upstream::start(|request| {
        let body = &request.body;
        let arguments = &body[body.find("\"arguments\":").unwrap() + 12..body.find(",\"more\"").unwrap()];
        json(&format!(r#"{{"result":{{"content":[],"structuredContent":{arguments},"vendor":2}}, "jsonrpc":"2.0","x":[],"id":{}}}"#, request.id()))
    })
    .await
}

#[tokio::test]
async fn a_legacy_call_changes_only_name_and_ids() {
    let upstream = echoing().await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")];
    let call = |name: &str, id: &str| {
        format!(
            r#" {{"params":{{"name":"{name}","arguments":{ODD},"more":[1]}},"method":"tools/call","id":{id},"jsonrpc":"2.0","y":0}}"#
        )
    };
    let reply = edge.post(&headers, &call("u_echo", r#""my id""#)).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/json");
    let expected = format!(
        r#"{{"result":{{"content":[],"structuredContent":{ODD},"vendor":2}}, "jsonrpc":"2.0","x":[],"id":"my id"}}"#
    );
    assert_eq!(reply.body, expected);
    let sent = &upstream.calls("tools/call")[0];
    assert_eq!(sent.body, call("echo", &sent.id()));
    assert_eq!((sent.header("mcp-session-id"), sent.header("mcp-protocol-version")), ("up-0", "2025-11-25"));
    assert_eq!(sent.header("authorization"), "");
}

#[tokio::test]
async fn a_modern_call_changes_only_the_name() {
    let upstream = echoing().await;
    let edge = Edge::start(&upstream.url);
    let call = |name: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","params":{{"name":"{name}","arguments":{ODD},"more":[1],{META}}},"id":-7,"method":"tools/call"}}"#
        )
    };
    let mut headers = modern("tools/call", Some("u_echo"));
    headers.extend([("traceparent", "00-1-2-01"), ("mcp-param-x", "1"), ("cookie", "secret")]);
    let reply = edge.post(&headers, &call("u_echo")).await;
    let expected = format!(
        r#"{{"result":{{"content":[],"structuredContent":{ODD},"vendor":2}}, "jsonrpc":"2.0","x":[],"id":-7}}"#
    );
    assert_eq!((reply.status, reply.body), (200, expected));
    let sent = &upstream.requests()[0];
    assert_eq!(sent.body, call("echo"));
    let header = |name: &str| sent.header(name).to_owned();
    assert_eq!(
        [header("mcp-method"), header("mcp-name"), header("traceparent"), header("mcp-param-x")],
        ["tools/call", "echo", "00-1-2-01", "1"]
    );
    assert_eq!(header("cookie"), "");
}

#[tokio::test]
async fn streams_stay_streams_and_progress_finds_its_call() {
    let upstream = Upstream::start(|request| {
        let token = request.json()["params"]["_meta"]["progressToken"].to_string();
        events(&[
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":1,"progressToken":{token}}}}}"#),
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1,"progressToken":"foreign"}}"#.into(),
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#.into(),
            format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()),
        ])
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-06-18", "{}").await;
    let body = r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"u_echo","_meta":{"progressToken":"mine"}}}"#;
    let reply = edge.post(&[("mcp-session-id", &session)], body).await;
    assert_eq!(reply.header("content-type"), "text/event-stream");
    assert_eq!(reply.header("x-accel-buffering"), "no");
    assert_eq!(
        reply.messages(),
        [
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1,"progressToken":"mine"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#,
            r#"{"jsonrpc":"2.0","id":9,"result":{}}"#,
        ]
    );
}

#[tokio::test]
async fn resources_are_read_under_their_exposed_uris() {
    let upstream = Upstream::start(|request| {
        let uri = request.json()["params"]["uri"].to_string();
        json(&format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"contents":[{{"uri":{uri},"text":"x"}},{{"text":"y","uri":"file:///q"}}],"cacheScope":"public"}}}}"#,
            request.id()
        ))
    })
    .await;
    let edge = Edge::start(&upstream.url);
    for uri in ["file:///r", "file:///t/1"] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{{"uri":"u+{uri}",{META}}}}}"#
        );
        let exposed = format!("u+{uri}");
        let reply = edge.post(&modern("resources/read", Some(&exposed)), &body).await;
        let expected = format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"contents":[{{"uri":"u+{uri}","text":"x"}},{{"text":"y","uri":"u+file:///q"}}],"cacheScope":"private"}}}}"#
        );
        assert_eq!((reply.status, reply.body), (200, expected));
    }
    let names: Vec<String> =
        upstream.requests().iter().map(|sent| sent.header("mcp-name").to_owned()).collect();
    assert_eq!(names, ["file:///r", "file:///t/1"]);
}

#[tokio::test]
async fn prompts_and_completions_lead_to_what_they_name() {
    let upstream = Upstream::start(|request| {
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()))
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-11-25", "{}").await;
    for (body, path, expected) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"u_p"}}"#, "/params/name", "p"),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"u_p"},"argument":{}}}"#,
            "/params/ref/name",
            "p",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/resource","uri":"u+file:///t/{id}"},"argument":{}}}"#,
            "/params/ref/uri",
            "file:///t/{id}",
        ),
    ] {
        let reply = edge.post(&[("mcp-session-id", &session)], body).await;
        assert_eq!(reply.body, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, "{body}");
        let sent = upstream.requests().pop().unwrap().json();
        assert_eq!(sent.pointer(path).unwrap(), expected);
    }
}

#[tokio::test]
async fn errors_of_the_upstream_arrive_as_it_wrote_them() {
    let upstream = Upstream::start(|request| {
        json(&format!(
            r#"{{"jsonrpc":"2.0","error":{{"code":-32042,"message":"m","data":{{"k":[1]}},"x":1}},"id":{}}}"#,
            request.id()
        ))
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let session = edge.session("2025-11-25", "{}").await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo"}}"#;
    let reply = edge.post(&[("mcp-session-id", &session)], body).await;
    let expected = r#"{"jsonrpc":"2.0","error":{"code":-32042,"message":"m","data":{"k":[1]},"x":1},"id":1}"#;
    assert_eq!((reply.status, reply.body.as_str()), (200, expected));
}
