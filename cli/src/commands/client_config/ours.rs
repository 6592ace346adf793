//! Whose an entry is: ours if it leads to the edge of the context, or runs `mcpctl connect`. Pure.

use serde_json::Value;

/// Where an entry of ours leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OurEntry {
    /// The server.
    pub server: String,
    /// How: `http` or `stdio`.
    pub via: &'static str,
}

/// Returns where an entry leads, if it is ours. `edge` is the URL of the edge, if one is configured.
pub fn recognize(entry: &Value, edge: Option<&str>) -> Option<OurEntry> {
    edge.and_then(|edge| by_url(entry, edge)).or_else(|| by_command(entry))
}

fn by_url(entry: &Value, edge: &str) -> Option<OurEntry> {
    let url = ["url", "serverUrl", "httpUrl", "uri"].iter().find_map(|name| entry.get(name)?.as_str())?;
    let rest = url.trim().strip_prefix(edge.trim_end_matches('/'))?.strip_prefix("/servers/")?;
    let (server, end) = rest.split_once('/')?;
    matches!(end.trim_end_matches('/'), "mcp" | "sse")
        .then(|| OurEntry { server: server.to_owned(), via: "http" })
}

fn by_command(entry: &Value) -> Option<OurEntry> {
    let command = ["command", "cmd"].iter().find_map(|name| entry.get(name)?.as_str())?;
    // Of a path of either system.
    let program = command.rsplit(['/', '\\']).next().unwrap_or_default();
    let args: Vec<&str> = entry.get("args")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let at = args.iter().position(|word| *word == "connect")?;
    let server = args[at + 1..].iter().find(|word| !word.starts_with('-'))?;
    // Whatever it is called where it was installed, it is told where its context is.
    let is_told = |name: &str| entry.get(name).is_some_and(|env| env.get("MCPCTL_CONFIG").is_some());
    let is_ours = matches!(program, "mcpctl" | "mcpctl.exe") || is_told("env") || is_told("envs");
    is_ours.then(|| OurEntry { server: (*server).to_owned(), via: "stdio" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_leads_to_us_is_ours_and_nothing_else() {
        for (entry, expected) in [
            (json!({"url": "http://e:1/servers/dev/mcp"}), Some("dev http")),
            (json!({"serverUrl": "http://e:1/servers/dev/sse", "x": 1}), Some("dev http")),
            (json!({"httpUrl": " http://e:1/servers/a/mcp/ "}), Some("a http")),
            (json!({"uri": "http://e:1/servers/a/mcp"}), Some("a http")),
            (json!({"url": "http://e:12/servers/dev/mcp"}), None),
            (json!({"url": "http://e:1/servers/dev"}), None),
            (json!({"url": "http://e:1/servers/dev/other"}), None),
            (json!({"url": 5}), None),
            (json!({"command": "/opt/my bin/mcpctl", "args": ["connect", "dev"]}), Some("dev stdio")),
            (
                json!({"cmd": "C:\\bin\\mcpctl.exe", "args": ["connect", "dev", "--token", "t"]}),
                Some("dev stdio"),
            ),
            (json!({"command": "mcpctl", "args": ["call", "dev"]}), None),
            (json!({"command": "mcpctl", "args": ["connect"]}), None),
            (json!({"command": "npx", "args": ["connect", "dev"]}), None),
            (
                json!({"command": "mcpctl-2", "args": ["connect", "dev"], "env": {"MCPCTL_CONFIG": "c"}}),
                Some("dev stdio"),
            ),
            (json!("mcpctl"), None),
        ] {
            let found =
                recognize(&entry, Some("http://e:1/")).map(|ours| format!("{} {}", ours.server, ours.via));
            assert_eq!(found.as_deref(), expected, "{entry}");
        }
        assert_eq!(recognize(&json!({"url": "http://e:1/servers/dev/mcp"}), None), None);
    }
}
