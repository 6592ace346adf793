//! Where the files of hosts have their servers. Pure; it must not know how an entry is written.

use serde_json::Value;

/// Members from the top of a file down to its servers; `*` is any. The hosts are in docs/OPERATIONS.md.
const PLACES: [&[&str]; 9] = [
    // Claude, Cursor, Windsurf, Gemini CLI, Cline, Copilot CLI, LM Studio, LibreChat, Continue.
    &["mcpServers"],
    // Visual Studio Code: mcp.json, settings.json in two ways, devcontainer.json.
    &["servers"],
    &["mcp", "servers"],
    &["mcp.servers"],
    &["customizations", "vscode", "mcp", "servers"],
    // Zed.
    &["context_servers"],
    // Claude Code, for what belongs to one project: ~/.claude.json.
    &["projects", "*", "mcpServers"],
    // Codex.
    &["mcp_servers"],
    // Amp.
    &["amp.mcpServers"],
];

/// Places that hold other things, too: they count where a member looks like a server. OpenCode and Goose.
const SHARED_PLACES: [&[&str]; 2] = [&["mcp"], &["extensions"]];

/// A member that may be a server.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    /// Where it stands, down to what holds it.
    pub(super) place: String,
    /// Its name.
    pub(super) key: String,
    /// What it is; else the reason for which it is none.
    pub(super) value: Result<&'a Value, &'static str>,
}

/// The place as it is called in messages.
fn name(place: &[&str]) -> String {
    format!("`{}`", place.join("."))
}

/// Everything that stands where servers do, of every place that the file has.
///
/// # Errors
/// When it has none; the error names them all.
pub(super) fn candidates(file: &Value) -> Result<Vec<Candidate<'_>>, String> {
    let mut holders = Vec::new();
    for place in PLACES {
        descend(file, place, String::new(), &mut holders);
    }
    let mut shared = Vec::new();
    for place in SHARED_PLACES {
        descend(file, place, String::new(), &mut shared);
    }
    holders.extend(shared.into_iter().filter(|(_, holder)| members(holder).any(looks_like_a_server)));
    // What people paste is often a bare map.
    if holders.is_empty() && members(file).next().is_some() && members(file).all(looks_like_a_server) {
        holders.push((String::new(), file));
    }
    if holders.is_empty() {
        let mut places: Vec<_> = PLACES.iter().chain(&SHARED_PLACES).map(|place| name(place)).collect();
        // Visual Studio Code has two that are written alike.
        places.dedup();
        return Err(format!("it has no servers at {}", places.join(", ")));
    }
    Ok(holders.into_iter().flat_map(|(place, holder)| held(place, holder)).collect())
}

/// Collects what stands at a place.
fn descend<'a>(value: &'a Value, path: &[&str], at: String, found: &mut Vec<(String, &'a Value)>) {
    let Some((first, rest)) = path.split_first() else { return found.push((at, value)) };
    for (key, value) in value.as_object().into_iter().flatten() {
        if *first == "*" || *first == key {
            let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            descend(value, rest, at, found);
        }
    }
}

fn members(holder: &Value) -> impl Iterator<Item = &Value> {
    let (map, list) = (holder.as_object(), holder.as_array());
    map.into_iter().flat_map(|map| map.values()).chain(list.into_iter().flatten())
}

fn looks_like_a_server(value: &Value) -> bool {
    let members = ["url", "serverUrl", "httpUrl", "uri", "command", "cmd"];
    members.iter().any(|member| value.get(member).is_some())
}

/// The candidates that a map by name, or a list of objects with a `name`, holds.
fn held(place: String, holder: &Value) -> Vec<Candidate<'_>> {
    match holder {
        Value::Null => Vec::new(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| Candidate { place: place.clone(), key: key.clone(), value: Ok(value) })
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, value)| {
                let (key, value) = match value.get("name").and_then(Value::as_str) {
                    Some(name) => (name.to_owned(), Ok(value)),
                    None => (format!("{place}[{index}]"), Err("it has no `name`")),
                };
                Candidate { place: place.clone(), key, value }
            })
            .collect(),
        _ => vec![Candidate { key: place.clone(), place, value: Err("it holds no servers") }],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn servers_are_found_wherever_hosts_keep_them() {
        let a = json!({"url": "http://a/mcp"});
        for (file, expected) in [
            (json!({"mcpServers": {"a": a}, "theirOwn": 1}), "mcpServers:a"),
            (json!({"mcpServers": {"a": a}, "servers": {"b": a}}), "mcpServers:a servers:b"),
            (json!({"mcpServers": {}, "servers": {"b": a}}), "servers:b"),
            (json!({"mcpServers": null, "servers": {"b": a}}), "servers:b"),
            (json!({"mcp": {"inputs": [], "servers": {"a": a}}}), "mcp.servers:a"),
            (json!({"mcp.servers": {"a": a}, "editor.x": 1}), "mcp.servers:a"),
            (
                json!({"customizations": {"vscode": {"extensions": ["x"], "mcp": {"servers": {"a": a}}}}}),
                "customizations.vscode.mcp.servers:a",
            ),
            (json!({"context_servers": {"a": a}}), "context_servers:a"),
            (
                json!({"mcpServers": {"u": a}, "projects": {"/a": {"mcpServers": {"a": a}}, "/b": {}}}),
                "mcpServers:u projects./a.mcpServers:a",
            ),
            (json!({"mcp_servers": {"a": a}}), "mcp_servers:a"),
            (json!({"amp.mcpServers": {"a": a}}), "amp.mcpServers:a"),
            (json!({"mcp": {"a": {"type": "local", "command": ["x"]}, "b": {}}}), "mcp:a mcp:b"),
            (json!({"extensions": {"a": {"uri": "http://a"}}}), "extensions:a"),
            // Gemini CLI has settings of these names, beside its servers.
            (
                json!({"mcpServers": {"a": a}, "mcp": {"allowed": ["a"]}, "extensions": {"disabled": []}}),
                "mcpServers:a",
            ),
            (json!({"mcpServers": [{"name": "a", "url": "x"}, {"url": "y"}]}), "mcpServers:a -mcpServers[1]"),
            (json!({"mcpServers": 5}), "-mcpServers"),
            (json!({"a": a, "b": {"command": "x"}}), ":a :b"),
            (json!([{"name": "a", "url": "x"}]), ":a"),
        ] {
            let found = candidates(&file).unwrap();
            let said: Vec<_> = found
                .iter()
                .map(|one| match one.value {
                    Ok(_) => format!("{}:{}", one.place, one.key),
                    Err(_) => format!("-{}", one.key),
                })
                .collect();
            assert_eq!(said.join(" "), expected, "{file}");
        }
    }

    #[test]
    fn the_places_are_those_of_the_documentation() {
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        let rows = guide.lines().skip_while(|line| !line.starts_with("| servers at | of |")).skip(2);
        let rows: Vec<_> = rows.map_while(|line| line.strip_prefix("| ")?.split(" |").next()).collect();
        let places: Vec<_> = PLACES.iter().chain(&SHARED_PLACES).map(|place| name(place)).collect();
        assert_eq!(rows, places);
    }

    #[test]
    fn a_file_without_servers_names_the_places() {
        for file in
            [json!({}), json!([]), json!({"a": {"url": "x"}, "version": 1}), json!({"mcp": {"allowed": []}})]
        {
            let error = candidates(&file).unwrap_err();
            assert!(error.starts_with("it has no servers at `mcpServers`, `servers`, "), "{error}");
            assert_eq!(error.matches("`mcp.servers`").count(), 1, "{error}");
        }
    }
}
