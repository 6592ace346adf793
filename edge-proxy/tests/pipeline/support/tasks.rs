//! Legacy upstreams whose tools are tasks (2025-11-25).

use axum::response::Response;

use super::{Edge, Recorded, json, status};

/// What such a server says that it can do.
pub(crate) const MAKES_TASKS: &str =
    r#"{"tools":{},"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}}"#;

/// How a task stands, but for its id and status.
pub(crate) const STANDS: &str = r#""createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:01Z","ttl":60000,"pollInterval":50"#;

impl Edge {
    /// Lets the upstream make tasks of calls of `u_echo`, as this says.
    pub(crate) fn make_tasks(&mut self, support: &str) {
        let resources = &mut self.snapshot.resources;
        super::mcp(&mut resources.upstreams[0]).legacy_capabilities_json = MAKES_TASKS.into();
        resources.tools[0].definition_json = format!(
            r#"{{"name":"echo","inputSchema":{{"type":"object"}},"execution":{{"taskSupport":"{support}"}}}}"#
        );
        self.publish();
    }
}

/// The raw result that a task of this status is told with.
pub(crate) fn task(status: &str) -> String {
    format!(r#"{{"taskId":"t 1","status":"{status}",{STANDS}}}"#)
}

/// What a server answers that makes a task of every call, where the task stands so; its result is not asked for here.
pub(crate) fn making(request: &Recorded, stands: &str) -> Response {
    let result = match request.method().as_str() {
        "tools/call" if request.json()["params"]["task"].is_object() => {
            format!(r#"{{"task":{}}}"#, task("working"))
        }
        "tasks/get" => task(stands),
        "tasks/cancel" => task("cancelled"),
        "" => return status(202, ""),
        _ => {
            let error = r#"{"code":-32601,"message":"no"}"#;
            return json(&format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, request.id()));
        }
    };
    json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request.id()))
}
