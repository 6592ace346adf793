//! The servers in a file of an MCP host. Pure: a value in, entries out.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::entry::{self, LeftOut, ReadEntry};
use super::places::{Candidate, candidates};
use super::transport::Transport;
use super::variables::Dialect;
use crate::commands::client_config::ours::recognize;
use crate::shell::quoted;

/// One entry of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Where it stands.
    pub place: String,
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
    /// None to import, for this reason.
    LeftOut(LeftOut),
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

/// What is asked for of a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Names of servers, places, or places with names behind them; empty: all.
    pub only: &'a [String],
    /// Whether the file is one of Gemini CLI, which has variables of its own.
    pub is_gemini: bool,
    /// The edge of this gateway.
    pub edge: Option<&'a str>,
}

/// Finds the servers of a file that are asked for.
///
/// # Errors
/// When there is no place for servers in it.
pub fn parse(file: &Value, asked: Asked<'_>) -> Result<Vec<HostEntry>, String> {
    let mut entries: Vec<HostEntry> = Vec::new();
    let mut places = BTreeMap::new();
    let is_asked = |candidate: &Candidate<'_>| {
        asked.only.is_empty()
            || asked.only.iter().any(|word| is_meant(word, &candidate.place, &candidate.key))
    };
    for candidate in candidates(file)?.into_iter().filter(is_asked) {
        let mut state = state(&candidate, asked);
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
                    let word = quoted(&exact(&candidate.place, &candidate.key));
                    state = EntryState::Unusable(format!(
                        "its id would be {id}, which \"{other}\" in {place} has already; import it under another one with `--only {word} \
                         --as NAME`"
                    ));
                }
                None => drop(places.insert(candidate.key.clone(), name(&candidate.place))),
            }
        }
        entries.push(HostEntry { place: candidate.place, key: candidate.key, state });
    }
    Ok(entries)
}

/// Whether a word names a server: by its name, by where it stands, or by both.
fn is_meant(word: &str, place: &str, key: &str) -> bool {
    word == key || (!place.is_empty() && word == place) || word == exact(place, key)
}

/// The word that names a server, and no other.
fn exact(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}

impl HostEntry {
    /// Whether a word names it.
    pub fn is_meant(&self, word: &str) -> bool {
        is_meant(word, &self.place, &self.key)
    }
}

/// The place as it is called in messages.
fn name(place: &str) -> String {
    if place.is_empty() { "this file".to_owned() } else { format!("`{place}`") }
}

fn state(candidate: &Candidate<'_>, asked: Asked<'_>) -> EntryState {
    let read = candidate.value.map_err(str::to_owned).and_then(|value| {
        let dialect = match &*candidate.place {
            "mcp" => Dialect::Braces,
            _ if asked.is_gemini || value.get("httpUrl").is_some() => Dialect::Dollar,
            _ => Dialect::Common,
        };
        entry::read(value, dialect)
    });
    match read {
        Ok(Ok(ReadEntry { transport, notes })) => {
            if let Some(server) = own(candidate, &transport, asked.edge) {
                return EntryState::LeftOut(LeftOut::Own(server));
            }
            let key = candidate.key.clone();
            EntryState::Server(HostServer { id: id(&key), key, transport, notes })
        }
        Ok(Err(why)) => EntryState::LeftOut(why),
        Err(reason) => EntryState::Unusable(reason),
    }
}

/// The server of this gateway that an entry leads to, also through a bridge.
fn own(candidate: &Candidate<'_>, transport: &Transport, edge: Option<&str>) -> Option<String> {
    let bridged = match transport {
        Transport::Http { url, .. } => json!({ "url": url }),
        Transport::Stdio { .. } => Value::Null,
    };
    let found = candidate.value.ok().and_then(|entry| recognize(entry, edge));
    found.or_else(|| recognize(&bridged, edge)).map(|ours| ours.server)
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
    use super::*;

    /// What became of each entry: the id of a server, what was said of another.
    fn states(file: &Value) -> Vec<String> {
        states_of(file, &[])
    }

    fn states_of(file: &Value, only: &[&str]) -> Vec<String> {
        let only: Vec<_> = only.iter().map(|word| (*word).to_owned()).collect();
        let asked = Asked { only: &only, edge: Some("http://e:1"), ..Asked::default() };
        let entries = parse(file, asked).unwrap();
        let said = entries.into_iter().map(|entry| match entry.state {
            EntryState::Server(server) => server.id,
            EntryState::LeftOut(LeftOut::Off) => format!("{} is off", entry.key),
            EntryState::LeftOut(why) => format!("{}: {why}", entry.key),
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
        let taken =
            "which \"My Files\" in `mcpServers` has already; import it under another one with `--only";
        assert_eq!(
            states(&file),
            [
                "my-files".to_owned(),
                format!("my-files: its id would be my-files, {taken} mcpServers.my-files --as NAME`"),
                "my.files is off".to_owned(),
                "x".to_owned(),
                format!(
                    "My Files: its id would be my-files, {taken} 'projects./b.mcpServers.My Files' --as NAME`"
                ),
            ]
        );
        for (only, expected) in [
            ("my-files", "my-files"),
            ("projects./b.mcpServers", "my-files x"),
            ("projects./b.mcpServers.My Files", "my-files"),
            ("x|mcpServers.my-files", "my-files x"),
            ("projects", ""),
        ] {
            let words: Vec<_> = only.split('|').collect();
            assert_eq!(states_of(&file, &words).join(" "), expected, "{only}");
        }
    }

    #[test]
    fn what_leads_to_this_gateway_is_left_out() {
        let file = json!({"mcpServers": {
            "a": {"url": "http://e:1/servers/dev/mcp"}, "b": {"command": "mcpctl", "args": ["connect", "dev"]},
            "c": {"command": "npx", "args": ["mcp-remote", "http://e:1/servers/dev/mcp"]}, "d": {"url": "http://e:2/servers/dev/mcp"}}});
        let own = |key: &str| format!("{key}: it leads to server dev of Trunkline");
        assert_eq!(states(&file), [own("a"), own("b"), own("c"), "d".to_owned()]);
    }

    #[test]
    fn variables_are_those_of_the_host() {
        let parsed = |file: &Value, is_gemini| parse(file, Asked { is_gemini, ..Asked::default() }).unwrap();
        let key = |file: Value, is_gemini| match parsed(&file, is_gemini).remove(0).state {
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
