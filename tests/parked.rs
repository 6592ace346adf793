//! A server of the old era asks in the middle of a modern client's call. The call is parked, and outlives the edge that
//! parked it.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Store};
use crate::support::process::Process;
use crate::support::wire::{Client, MODERN};
use crate::support::{PATIENCE, eventually, root, tool};

/// The Python SDK's server with sessions, whose streams can be resumed; and where it is.
async fn legacy_server(gateway: &Gateway) -> (Process, String) {
    let mut python = Command::new(tool("python/bin/python"));
    python.arg(root().join("tests/matrix/server.py")).arg("http").env("PYTHONUNBUFFERED", "1");
    let mut process = Process::start("legacy", python, gateway.folder());
    let url = eventually("the server says where it is", PATIENCE, || {
        process.assert_alive();
        let output = process.output();
        let url = output.lines().find(|line| line.starts_with("http://")).map(str::to_owned);
        async move { url.ok_or(output) }
    })
    .await;
    (process, url)
}

/// Calls `elicit` with what a client brings besides; returns the result or the error.
async fn elicit(client: &Client, id: u32, brought: Value) -> Value {
    let mut params = json!({
        "name": "elicit",
        "arguments": {},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} },
        },
    });
    params.as_object_mut().unwrap().extend(brought.as_object().unwrap().clone());
    let body = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }).to_string();
    let headers = [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "elicit")];
    let answer = client.post(&body, &headers).await.unwrap();
    let message = answer.json();
    assert_eq!(message["id"], id, "{message}");
    message
}

#[tokio::test]
async fn a_parked_call_outlives_the_edge_that_parked_it() {
    let mut gateway = Gateway::start(Store::Sqlite, 2).await;
    let (_server, url) = legacy_server(&gateway).await;
    gateway.ctl(&format!("create upstream old --url {url} --era legacy")).await;
    gateway.admin.create_server("dev", &["old/*"]).await;
    let bearer = gateway.admin.create_token("laptop", "dev", &["*"]).await;
    eventually("the tools are there", PATIENCE, || async {
        let tools = Client::new(&gateway.url(1, "dev"), &bearer).tools().await?;
        if tools.iter().any(|tool| tool == "elicit") { Ok(()) } else { Err(format!("{tools:?}")) }
    })
    .await;
    gateway.admin.settled().await;

    let asked = elicit(&Client::new(&gateway.url(0, "dev"), &bearer), 1, json!({})).await;
    let result = &asked["result"];
    assert_eq!(result["resultType"], "input_required", "{asked}");
    let requests = result["inputRequests"].as_object().unwrap();
    let (key, request) = requests.iter().next().unwrap();
    assert_eq!((requests.len(), &request["method"]), (1, &json!("elicitation/create")));

    gateway.kill_edge(0);

    let other = Client::new(&gateway.url(1, "dev"), &bearer);
    let answer = json!({ "action": "accept", "content": { "name": "Ada" } });
    let brought =
        json!({ "requestState": result["requestState"], "inputResponses": { key.as_str(): answer } });
    let done = elicit(&other, 2, brought).await;
    assert_eq!(done["result"]["resultType"], "complete", "{done}");
    assert_eq!(done["result"]["content"][0]["text"], "accept Ada", "{done}");
}
