//! A real server of 2025-11-25 whose tool is a task, in the middle of which it asks: for clients of both eras, over two
//! edges, neither of which knows what the other began.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Store};
use crate::support::process::Process;
use crate::support::wire::{Client, MODERN};
use crate::support::{PATIENCE, eventually, free_port, tool};

const TOOL: &str = "simulate-research-query";
const RELATED: &str = "io.modelcontextprotocol/related-task";

/// The public `server-everything`, and where it is.
fn everything(gateway: &Gateway) -> (Process, String) {
    let port = free_port();
    let mut node = Command::new("node");
    node.arg(tool("node/node_modules/@modelcontextprotocol/server-everything/dist/index.js"));
    node.arg("streamableHttp").env("PORT", port.to_string());
    (Process::start("everything", node, gateway.folder()), format!("http://127.0.0.1:{port}/mcp"))
}

async fn gateway() -> (Gateway, Process, String) {
    let gateway = Gateway::start(Store::Sqlite, 2).await;
    let (server, url) = everything(&gateway);
    gateway.ctl(&format!("create upstream everything --url {url}")).await;
    gateway.admin.create_server("dev", &["everything/*"]).await;
    let bearer = gateway.admin.create_token("laptop", "dev", &["*"]).await;
    eventually("the tools are there", PATIENCE, || async {
        let tools = Client::new(&gateway.url(1, "dev"), &bearer).tools().await?;
        if tools.iter().any(|tool| tool == TOOL) { Ok(()) } else { Err(format!("{tools:?}")) }
    })
    .await;
    gateway.admin.settled().await;
    (gateway, server, bearer)
}

/// What the research came to.
fn report(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no report: {result}"))
}

const ASKED: &str = "The research query \"python\" could have multiple interpretations. Please clarify what you're looking for:";
const FOUND: &str = "# Research Report: python (snake)";

#[tokio::test]
async fn a_modern_client_calls_a_tool_that_is_a_task_and_is_asked_in_the_middle() {
    let (gateway, _server, bearer) = gateway().await;
    let call = async |edge: usize, id: u32, brought: Value| {
        let mut params = json!({
            "name": TOOL,
            "arguments": { "topic": "python", "ambiguous": true },
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} },
            },
        });
        params.as_object_mut().unwrap().extend(brought.as_object().unwrap().clone());
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
        let headers = [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", TOOL)];
        let client = Client::new(&gateway.url(edge, "dev"), &bearer);
        let message = client.post(&body.to_string(), &headers).await.unwrap().json();
        assert!(message["result"].is_object(), "{message}");
        message["result"].clone()
    };
    let asked = call(0, 1, json!({})).await;
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let requests = asked["inputRequests"].as_object().unwrap();
    let (key, request) = requests.iter().next().unwrap();
    assert_eq!((requests.len(), &request["method"]), (1, &json!("elicitation/create")));
    assert_eq!(request["params"]["message"], ASKED);
    assert_eq!(request["params"]["_meta"].get(RELATED), None);
    let answer = json!({ "action": "accept", "content": { "interpretation": "snake" } });
    let answers = json!({ key.as_str(): answer });
    let brought = json!({ "requestState": asked["requestState"], "inputResponses": answers });
    let done = call(1, 2, brought).await;
    assert_eq!(done["resultType"], "complete", "{done}");
    assert!(report(&done).starts_with(FOUND), "{done}");
}

#[tokio::test]
async fn a_legacy_client_follows_its_task_from_edge_to_edge() {
    let (gateway, _server, bearer) = gateway().await;
    let here = Client::open_with(&gateway.url(0, "dev"), &bearer, r#"{"elicitation":{}}"#).await.unwrap();
    let there = here.at(&gateway.url(1, "dev"));
    let say = async |client: &Client, id: u32, method: &str, params: Value| {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        client.post(&body, &[]).await.unwrap().json()
    };
    let arguments = json!({ "topic": "python", "ambiguous": true });
    let call = json!({ "name": TOOL, "arguments": arguments, "task": { "ttl": 60_000 } });
    let begun = say(&here, 1, "tools/call", call).await;
    let id = begun["result"]["task"]["taskId"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned();
    assert!(id.len() > 40, "{id}");
    let about = json!({ "taskId": id });
    let mut turn = 0;
    let waits = loop {
        turn += 1;
        let stands = say([&there, &here][turn % 2], 2, "tasks/get", about.clone()).await["result"].clone();
        assert_eq!(stands["taskId"], about["taskId"], "{stands}");
        if stands["status"] != "working" {
            break stands;
        }
        assert!(turn < 200, "{stands}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(waits["status"], "input_required", "{waits}");
    let body = json!({ "jsonrpc": "2.0", "id": 3, "method": "tasks/result", "params": about }).to_string();
    let mut result = there.read(&body).await.unwrap();
    let asked = result.next().await.unwrap();
    let about_it = json!({ RELATED: about });
    assert_eq!(
        (&asked["params"]["message"], &asked["params"]["_meta"]),
        (&json!(ASKED), &about_it),
        "{asked}"
    );
    let answer = json!({ "action": "accept", "content": { "interpretation": "snake" }, "_meta": about_it });
    let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": answer }).to_string();
    assert_eq!(here.post(&answer, &[]).await.unwrap().status, 202);
    let done = result.next().await.unwrap();
    assert!(report(&done["result"]).starts_with(FOUND), "{done}");
    assert_eq!((&done["id"], &done["result"]["_meta"]), (&json!(3), &about_it), "{done}");
}
