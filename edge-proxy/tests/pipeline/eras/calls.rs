//! Plain calls across the eras: requests, results, errors, what comes in between.

use crate::eras::{ask, legacy_only, modern_only};
use crate::support::{Recorded, Upstream, events, eventually, json, modern};

fn answer(request: &Recorded, result: &str) -> axum::response::Response {
    json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request.id()))
}

const CLIENT: &str = r#""io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"}"#;

#[tokio::test]
async fn a_modern_call_of_a_legacy_tool_changes_only_what_the_eras_say_differently() {
    let result =
        r#"{"content":[{"type":"text","text":"\u00e9"}],"structuredContent":{"n":1e400},"_meta":{"k":1}}"#;
    let upstream = Upstream::start(move |request| answer(request, result)).await;
    let edge = legacy_only(&upstream);
    let more = r#","io.modelcontextprotocol/clientInfo":{"name":"c","version":"2"},"progressToken":"p\u00e9","x.y/k": 1.50"#;
    let call =
        ask(r#""a""#, "tools/call", r#""name":"u_echo", "arguments":{"a":1.0},"#, r#"{"sampling":{}}"#, more);
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &call).await;
    let result = result.replacen('{', r#"{"resultType":"complete","#, 1);
    assert_eq!(
        (reply.status, reply.body),
        (200, format!(r#"{{"jsonrpc":"2.0","id":"a","result":{result}}}"#))
    );
    assert_eq!(reply.headers.get("mcp-session-id"), None);
    let sent = upstream.calls("tools/call").pop().unwrap();
    let id = sent.id();
    let params = format!(
        r#"{{"name":"echo", "arguments":{{"a":1.0}},"_meta":{{"progressToken":{id},"x.y/k": 1.50}}}}"#
    );
    let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#);
    assert_eq!(sent.body, expected);
    let headers = ["mcp-session-id", "mcp-protocol-version", "mcp-method"].map(|name| sent.header(name));
    assert_eq!(headers, ["up-0", "2025-11-25", ""]);
    let opened = &upstream.calls("initialize")[0].json()["params"];
    assert_eq!(opened["capabilities"], serde_json::json!({"sampling": {}}));
}

#[tokio::test]
async fn modern_results_and_errors_say_what_that_era_wants() {
    let upstream = Upstream::start(|request| match request.json()["params"]["uri"].as_str() {
        Some("file:///r") => answer(request, r#"{"contents":[{"uri":"file:///r","text":""}]}"#),
        Some(_) => json(&format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32002,"message":"no","data":{{"k":1}}}}}}"#,
            request.id()
        )),
        None => answer(request, "{}"),
    })
    .await;
    let edge = legacy_only(&upstream);
    for (method, name, params, body) in [
        (
            "resources/read",
            Some("u+file:///r"),
            r#""uri":"u+file:///r","#,
            r#""result":{"resultType":"complete","ttlMs":0,"cacheScope":"private","contents":[{"uri":"u+file:///r","text":""}]}"#,
        ),
        (
            "resources/read",
            Some("u+file:///t/1"),
            r#""uri":"u+file:///t/1","#,
            r#""error":{"code":-32602,"message":"no","data":{"k":1,"uri":"u+file:///t/1"}}"#,
        ),
        ("prompts/get", Some("u_p"), r#""name":"u_p","#, r#""result":{"resultType":"complete"}"#),
        (
            "completion/complete",
            None,
            r#""ref":{"type":"ref/prompt","name":"u_p"},"argument":{"name":"a","value":""},"#,
            r#""result":{"resultType":"complete"}"#,
        ),
    ] {
        let reply = edge.post(&modern(method, name), &ask("7", method, params, "{}", "")).await;
        assert_eq!((reply.status, reply.body), (200, format!(r#"{{"jsonrpc":"2.0","id":7,{body}}}"#)));
    }
    let completed = upstream.calls("completion/complete").pop().unwrap();
    let params = r#"{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":""}}"#;
    let id = completed.id();
    assert_eq!(
        completed.body,
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"completion/complete","params":{params}}}"#)
    );
}

#[tokio::test]
async fn notifications_of_a_legacy_server_reach_only_a_client_that_asked_for_them() {
    let upstream = Upstream::start(|request| {
        let id = request.id();
        let message = |level: &str| {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"{level}"}}}}"#)
        };
        events(&[
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":1}}}}"#
            ),
            message("info"),
            message("warning"),
            r#"{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"e"}}"#.into(),
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.into(),
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
        ])
    })
    .await;
    let edge = legacy_only(&upstream);
    let last = r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete"}}"#;
    let silent = ask("7", "tools/call", r#""name":"u_echo","#, "{}", "");
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &silent).await;
    assert_eq!(reply.messages(), [last]);
    assert_eq!(upstream.calls("logging/setLevel").len(), 0);
    let more = r#","progressToken":"p","io.modelcontextprotocol/logLevel":"notice""#;
    let curious = ask("7", "tools/call", r#""name":"u_echo","#, "{}", more);
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &curious).await;
    assert_eq!(
        reply.messages(),
        [
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"warning"}}"#,
            last,
        ]
    );
    assert_eq!(upstream.calls("logging/setLevel")[0].json()["params"]["level"], "notice");
    let loud = curious.replace("notice", "loud");
    assert_eq!(edge.post(&modern("tools/call", Some("u_echo")), &loud).await.error_code(), -32602);
}

#[tokio::test]
async fn a_modern_client_that_hangs_up_has_cancelled_its_call_at_a_legacy_upstream() {
    let upstream = Upstream::start(|_| {
        let never = futures_util::stream::pending::<Result<bytes::Bytes, std::convert::Infallible>>();
        let body = axum::body::Body::from_stream(never);
        axum::response::Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    })
    .await;
    let edge = legacy_only(&upstream);
    let call = ask("7", "tools/call", r#""name":"u_echo","#, "{}", "");
    let call = tokio::spawn(edge.request("POST", &modern("tools/call", Some("u_echo")), &call).send());
    eventually("the call arrives", || !upstream.calls("tools/call").is_empty()).await;
    call.abort();
    let id = upstream.calls("tools/call")[0].id();
    upstream
        .received(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"the client has disconnected"}}}}"#
        ))
        .await;
}

#[tokio::test]
async fn a_legacy_call_of_a_modern_tool_says_who_asks_and_what_it_can() {
    let upstream = Upstream::raw(|request| {
        answer(request, r#"{"resultType":"complete","content":[],"structuredContent":[1e400]}"#)
    })
    .await;
    let edge = modern_only(&upstream);
    let session = edge.session("2025-11-25", r#"{"elicitation":{},"roots":{}}"#).await;
    let headers = [("mcp-session-id", session.as_str())];
    let level = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}"#;
    assert_eq!(edge.post(&headers, level).await.body, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    let call = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"u_region","_meta":{"progressToken":"p","k":1},"arguments":{"region":"eu"}}}"#;
    let reply = edge.post(&headers, call).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (
            200,
            r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"complete","content":[{"type":"text","text":"[1e400]"}]}}"#
        )
    );
    let sent = upstream.calls("tools/call").pop().unwrap();
    let id = sent.id();
    let meta = format!(
        r#"{{"progressToken":"p","k":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{"elicitation":{{}},"roots":{{}}}},{CLIENT},"io.modelcontextprotocol/logLevel":"error"}}"#
    );
    assert_eq!(
        sent.body,
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"region","_meta":{meta},"arguments":{{"region":"eu"}}}}}}"#
        )
    );
    let names = ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-region", "mcp-session-id"];
    assert_eq!(names.map(|name| sent.header(name)), ["2026-07-28", "tools/call", "region", "eu", ""]);
    assert_eq!(upstream.calls("initialize").len(), 0);
}

/// What rules read of a legacy client's call are its arguments; a header of its own that stands for one would pass them by.
#[tokio::test]
async fn a_legacy_client_has_no_headers_for_arguments() {
    let upstream =
        Upstream::raw(|request| answer(request, r#"{"resultType":"complete","content":[]}"#)).await;
    let edge = modern_only(&upstream);
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str()), ("mcp-param-region", "us"), ("mcp-param-x", "1")];
    let call =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_region","arguments":{}}}"#;
    assert_eq!(edge.post(&headers, call).await.status, 200);
    let sent = upstream.calls("tools/call").pop().unwrap();
    assert_eq!(["mcp-param-region", "mcp-param-x"].map(|name| sent.header(name)), ["", ""]);
}

#[tokio::test]
async fn a_legacy_client_is_told_of_a_missing_resource_in_its_own_words() {
    let upstream = Upstream::raw(|request| {
        let mut response = json(&format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32602,"message":"no","data":{{"uri":"file:///r"}}}}}}"#,
            request.id()
        ));
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        response
    })
    .await;
    let edge = modern_only(&upstream);
    let session = edge.session("2025-11-25", "{}").await;
    let read = r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"u+file:///r"}}"#;
    let reply = edge.post(&[("mcp-session-id", &session)], read).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (
            200,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"no","data":{"uri":"u+file:///r"}}}"#
        )
    );
}

#[tokio::test]
async fn both_eras_are_offered_everything() {
    let upstream = Upstream::start(|request| answer(request, "{}")).await;
    for mut edge in [legacy_only(&upstream), modern_only(&upstream)] {
        let schema = r#"{"name":"echo","inputSchema":{"type":"object"},"outputSchema":{"type":"array"}}"#;
        edge.snapshot.resources.tools[0].definition_json = schema.into();
        edge.publish();
        let list = ask("7", "tools/list", "", "{}", "");
        let reply = edge.post(&modern("tools/list", None), &list).await;
        let shown = |body: &str| body.matches(r#""inputSchema""#).count();
        assert_eq!((shown(&reply.body), reply.body.contains("outputSchema")), (4, true), "{}", reply.body);
        let session = edge.session("2025-11-25", "{}").await;
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let reply = edge.post(&[("mcp-session-id", &session)], list).await;
        // Until 2025-11-25 structured content is an object.
        let reply = reply.body;
        assert_eq!((shown(&reply), reply.contains("outputSchema")), (4, false), "{reply}");
        let discover = ask("7", "server/discover", "", "{}", "");
        let reply = edge.post(&modern("server/discover", None), &discover).await;
        assert!(reply.body.contains(r#""supportedVersions":["2026-07-28"]"#), "{}", reply.body);
    }
}
