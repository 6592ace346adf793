//! Configuration files of MCP hosts. Pure: text in, servers out.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::jsonc;
use super::variables::{Unresolved, Variables, shell_word, sole_variable};

/// A server in the configuration of an MCP host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostServer {
    /// Its name in the file.
    pub key: String,
    /// The id of its upstream.
    pub id: String,
    /// Its transport.
    pub transport: Transport,
}

/// The transport of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A URL, with headers.
    Http {
        /// The URL.
        url: String,
        /// The headers. Their values may be secrets.
        headers: BTreeMap<String, String>,
    },
    /// A command, with environment variables.
    Stdio {
        /// The command and its arguments.
        command: Vec<String>,
        /// The variables. Their values may be secrets.
        env: Vec<(String, String)>,
    },
}

/// The fields of a server that matter here. Hosts add fields of their own.
#[derive(Deserialize)]
struct Server {
    url: Option<String>,
    #[serde(rename = "serverUrl")]
    server_url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, Value>,
    #[serde(default)]
    disabled: bool,
}

/// Parses the servers of a file: `mcpServers` (Claude, Cursor and most others) or `servers` (Visual Studio Code).
pub fn parse(text: &str) -> Result<Vec<HostServer>, String> {
    let file: Value =
        serde_json::from_str(&jsonc::to_json(text)).map_err(|error| format!("invalid JSON: {error}"))?;
    let servers = file.get("mcpServers").or_else(|| file.get("servers")).and_then(Value::as_object);
    let servers = servers.ok_or("it contains neither `mcpServers` nor `servers`")?;
    let mut entries = Vec::new();
    for (key, value) in servers {
        // The parser's own message is left out, because it may quote a secret.
        let server = Server::deserialize(value).map_err(|_| format!("server {key}: invalid fields"))?;
        if !server.disabled {
            let transport = transport(server)
                .ok_or_else(|| format!("server {key}: neither `url` nor `command` is set"))?;
            entries.push(HostServer { key: key.clone(), id: id(key), transport });
        }
    }
    Ok(entries)
}

impl HostServer {
    /// Replaces the variables in it.
    ///
    /// # Errors
    /// When one has no value.
    pub fn resolve(self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Unresolved> {
        let mut variables = Variables::new(lookup);
        let mut expand = |text: &String| variables.expand(text);
        let transport = match &self.transport {
            Transport::Http { url, headers } => Transport::Http {
                url: expand(url),
                headers: headers.iter().map(|(name, value)| (name.clone(), expand(value))).collect(),
            },
            Transport::Stdio { command, env } => Transport::Stdio {
                command: command.iter().map(&mut expand).collect(),
                env: env.iter().map(|(name, value)| (name.clone(), expand(value))).collect(),
            },
        };
        variables.finish()?;
        Ok(Self { transport, ..self })
    }
}

fn transport(server: Server) -> Option<Transport> {
    if let Some(url) = server.url.or(server.server_url) {
        return Some(Transport::Http { url, headers: server.headers });
    }
    let command: Vec<_> = std::iter::once(server.command?).chain(server.args).collect();
    if let Some(remote) = mcp_remote(&command) {
        return Some(remote);
    }
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let env = server.env.into_iter().map(|(key, value)| (key, text(value))).collect();
    Some(Transport::Stdio { command, env })
}

/// Unwraps `npx mcp-remote URL --header "Name: value"`, a bridge to a URL that Trunkline can reach itself.
fn mcp_remote(command: &[String]) -> Option<Transport> {
    let at = command.iter().position(|word| word == "mcp-remote" || word.starts_with("mcp-remote@"))?;
    let rest = &command[at + 1..];
    let url = rest.iter().find(|word| word.starts_with("http://") || word.starts_with("https://"))?.clone();
    let values = rest.iter().zip(rest.iter().skip(1)).filter(|(flag, _)| *flag == "--header");
    let header = |(_, value): (&String, &String)| {
        let (name, value) = value.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    Some(Transport::Http { url, headers: values.filter_map(header).collect() })
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

/// Turns headers into a credential; `None` if there are none.
pub fn credential(headers: &BTreeMap<String, String>) -> Option<Value> {
    let mut all = headers.iter();
    match (all.next(), all.next()) {
        (None, _) => None,
        (Some((name, value)), None)
            if name.eq_ignore_ascii_case("authorization") && value.starts_with("Bearer ") =>
        {
            Some(json!({ "bearer": { "token": value.trim_start_matches("Bearer ") } }))
        }
        _ => Some(json!({ "headers": { "headers": headers } })),
    }
}

/// Renders the shell command that exposes and registers a server. Variables are named without their values, which may
/// be secrets.
pub fn command_line(entry: &HostServer) -> String {
    let Transport::Stdio { command, env } = &entry.transport else { return String::new() };
    let variables = env.iter().map(|(key, value)| {
        let from = sole_variable(value).unwrap_or(key);
        format!("{key}=\"${from}\" ")
    });
    let words = command.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ");
    format!("{}mcpctl expose --register {} -- {words}", variables.collect::<String>(), entry.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_remotes_and_bridges() {
        let text = r#"{"theirOwn": 1, "mcpServers": {
            "My Files": {"command": "npx", "args": ["-y", "server-filesystem", "/a b"], "env": {"KEY": "s3cret"}},
            "docs": {"type": "http", "url": "https://d/mcp", "headers": {"Authorization": "Bearer x"}},
            "old": {"command": "npx", "args": ["mcp-remote@latest", "https://o/mcp", "--header", "X-Key: k"]},
            "off": {"command": "x", "disabled": true}}}"#;
        let entries = parse(text).unwrap();
        let lines: Vec<_> = entries.iter().map(command_line).collect();
        assert_eq!(
            lines,
            ["KEY=\"$KEY\" mcpctl expose --register my-files -- npx -y server-filesystem '/a b'", "", "",]
        );
        let Transport::Http { headers, .. } = &entries[1].transport else { panic!("{entries:?}") };
        assert_eq!(credential(headers).unwrap(), json!({"bearer": {"token": "x"}}));
        let headers = BTreeMap::from([("X-Key".to_owned(), "k".to_owned())]);
        assert_eq!(
            entries[2].transport,
            Transport::Http { url: "https://o/mcp".into(), headers: headers.clone() }
        );
        assert_eq!(credential(&headers).unwrap(), json!({"headers": {"headers": {"X-Key": "k"}}}));
    }

    #[test]
    fn variables_are_replaced_wherever_hosts_replace_them() {
        let text = r#"{"mcpServers": { // mine
            "a": {"url": "${URL}/mcp", "headers": {"X-Key": "Bearer ${env:KEY}"},},
            "b": {"command": "${BIN:-npx}", "args": ["--key=${KEY}"], "env": {"T": "${KEY}", "U": "u${KEY}"}},
            "c": {"url": "https://c/mcp", "headers": {"X-Key": "${NONE}"}},
        }}"#;
        let lookup = |name: &str| match name {
            "URL" => Some("https://a".to_owned()),
            "KEY" => Some("k3y".to_owned()),
            _ => None,
        };
        let entries = parse(text).unwrap();
        assert_eq!(
            command_line(&entries[1]),
            r#"T="$KEY" U="$U" mcpctl expose --register b -- "${BIN:-npx}" "--key=${KEY}""#
        );
        let [a, b, c] = entries.try_into().unwrap();
        let headers = BTreeMap::from([("X-Key".to_owned(), "Bearer k3y".to_owned())]);
        assert_eq!(
            a.resolve(&lookup).unwrap().transport,
            Transport::Http { url: "https://a/mcp".into(), headers }
        );
        assert_eq!(
            b.resolve(&lookup).unwrap().transport,
            Transport::Stdio {
                command: vec!["npx".into(), "--key=k3y".into()],
                env: vec![("T".into(), "k3y".into()), ("U".into(), "uk3y".into())]
            }
        );
        assert_eq!(c.resolve(&lookup).unwrap_err().to_string(), "${NONE} is not set in the environment");
    }

    #[test]
    fn an_error_names_the_server_and_quotes_nothing() {
        let error = parse(r#"{"servers": {"a": {"command": "x", "env": ["s3cret"]}}}"#).unwrap_err();
        assert_eq!(error, "server a: invalid fields");
        assert_eq!(id("9 Lives!"), "s-9-lives");
    }
}
