//! Extensions that capabilities declare, by name. It must not know what they do.

use crate::json;

/// Tasks of 2026-07-28 and later.
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Whether capabilities, a client's or a server's, declare the tasks extension. `capabilities` is a raw JSON object.
#[must_use]
pub fn declares_tasks(capabilities: &str) -> bool {
    let [extensions] = json::members(capabilities, ["extensions"]).unwrap_or_default();
    extensions.is_some_and(|raw| json::members(raw, [TASKS]).is_ok_and(|[tasks]| tasks.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_is_looked_for_where_it_belongs() {
        assert!(declares_tasks(r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#));
        for other in
            ["{}", r#"{"extensions":{}}"#, r#"{"io.modelcontextprotocol/tasks":{}}"#, r#"{"extensions":1}"#]
        {
            assert!(!declares_tasks(other), "{other}");
        }
    }
}
