//! The servers in a file of an MCP host. Pure: a value in, entries out.

use std::collections::BTreeMap;

use serde_json::Value;

use super::entry::{self, ReadEntry};
use super::places::{Candidate, candidates};
use super::transport::Transport;
use super::variables::Dialect;

/// One entry of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Its name in the file.
    pub key: String,
    /// What it is.
    pub state: EntryState,
}

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub enum EntryState {
    /// A server.
    Server(HostServer),
    /// A server that its owner has switched off.
    Off,
    /// None that can be imported, for this reason.
    Unusable(String),
}

/// A server in the configuration of an MCP host.
#[derive(Debug, PartialEq, Eq)]
pub struct HostServer {
    /// Its name in the file.
    pub key: String,
    /// The id of its upstream.
    pub id: String,
    /// Its transport.
    pub transport: Transport,
    /// What its user should know of it.
    pub notes: Vec<String>,
}

/// Finds the servers of a file. `is_gemini` says that it is one of Gemini CLI, which has variables of its own.
///
/// # Errors
/// When there is no place for servers in it.
pub fn parse(file: &Value, is_gemini: bool) -> Result<Vec<HostEntry>, String> {
    let mut entries: Vec<HostEntry> = Vec::new();
    let mut places = BTreeMap::new();
    for candidate in candidates(file)? {
        let mut state = state(&candidate, is_gemini);
        if let EntryState::Server(server) = &mut state {
            let first = entries.iter().find_map(|entry| match &entry.state {
                EntryState::Server(known) if known.id == server.id => Some(known),
                _ => None,
            });
            match first {
                // Hosts repeat a server for each of their projects.
                Some(known) if known.key == server.key && known.transport == server.transport => continue,
                Some(known) => {
                    let (id, other) = (&server.id, &known.key);
                    let place = places.get(other).cloned().unwrap_or_default();
                    state = EntryState::Unusable(format!(
                        "its id would be {id}, which \"{other}\" in {place} has already; rename one of them"
                    ));
                }
                None => drop(places.insert(candidate.key.clone(), name(&candidate.place))),
            }
        }
        entries.push(HostEntry { key: candidate.key, state });
    }
    Ok(entries)
}

/// The place as it is called in messages.
fn name(place: &str) -> String {
    if place.is_empty() { "this file".to_owned() } else { format!("`{place}`") }
}

fn state(candidate: &Candidate<'_>, is_gemini: bool) -> EntryState {
    let read = candidate.value.map_err(str::to_owned).and_then(|value| {
        let dialect = match &*candidate.place {
            "mcp" => Dialect::Braces,
            _ if is_gemini || value.get("httpUrl").is_some() => Dialect::Dollar,
            _ => Dialect::Common,
        };
        entry::read(value, dialect)
    });
    match read {
        Ok(Some(ReadEntry { transport, notes })) => {
            let key = candidate.key.clone();
            EntryState::Server(HostServer { id: id(&key), key, transport, notes })
        }
        Ok(None) => EntryState::Off,
        Err(reason) => EntryState::Unusable(reason),
    }
}

/// Derives the id of an upstream from the name in the file.
fn id(key: &str) -> String {
    let lower = key.to_lowercase();
    let words: Vec<_> =
        lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let joined = words.join("-");
    let id =
        if joined.starts_with(|c: char| c.is_ascii_lowercase()) { joined } else { format!("s-{joined}") };
    id.chars().take(63).collect::<String>().trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What became of each entry: the id of a server, what was said of another.
    fn states(file: &Value) -> Vec<String> {
        let entries = parse(file, false).unwrap();
        let said = entries.into_iter().map(|entry| match entry.state {
            EntryState::Server(server) => server.id,
            EntryState::Off => format!("{} is off", entry.key),
            EntryState::Unusable(reason) => format!("{}: {reason}", entry.key),
        });
        said.collect()
    }

    #[test]
    fn one_bad_entry_takes_no_good_one_along() {
        let file = json!({"mcpServers": {
            "a": {"args": ["x"]}, "b": "s3cret", "c": null, "d": {"url": 5}, "e": {"enabled": false, "url": "http://e"},
            "My Files": {"command": "npx"}, "docs": {"type": "http", "url": "https://d/mcp"}}});
        assert_eq!(
            states(&file),
            [
                "my-files",
                "a: neither `url` nor `command` is set",
                "b: it is a text",
                "c: it is null",
                "d: `url` is a number",
                "docs",
                "e is off",
            ]
        );
    }

    #[test]
    fn two_servers_never_become_one_upstream() {
        let file = json!({"mcpServers": {"My Files": {"url": "http://a"}, "my-files": {"url": "http://b"}, "my.files": {"disabled": true}},
            "projects": {"/a": {"mcpServers": {"x": {"url": "http://x"}}}, "/b": {"mcpServers": {"x": {"url": "http://x"}, "My Files": {"url": "http://c"}}}}});
        let taken = "which \"My Files\" in `mcpServers` has already; rename one of them";
        assert_eq!(
            states(&file),
            [
                "my-files".to_owned(),
                format!("my-files: its id would be my-files, {taken}"),
                "my.files is off".to_owned(),
                "x".to_owned(),
                format!("My Files: its id would be my-files, {taken}"),
            ]
        );
    }

    #[test]
    fn variables_are_those_of_the_host() {
        let key = |file: Value, is_gemini| match parse(&file, is_gemini).unwrap().remove(0).state {
            EntryState::Server(HostServer { transport: Transport::Http { headers, .. }, .. }) => {
                headers["X"].clone()
            }
            other => panic!("{other:?}"),
        };
        let entry = |url: &str| json!({"a": {url: "http://a", "headers": {"X": "$K {env:K}"}}});
        for (file, is_gemini, expected) in [
            (json!({"mcpServers": entry("url")}), false, "$K {env:K}"),
            (json!({"mcpServers": entry("url")}), true, "${K} {env:K}"),
            (json!({"mcpServers": entry("httpUrl")}), false, "${K} {env:K}"),
            (json!({"mcp": entry("url")}), false, "$K ${K}"),
        ] {
            assert_eq!(key(file.clone(), is_gemini), expected, "{file}");
        }
    }

    #[test]
    fn ids_are_made_of_what_names_have_of_them() {
        for (key, expected) in [("9 Lives!", "s-9-lives"), ("My Files", "my-files"), ("日本", "s"), ("", "s")]
        {
            assert_eq!(id(key), expected, "{key}");
        }
        assert_eq!(id(&"x".repeat(80)).len(), 63);
    }
}
