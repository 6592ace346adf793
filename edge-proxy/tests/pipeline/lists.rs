//! Lists, from the snapshot: scoped, paged, in both eras.

use trunkline::edge::v1 as wire;

use crate::support::{Edge, META, Reply, Upstream, json, modern};

const TOOLS: &str = r#"[{"name":"u_echo","inputSchema":{"type":"object"}},{"name":"u_other","inputSchema":{"type":"object"}},{"name":"u_region","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}},{"name":"u_safe","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}]"#;

#[tokio::test]
async fn a_list_is_what_the_scope_shows() {
    let edge = Edge::start("http://127.0.0.1:9/mcp");
    let session = edge.session("2025-11-25", "{}").await;
    let body = r#"{"jsonrpc":"2.0","id":"x","method":"tools/list"}"#;
    let reply = edge.post(&[("mcp-session-id", &session)], body).await;
    assert_eq!(
        (reply.status, reply.body),
        (200, format!(r#"{{"jsonrpc":"2.0","id":"x","result":{{"tools":{TOOLS}}}}}"#))
    );
    let bearer = format!("Bearer {}", edge.keys.bearer("some"));
    let body = format!(r#"{{"jsonrpc":"2.0","id":"x","method":"tools/list","params":{{{META}}}}}"#);
    let mut request = edge.bare("POST", "dev", &body).header("authorization", bearer);
    for (name, value) in modern("tools/list", None) {
        request = request.header(name, value);
    }
    let scoped = Reply::of(request).await;
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        r#"{{"jsonrpc":"2.0","id":"x","result":{{"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{{"io.modelcontextprotocol/serverInfo":{{"name":"dev","title":"Dev","version":"{version}"}}}},"tools":[{{"name":"u_echo","inputSchema":{{"type":"object"}}}}]}}}}"#
    );
    assert_eq!((scoped.status, scoped.body), (200, expected));
}

#[tokio::test]
async fn a_long_list_comes_in_pages_whose_cursors_are_sealed() {
    let mut edge = Edge::start("http://127.0.0.1:9/mcp");
    let resources = &mut edge.snapshot.resources;
    for number in 0..1_500 {
        let name = format!("upstreams/u/tools/n{number:04}");
        resources.tools.push(wire::Tool {
            name: name.clone(),
            tool_name: format!("n{number:04}"),
            definition_json: format!(r#"{{"name":"n{number:04}","inputSchema":{{}}}}"#),
        });
        resources.servers[0].tools.push(wire::Entry {
            exposed_name: format!("u_n{number:04}"),
            target: name,
            ..Default::default()
        });
    }
    resources.servers[0].tools.sort_by(|a, b| a.exposed_name.cmp(&b.exposed_name));
    edge.publish();
    let session = edge.session("2025-11-25", "{}").await;
    let ask = async |params: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{params}}}"#);
        edge.post(&[("mcp-session-id", &session)], &body).await
    };
    let mut names = Vec::new();
    let mut params = "{}".to_owned();
    loop {
        let page: serde_json::Value = serde_json::from_str(&ask(&params).await.body).unwrap();
        let tools = page["result"]["tools"].as_array().unwrap();
        names.extend(tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["result"]["nextCursor"].as_str() else { break };
        params = format!(r#"{{"cursor":"{cursor}"}}"#);
    }
    assert_eq!(names.len(), 1_504);
    assert!(names.is_sorted());
    for forged in [r#"{"cursor":"x"}"#, r#"{"cursor":1}"#] {
        assert_eq!(ask(forged).await.error_code(), -32602, "{forged}");
    }
    // Some clients begin with one that is empty.
    let page: serde_json::Value = serde_json::from_str(&ask(r#"{"cursor":""}"#).await.body).unwrap();
    let first = &page["result"]["tools"][0]["name"];
    assert_eq!(first.as_str(), names.first().map(String::as_str));
    edge.snapshot.resources.servers[0].tools.pop();
    edge.publish();
    assert_eq!(ask_again(&edge, &session, &params).await, -32602);
}

async fn ask_again(edge: &Edge, session: &str, params: &str) -> i64 {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{params}}}"#);
    edge.post(&[("mcp-session-id", session)], &body).await.error_code()
}

#[tokio::test]
async fn what_clients_cannot_read_is_in_no_list_and_is_called_all_the_same() {
    let upstream = Upstream::start(|request| {
        json(&format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[],"resultType":"complete"}}}}"#,
            request.id()
        ))
    })
    .await;
    let mut edge = Edge::start(&upstream.url);
    let tools = &mut edge.snapshot.resources.tools;
    for (name, definition) in
        [("echo", r#"{"name":"echo","inputSchema":"{}"}"#), ("other", r#"{"name":"other","x":1.10}"#)]
    {
        tools.iter_mut().find(|tool| tool.tool_name == name).unwrap().definition_json = definition.to_owned();
    }
    edge.publish();
    let session = edge.session("2025-11-25", "{}").await;
    let legacy = [("mcp-session-id", session.as_str())];
    for era in ["legacy", "modern"] {
        let ask = async |method: &str, name: Option<&str>, params: &str| match era {
            "legacy" => {
                let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#);
                edge.post(&legacy, &body).await
            }
            _ => {
                let params = if params.is_empty() { META.to_owned() } else { format!("{params},{META}") };
                let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#);
                edge.post(&modern(method, name), &body).await
            }
        };
        let list: serde_json::Value = serde_json::from_str(&ask("tools/list", None, "").await.body).unwrap();
        let tools = list["result"]["tools"].as_array().unwrap();
        let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["u_other", "u_region", "u_safe"], "{era}");
        assert_eq!(tools[0]["inputSchema"], serde_json::json!({"type": "object"}), "{era}: completed");
        let called = ask("tools/call", Some("u_echo"), r#""name":"u_echo","arguments":{"a":1}"#).await;
        assert!(called.body.contains(r#""content":[]"#), "{era}: {called:?}");
        let sent = upstream.calls("tools/call").pop().unwrap().json();
        assert_eq!(sent["params"]["name"], "echo", "{era}");
    }
    assert_eq!(upstream.calls("tools/call").len(), 2, "each is made once");
}

#[tokio::test]
async fn the_other_lists_are_there_too() {
    let edge = Edge::start("http://127.0.0.1:9/mcp");
    let session = edge.session("2024-11-05", "{}").await;
    for (method, result) in [
        ("resources/list", r#"{"resources":[{"uri":"u+file:///r","name":"r"}]}"#),
        (
            "resources/templates/list",
            r#"{"resourceTemplates":[{"uriTemplate":"u+file:///t/{id}","name":"t"}]}"#,
        ),
        ("prompts/list", r#"{"prompts":[{"name":"u_p"}]}"#),
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
        let reply = edge.post(&[("mcp-session-id", &session)], &body).await;
        assert_eq!(reply.body, format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#));
    }
}
