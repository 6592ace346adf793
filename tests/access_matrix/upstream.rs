//! The upstream of the matrix: both eras, everything that a client can ask for, tasks, and a stream that can be resumed. It must not
//! know who asks.

use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::fake::{self, Fake, Received, Step, id, stream_head, write};
use crate::support::wire::{LEGACY, MODERN};

pub(super) const TOOLS: [&str; 3] = ["granted", "granted_stream", "withheld"];
pub(super) const PROMPTS: [&str; 2] = ["granted", "withheld"];
pub(super) const RESOURCES: [&str; 2] = ["file:///granted/listed.txt", "file:///withheld/listed.txt"];
pub(super) const TEMPLATES: [&str; 2] = ["file:///granted/{+path}", "file:///withheld/{+path}"];

/// What the rest of a stream holds that was resumed.
pub(super) const RESUMED: &str = "resumed";

pub(super) async fn start() -> Fake {
    Fake::scripted("[]", script).await
}

fn script(request: &Received) -> Option<Vec<Step>> {
    if request.head.starts_with("GET") {
        return Some(stream(fake::header(&request.head, "last-event-id")));
    }
    let message: Value = serde_json::from_str(&request.body).ok()?;
    let method = message["method"].as_str()?;
    let params = &message["params"];
    if method == "tools/call" && params["name"] == "granted_stream" {
        // Its id names the request, so that whoever reads on is answered.
        let primed = format!("id: call-{}\nretry: 20\ndata:\n\n", id(request));
        return Some(vec![stream_head(), write(&primed), Step::Wait(PATIENCE)]);
    }
    if method == "subscriptions/listen" {
        let said = json!({
            "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
            "params": {"notifications": params["notifications"]}
        });
        return Some(vec![stream_head(), write(&format!("data: {said}\n\n")), Step::Wait(PATIENCE)]);
    }
    let modern = fake::header(&request.head, "mcp-protocol-version") == Some(MODERN);
    let mut result = result(method, params)?;
    if modern {
        result["resultType"] = "complete".into();
        result["cacheScope"] = "private".into();
        result["ttlMs"] = 0.into();
    }
    let body = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(request));
    let session = if method == "initialize" { "mcp-session-id: s\r\n" } else { "" };
    Some(vec![write(&format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{session}content-length: {}\r\n\r\n{body}",
        body.len()
    ))])
}

/// The stream of a session, or the rest of that of a call.
fn stream(last_event_id: Option<&str>) -> Vec<Step> {
    match last_event_id.and_then(|id| id.strip_prefix("call-")) {
        None => vec![stream_head(), Step::Wait(PATIENCE)],
        Some(call) => {
            let result = json!({"content": [{"type": "text", "text": RESUMED}]});
            let rest = format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{call},\"result\":{result}}}\n\n");
            vec![stream_head(), write(&rest), Step::Close]
        }
    }
}

fn result(method: &str, params: &Value) -> Option<Value> {
    Some(match method {
        "server/discover" => json!({
            "supportedVersions": [MODERN],
            "capabilities": capabilities(&json!({"extensions": {"io.modelcontextprotocol/tasks": {}}})),
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "all", "version": "1"}}
        }),
        "initialize" => json!({
            "protocolVersion": LEGACY,
            "capabilities":
                capabilities(&json!({"tasks": {"cancel": {}, "requests": {"tools": {"call": {}}}}})),
            "serverInfo": {"name": "all", "version": "1"}
        }),
        "tools/list" => json!({"tools": TOOLS.map(|name| json!({
            "name": name, "inputSchema": {"type": "object"}, "execution": {"taskSupport": "optional"}
        }))}),
        "resources/list" => json!({"resources": RESOURCES.map(|uri| json!({"uri": uri, "name": "r"}))}),
        "resources/templates/list" => json!({
            "resourceTemplates": TEMPLATES.map(|text| json!({"uriTemplate": text, "name": "t"}))
        }),
        "prompts/list" => json!({"prompts": PROMPTS.map(|name| json!({"name": name}))}),
        "tools/call" if params["task"].is_object() => json!({"task": task("working")}),
        "tools/call" | "tasks/result" => json!({"content": [{"type": "text", "text": "called"}]}),
        "tasks/get" => task("working"),
        "tasks/cancel" => task("cancelled"),
        "prompts/get" => json!({"messages": []}),
        "resources/read" => json!({"contents": [{"uri": params["uri"], "text": "read"}]}),
        "completion/complete" => json!({"completion": {"values": ["completed"]}}),
        "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel" => json!({}),
        _ => return None,
    })
}

fn capabilities(more: &Value) -> Value {
    let mut all = json!({
        "tools": {}, "resources": {"subscribe": true}, "prompts": {}, "completions": {}, "logging": {}
    });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

fn task(status: &str) -> Value {
    let time = "2026-01-01T00:00:00Z";
    json!({"taskId": "t 1", "status": status, "createdAt": time, "lastUpdatedAt": time, "ttl": 60_000, "pollInterval": 50})
}
