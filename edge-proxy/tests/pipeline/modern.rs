//! The modern era: what is checked, in which order, and what is sealed.

use crate::eras::{next_message, open_stream};
use crate::support::{Edge, META, Reply, Upstream, json, mcp, modern, status};

fn list(meta: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{{{meta}}}}}"#)
}

/// Headers, body, and the status and code they lead to.
type Case<'a> = (Vec<(&'a str, &'a str)>, String, (u16, i64));

#[tokio::test]
async fn requests_are_checked_in_order() {
    let edge = Edge::start(&Upstream::raw(|_| status(500, "")).await.url);
    let version = ("mcp-protocol-version", "2026-07-28");
    let listing = ("mcp-method", "tools/list");
    let meta = |version: &str| {
        format!(
            r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"{version}","io.modelcontextprotocol/clientCapabilities":{{}}}}"#
        )
    };
    let initialize = format!(r#"{{"jsonrpc":"2.0","id":3,"method":"initialize","params":{{{META}}}}}"#);
    let call = |name: &str, more: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{{"name":"{name}"{more},{META}}}}}"#
        )
    };
    let named = |name| modern("tools/call", Some(name));
    let cases: Vec<Case<'_>> = vec![
        (vec![version, listing], r#"{"jsonrpc":"2.0","id":3,"method":"tools/list"}"#.into(), (400, -32602)),
        (vec![listing], list(META), (400, -32020)),
        (vec![("mcp-protocol-version", "2025-11-25"), listing], list(META), (400, -32020)),
        (vec![("mcp-protocol-version", "2027-01-01"), listing], list(&meta("2027-01-01")), (400, -32022)),
        (vec![("mcp-protocol-version", "2025-11-25"), listing], list(&meta("2025-11-25")), (400, -32022)),
        (vec![version], list(META), (400, -32020)),
        (vec![version, ("mcp-method", "tools/call")], list(META), (400, -32020)),
        (vec![version, listing, listing], list(META), (400, -32020)),
        (modern("initialize", None), initialize, (404, -32601)),
        (modern("tools/call", None), call("u_echo", ""), (400, -32020)),
        (named("u_other"), call("u_echo", ""), (400, -32020)),
        (named("=?base64?!?="), call("u_echo", ""), (400, -32020)),
        (named("u_none"), call("u_none", ""), (200, -32602)),
        (named("u_region"), call("u_region", r#","arguments":{"region":"eu"}"#), (400, -32020)),
    ];
    for (headers, body, (expected_status, code)) in cases {
        let reply = edge.post(&headers, &body).await;
        assert_eq!(
            (reply.status, reply.error_code()),
            (expected_status, code),
            "{headers:?} {body} {}",
            reply.body
        );
        assert!(reply.body.contains(r#""id":3"#), "{}", reply.body);
    }
    let unsupported =
        edge.post(&[("mcp-protocol-version", "2027-01-01"), listing], &list(&meta("2027-01-01"))).await;
    assert!(
        unsupported.body.contains(r#""data":{"supported":["2026-07-28"],"requested":"2027-01-01"}"#),
        "{}",
        unsupported.body
    );
}

#[tokio::test]
async fn mirrored_arguments_are_checked_and_mirrored_again() {
    let upstream = Upstream::start(|request| {
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()))
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let mut headers = modern("tools/call", Some("u_region"));
    headers.push(("MCP-Param-Region", " eu "));
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{{"name":"u_region","arguments":{{"region":"eu"}},{META}}}}}"#
    );
    let reply = edge.post(&headers, &body).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"jsonrpc":"2.0","id":3,"result":{}}"#));
    let sent = &upstream.requests()[0];
    let values: Vec<_> = sent.headers.get_all("mcp-param-region").iter().collect();
    assert_eq!(values, ["eu"]);
}

#[tokio::test]
async fn discover_says_what_there_is() {
    let edge = Edge::start("http://127.0.0.1:9/mcp");
    let body = format!(r#"{{"jsonrpc":"2.0","id":3,"method":"server/discover","params":{{{META}}}}}"#);
    let reply = edge.post(&modern("server/discover", None), &body).await;
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        r#"{{"jsonrpc":"2.0","id":3,"result":{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{"listChanged":true}},"resources":{{"listChanged":true}},"prompts":{{"listChanged":true}},"completions":{{}}}},"instructions":"Be kind.","ttlMs":0,"cacheScope":"private","_meta":{{"io.modelcontextprotocol/serverInfo":{{"name":"dev","title":"Dev","version":"{version}"}}}}}}}}"#
    );
    assert_eq!((reply.status, &reply.body), (200, &expected));
    assert_eq!(reply.headers.get("mcp-session-id"), None);
}

#[tokio::test]
async fn state_is_wrapped_and_comes_back_only_with_its_call() {
    let upstream = Upstream::start(|request| {
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"input_required","requestState":"up\u00e9","x":1}}}}"#, request.id()))
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let call = |name: &str, state: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{{"name":"{name}"{state},{META}}}}}"#
        )
    };
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &call("u_echo", "")).await;
    let message: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let state = message["result"]["requestState"].as_str().unwrap().to_owned();
    assert_eq!(
        reply.body,
        format!(
            r#"{{"jsonrpc":"2.0","id":3,"result":{{"resultType":"input_required","requestState":"{state}","x":1}}}}"#
        )
    );
    let with = format!(r#","requestState":"{state}","inputResponses":{{}}"#);
    edge.post(&modern("tools/call", Some("u_echo")), &call("u_echo", &with)).await;
    let sent = upstream.requests().pop().unwrap();
    assert_eq!(sent.body, call("echo", r#","requestState":"up\u00e9","inputResponses":{}"#));
    let elsewhere = edge.post(&modern("tools/call", Some("u_other")), &call("u_other", &with)).await;
    assert_eq!(elsewhere.error_code(), -32602);
    let otherwise = call("u_echo", &format!(r#","arguments":{{"a":1}}{with}"#));
    let otherwise = edge.post(&modern("tools/call", Some("u_echo")), &otherwise).await;
    assert_eq!(otherwise.error_code(), -32602);
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn a_missing_capability_keeps_its_status() {
    let upstream = Upstream::start(|request| {
        let mut response = json(&format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32021,"message":"m","data":{{"requiredCapabilities":{{"sampling":{{}}}}}}}}}}"#,
            request.id()
        ));
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        response
    })
    .await;
    let edge = Edge::start(&upstream.url);
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{{"name":"u_echo",{META}}}}}"#);
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &body).await;
    assert_eq!((reply.status, reply.error_code()), (400, -32021));
}

#[tokio::test]
async fn an_upstream_that_speaks_no_era_is_named() {
    let upstream = Upstream::start(|_| status(500, "")).await;
    let mut edge = Edge::start(&upstream.url);
    mcp(&mut edge.snapshot.resources.upstreams[0]).modern_versions.clear();
    mcp(&mut edge.snapshot.resources.upstreams[0]).legacy_version.clear();
    edge.publish();
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{{"name":"u_echo",{META}}}}}"#);
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &body).await;
    assert_eq!((reply.status, reply.error_code()), (200, -31108));
    assert!(reply.body.contains(r#""data":{"reason":"upstream_era","upstream":"u"}"#), "{}", reply.body);
}

#[tokio::test]
async fn a_task_is_asked_about_where_it_began_by_its_owner_alone() {
    let upstream = Upstream::start(|request| {
        let result = r#"{"resultType":"task","taskId":"t 1","status":"working"}"#;
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request.id()))
    })
    .await;
    let mut edge = Edge::start(&upstream.url);
    let extension = r#""extensions":{"io.modelcontextprotocol/tasks":{}}"#;
    mcp(&mut edge.snapshot.resources.upstreams[0]).modern_capabilities_json = format!("{{{extension}}}");
    edge.publish();
    let meta = META.replace("Capabilities\":{}", &format!("Capabilities\":{{{extension}}}"));
    let ask = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":3,"method":"{method}","params":{{{params},{meta}}}}}"#)
    };
    let begun =
        edge.post(&modern("tools/call", Some("u_echo")), &ask("tools/call", r#""name":"u_echo""#)).await;
    let message: serde_json::Value = serde_json::from_str(&begun.body).unwrap();
    let id = message["result"]["taskId"].as_str().unwrap();
    let result = format!(r#"{{"resultType":"task","taskId":"{id}","status":"working"}}"#);
    let expected = format!(r#"{{"jsonrpc":"2.0","id":3,"result":{result}}}"#);
    assert!(id.len() > 40 && begun.body == expected, "{}", begun.body);

    let about = format!(r#""taskId":"{id}""#);
    let asked = edge.post(&modern("tasks/get", Some(id)), &ask("tasks/get", &about)).await;
    assert_eq!((asked.status, &asked.body), (200, &expected));
    let sent = upstream.requests().pop().unwrap();
    assert_eq!((sent.header("mcp-name"), &sent.body), ("t 1", &ask("tasks/get", r#""taskId":"t 1""#)));

    let undeclared = ask("tasks/get", &about).replace(&meta, META);
    let undeclared = edge.post(&modern("tasks/get", Some(id)), &undeclared).await;
    assert_eq!((undeclared.status, undeclared.error_code()), (400, -32021));
    let misnamed = edge.post(&modern("tasks/get", Some("t 1")), &ask("tasks/get", &about)).await;
    assert_eq!((misnamed.status, misnamed.error_code()), (400, -32020));
    let bare = edge.post(&modern("tasks/get", Some("t 1")), &ask("tasks/get", r#""taskId":"t 1""#)).await;
    assert_eq!((bare.status, bare.error_code()), (200, -32602));
    let bearer = format!("Bearer {}", edge.keys.bearer("some"));
    let mut theirs = edge.bare("POST", "dev", &ask("tasks/get", &about)).header("authorization", bearer);
    for (name, value) in modern("tasks/get", Some(id)) {
        theirs = theirs.header(name, value);
    }
    assert_eq!(Reply::of(theirs).await.error_code(), -32602);
    assert_eq!(upstream.requests().len(), 2);
}

/// An upstream that begins a task, and tells of it and of another to who listens.
async fn telling() -> Upstream {
    Upstream::raw(|request| {
        let stands = |id: &str| {
            let meta = r#""_meta":{"io.modelcontextprotocol/subscriptionId":1,"k":1.0}"#;
            let params = format!(r#"{{"taskId":"{id}","status":"completed","result":{{"n":1e400}},{meta}}}"#);
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/tasks","params":{params}}}"#)
        };
        let live = r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{}}"#;
        match request.method().as_str() {
            "subscriptions/listen" => open_stream(&format!(
                "data: {live}\n\ndata: {}\n\ndata: {}\n\n",
                stands("t 2"),
                stands("t 1")
            )),
            _ => json(&format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"task","taskId":"t 1"}}}}"#,
                request.id()
            )),
        }
    })
    .await
}

#[tokio::test]
async fn a_listen_hears_of_the_tasks_that_its_caller_began() {
    let upstream = telling().await;
    let mut edge = Edge::start(&upstream.url);
    let extension = r#""extensions":{"io.modelcontextprotocol/tasks":{}}"#;
    mcp(&mut edge.snapshot.resources.upstreams[0]).modern_capabilities_json = format!("{{{extension}}}");
    edge.publish();
    let meta = META.replace("Capabilities\":{}", &format!("Capabilities\":{{{extension}}}"));
    let ask = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":"l","method":"{method}","params":{{{params},{meta}}}}}"#)
    };
    let listen = |ids: &str| ask("subscriptions/listen", &format!(r#""notifications":{{"taskIds":{ids}}}"#));
    let begun =
        edge.post(&modern("tools/call", Some("u_echo")), &ask("tools/call", r#""name":"u_echo""#)).await;
    let begun: serde_json::Value = serde_json::from_str(&begun.body).unwrap();
    let id = begun["result"]["taskId"].as_str().unwrap();
    let headers = modern("subscriptions/listen", None);

    let subscription = r#""io.modelcontextprotocol/subscriptionId":"l""#;
    let acknowledged = |honoured: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"notifications":{{{honoured}}},"_meta":{{{subscription}}}}}}}"#
        )
    };
    let wanted = listen(&format!(r#"["t 1","{id}"]"#));
    let mut stream = edge.request("POST", &headers, &wanted).send().await.unwrap();
    assert_eq!(next_message(&mut stream).await, acknowledged(&format!(r#""taskIds":["{id}"]"#)));
    let params = format!(
        r#"{{"taskId":"{id}","status":"completed","result":{{"n":1e400}},"_meta":{{{subscription},"k":1.0}}}}"#
    );
    let expected = format!(r#"{{"jsonrpc":"2.0","method":"notifications/tasks","params":{params}}}"#);
    assert_eq!(next_message(&mut stream).await, expected);
    let sent = upstream.calls("subscriptions/listen")[0].json()["params"].clone();
    assert_eq!(sent["notifications"], serde_json::json!({"taskIds": ["t 1"]}));
    let declared = &sent["_meta"]["io.modelcontextprotocol/clientCapabilities"];
    assert_eq!(*declared, serde_json::json!({"extensions": {"io.modelcontextprotocol/tasks": {}}}));

    let undeclared = edge.post(&headers, &wanted.replace(&meta, META)).await;
    assert_eq!((undeclared.status, undeclared.error_code()), (400, -32021));
    for bad in ["7", "[7]"] {
        assert_eq!(edge.post(&headers, &listen(bad)).await.error_code(), -32602, "{bad}");
    }
    let bearer = format!("Bearer {}", edge.keys.bearer("some"));
    let mut theirs = edge.bare("POST", "dev", &wanted).header("authorization", bearer);
    for (name, value) in headers {
        theirs = theirs.header(name, value);
    }
    assert_eq!(next_message(&mut theirs.send().await.unwrap()).await, acknowledged(""));
    assert_eq!(upstream.calls("subscriptions/listen").len(), 1);
}
