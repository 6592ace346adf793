//! What the matrix asks: every request that a client can send, of what is granted, of what is withheld and of what does not exist. It
//! must not know who asks, nor what the answer should be.

use serde_json::{Value, json};

use super::upstream::{RESOURCES, TEMPLATES};

/// One request.
pub(super) struct Ask {
    pub(super) method: &'static str,
    /// What it names, as scopes name it.
    pub(super) target: Option<&'static str>,
    pub(super) params: Value,
    /// Of a URI: the template that produces it.
    pub(super) template: Option<&'static str>,
}

pub(super) const ABSENT: &str = "absent";
/// URIs that nothing lists, and templates produce.
const PRODUCED: [&str; 2] = ["file:///granted/a.txt", "file:///withheld/a.txt"];

impl Ask {
    fn new(method: &'static str, target: Option<&'static str>, params: Value) -> Self {
        Self { method, target, params, template: None }
    }
}

/// All of them. `task` is the id of a task that is somebody else's.
pub(super) fn all(task: &str) -> Vec<Ask> {
    let plain = |method| Ask::new(method, None, json!({}));
    let mut asks: Vec<Ask> = [
        "ping",
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "tasks/list",
    ]
    .map(plain)
    .into();
    asks.push(Ask::new("logging/setLevel", None, json!({"level": "info"})));
    asks.push(Ask::new("subscriptions/listen", None, listen()));
    for name in ["granted", "withheld", ABSENT] {
        asks.push(Ask::new("tools/call", Some(name), json!({"name": name, "arguments": {}})));
        asks.push(Ask::new("prompts/get", Some(name), json!({"name": name})));
        let reference = json!({"type": "ref/prompt", "name": name});
        asks.push(complete(name, &reference));
    }
    for (uri, template) in RESOURCES.into_iter().zip(TEMPLATES) {
        for method in ["resources/read", "resources/subscribe", "resources/unsubscribe"] {
            // A template produces what is listed, too.
            asks.push(Ask { template: Some(template), ..Ask::new(method, Some(uri), json!({"uri": uri})) });
        }
        let reference = json!({"type": "ref/resource", "uri": template});
        asks.push(complete(template, &reference));
    }
    for (uri, template) in PRODUCED.into_iter().zip(TEMPLATES) {
        let read = Ask::new("resources/read", Some(uri), json!({"uri": uri}));
        asks.push(Ask { template: Some(template), ..read });
    }
    asks.extend(
        ["tasks/get", "tasks/result", "tasks/cancel", "tasks/update"]
            .map(|method| Ask::new(method, None, json!({"taskId": task, "inputResponses": {}}))),
    );
    asks
}

fn listen() -> Value {
    json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": RESOURCES}})
}

fn complete(target: &'static str, reference: &Value) -> Ask {
    let params = json!({"ref": reference, "argument": {"name": "path", "value": "a"}});
    Ask::new("completion/complete", Some(target), params)
}
