//! One entry of a host's file: a server, in the spellings of all hosts. Pure; it must not know where the entry stood. What it
//! says of a value is its type, since the value may be a secret.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::mcp_remote;
use super::transport::Transport;
use super::variables::{Dialect, is_like_a_variable};

/// Names and values, in their order.
type Pairs = Vec<(String, String)>;

/// Members that change what a server does, and are not taken along.
const NOT_TAKEN: [&str; 9] = [
    "cwd",
    "envFile",
    "env_file",
    "env_keys",
    "headersHelper",
    "oauth",
    "auth",
    "authProviderType",
    "requestOptions",
];

/// An entry that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReadEntry {
    /// Its transport.
    pub(super) transport: Transport,
    /// What its user should know of it.
    pub(super) notes: Vec<String>,
}

/// What Goose has in itself; `type` says so.
const BUILT_IN: [&str; 4] = ["builtin", "platform", "frontend", "inline_python"];

/// Why an entry is left out that is none to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftOut {
    /// Its owner has switched it off.
    Off,
    /// It is a part of its host.
    BuiltIn,
    /// It leads to a server of this gateway.
    Own(String),
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("it is disabled"),
            Self::BuiltIn => f.write_str("it is a part of its host"),
            Self::Own(server) => write!(f, "it leads to server {server} of Trunkline"),
        }
    }
}

/// Reads an entry, or says why it is left out.
///
/// # Errors
/// The reason for which it has no one meaning.
pub(super) fn read(entry: &Value, dialect: Dialect) -> Result<Result<ReadEntry, LeftOut>, String> {
    let members =
        Members { map: entry.as_object().ok_or_else(|| format!("it is {}", kind(entry)))?, dialect };
    if members.is_off()? {
        return Ok(Err(LeftOut::Off));
    }
    if members.is_built_in() {
        return Ok(Err(LeftOut::BuiltIn));
    }
    let transport = members.transport()?;
    let mut notes: Vec<_> = NOT_TAKEN
        .iter()
        .filter(|member| members.map.get(**member).is_some_and(says_something))
        .map(|member| format!("`{member}` is not taken along"))
        .collect();
    if let Transport::Http { headers, .. } = &transport {
        let like = headers.iter().filter(|(_, value)| is_like_a_variable(value));
        notes.extend(like.map(|(name, _)| {
            format!("the header {name} is sent as it stands, though it looks like a variable; write ${{NAME}} for one")
        }));
    }
    Ok(Ok(ReadEntry { transport, notes }))
}

/// The members of an entry.
#[derive(Clone, Copy)]
struct Members<'a> {
    map: &'a Map<String, Value>,
    dialect: Dialect,
}

impl<'a> Members<'a> {
    /// The first member of these names that is there.
    fn first(self, names: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        let is_there = |value: &&Value| !value.is_null() && value.as_str() != Some("");
        names.iter().find_map(|name| Some((*name, self.map.get(*name).filter(is_there)?)))
    }

    fn is_off(self) -> Result<bool, String> {
        for (name, off) in [("disabled", true), ("enabled", false), ("isActive", false)] {
            let Some((_, value)) = self.first(&[name]) else { continue };
            let text = value.as_str().map(str::to_ascii_lowercase);
            let said = match (value, text.as_deref()) {
                (Value::Bool(said), _) => *said,
                (_, Some("true")) => true,
                (_, Some("false")) => false,
                _ => return Err(format!("`{name}` is {}", kind(value))),
            };
            if said == off {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_built_in(self) -> bool {
        let kind = self.first(&["type"]).and_then(|(_, kind)| kind.as_str());
        kind.is_some_and(|kind| BUILT_IN.contains(&kind)) && self.first(&["command", "cmd"]).is_none()
    }

    fn transport(self) -> Result<Transport, String> {
        // With both, Gemini CLI means the first.
        if let Some((name, url)) = self.first(&["httpUrl", "url", "serverUrl", "uri"]) {
            let url = url.as_str().ok_or_else(|| format!("`{name}` is {}", kind(url)))?;
            let mut headers: BTreeMap<_, _> = self.pairs(&["headers", "http_headers"])?.into_iter().collect();
            headers.extend(self.headers_of_variables()?);
            return Ok(Transport::Http { url: self.dialect.common(url.trim()), headers });
        }
        let (command, env) = self.command()?;
        Ok(mcp_remote::unwrapped(&command, &env).unwrap_or(Transport::Stdio { command, env }))
    }

    /// The headers whose values Codex takes from the environment.
    fn headers_of_variables(self) -> Result<Pairs, String> {
        let mut headers: Pairs = self.pairs(&["env_http_headers"])?;
        for (_, variable) in &mut headers {
            *variable = format!("${{{variable}}}");
        }
        if let Some((name, variable)) = self.first(&["bearer_token_env_var"]) {
            let variable = variable.as_str().ok_or_else(|| format!("`{name}` is {}", kind(variable)))?;
            headers.push(("Authorization".to_owned(), format!("Bearer ${{{variable}}}")));
        }
        Ok(headers)
    }

    /// The command with its arguments, and its variables.
    fn command(self) -> Result<(Vec<String>, Pairs), String> {
        let (name, value) = self.first(&["command", "cmd"]).ok_or("neither `url` nor `command` is set")?;
        let args = self.list("args")?;
        let env = self.pairs(&["env", "environment", "envs"])?;
        match value {
            Value::String(line) if args.is_empty() => Ok((words(&self.dialect.common(line)), env)),
            Value::String(word) => {
                Ok((std::iter::once(self.dialect.common(word)).chain(args).collect(), env))
            }
            Value::Array(words) => {
                let words = self.texts(name, words)?;
                let is_command = words.first().is_some_and(|word| !word.is_empty());
                is_command
                    .then(|| (words.into_iter().chain(args).collect(), env))
                    .ok_or_else(|| format!("`{name}` is empty"))
            }
            // Zed, formerly.
            Value::Object(map) if map.contains_key("path") => {
                let mut map = map.clone();
                let path = map.remove("path").unwrap_or_default();
                map.insert("command".to_owned(), path);
                Members { map: &map, ..self }.command()
            }
            other => Err(format!("`{name}` is {}", kind(other))),
        }
    }

    fn list(self, name: &'static str) -> Result<Vec<String>, String> {
        match self.first(&[name]) {
            None => Ok(Vec::new()),
            Some((name, Value::Array(list))) => self.texts(name, list),
            Some((name, other)) => Err(format!("`{name}` is {}", kind(other))),
        }
    }

    fn texts(self, name: &str, list: &[Value]) -> Result<Vec<String>, String> {
        list.iter()
            .map(|value| self.text(value).ok_or_else(|| format!("`{name}` holds {}", kind(value))))
            .collect()
    }

    /// A map of texts. `null` is absent, and a list without elements is what PHP writes for an empty map.
    fn pairs(self, names: &[&'static str]) -> Result<Pairs, String> {
        let (name, map) = match self.first(names) {
            None => return Ok(Vec::new()),
            Some((_, Value::Array(list))) if list.is_empty() => return Ok(Vec::new()),
            Some((name, Value::Object(map))) => (name, map),
            Some((name, other)) => return Err(format!("`{name}` is {}", kind(other))),
        };
        map.iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| match self.text(value) {
                Some(text) => Ok((key.clone(), text)),
                None => Err(format!("`{name}` has {} as {key}", kind(value))),
            })
            .collect()
    }

    /// The text of a value that has one, with variables as they are written in common.
    fn text(self, value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(self.dialect.common(text)),
            Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// Splits a whole command line that stands in the place of a command. What may be the path of a file with spaces in its name,
/// or has quotes, is left.
fn words(line: &str) -> Vec<String> {
    let first = line.split_whitespace().next().unwrap_or_default();
    if first.contains(['/', '\\']) || line.contains(['"', '\'', '\\', '{']) {
        return vec![line.to_owned()];
    }
    line.split_whitespace().map(str::to_owned).collect()
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn http(url: &str, headers: &[(&str, &str)]) -> Transport {
        let headers: BTreeMap<_, _> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Transport::Http { url: url.to_owned(), headers }
    }

    fn stdio(command: &[&str], env: &[(&str, &str)]) -> Transport {
        Transport::Stdio {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn every_spelling_of_a_server_is_read() {
        let key = &[("X-K", "v")];
        for (entry, expected) in [
            (json!({"url": "http://a"}), http("http://a", &[])),
            (json!({"serverUrl": "http://a", "headers": {"X-K": "v"}}), http("http://a", key)),
            (json!({"httpUrl": "http://a", "url": "http://b"}), http("http://a", &[])),
            (json!({"uri": " http://a "}), http("http://a", &[])),
            (
                json!({"url": "http://a", "http_headers": {"X-K": "v"}, "headers": null}),
                http("http://a", key),
            ),
            (
                json!({"url": "http://a", "headers": {"X-K": 5, "Y": true, "Z": null}}),
                http("http://a", &[("X-K", "5"), ("Y", "true")]),
            ),
            (
                json!({"url": "http://a", "headers": [], "args": null, "env": null, "command": "", "disabled": null}),
                http("http://a", &[]),
            ),
            (json!({"url": "http://a", "enabled": true, "disabled": "False"}), http("http://a", &[])),
            (
                json!({"url": "http://a", "bearer_token_env_var": "T", "env_http_headers": {"X-K": "K"}}),
                http("http://a", &[("Authorization", "Bearer ${T}"), ("X-K", "${K}")]),
            ),
            (json!({"url": "", "command": "x", "args": []}), stdio(&["x"], &[])),
            (
                json!({"command": "x y", "args": ["-p", 8080, true]}),
                stdio(&["x y", "-p", "8080", "true"], &[]),
            ),
            (json!({"command": ["x", "-a"], "environment": {"K": 1}}), stdio(&["x", "-a"], &[("K", "1")])),
            (json!({"cmd": "x", "args": null, "envs": {"K": "v", "L": null}}), stdio(&["x"], &[("K", "v")])),
            (
                json!({"command": {"path": "x", "args": ["a"], "env": null}, "settings": {}}),
                stdio(&["x", "a"], &[]),
            ),
            (
                json!({"command": "npx -y @s/server --flag"}),
                stdio(&["npx", "-y", "@s/server", "--flag"], &[]),
            ),
            (json!({"command": "/opt/My App/server"}), stdio(&["/opt/My App/server"], &[])),
            (json!({"command": "sh -c 'a b'"}), stdio(&["sh -c 'a b'"], &[])),
        ] {
            let read = read(&entry, Dialect::Common);
            assert_eq!(read, Ok(Ok(ReadEntry { transport: expected, notes: Vec::new() })), "{entry}");
        }
    }

    #[test]
    fn what_is_switched_off_is_not_read_further() {
        for entry in [
            json!({"disabled": true, "url": 7}),
            json!({"disabled": "true"}),
            json!({"enabled": false, "url": "http://a"}),
            json!({"isActive": false, "url": "http://a"}),
        ] {
            assert_eq!(read(&entry, Dialect::Common), Ok(Err(LeftOut::Off)), "{entry}");
        }
        for entry in [json!({"type": "builtin", "name": "x"}), json!({"type": "platform", "timeout": 300})] {
            assert_eq!(read(&entry, Dialect::Common), Ok(Err(LeftOut::BuiltIn)), "{entry}");
        }
        assert_eq!(
            read(&json!({"type": "builtin"}), Dialect::Common).unwrap().unwrap_err().to_string(),
            "it is a part of its host"
        );
    }

    #[test]
    fn what_has_no_one_meaning_is_named_and_not_quoted() {
        for (entry, reason) in [
            (json!("s3cret"), "it is a text"),
            (json!(null), "it is null"),
            (json!([]), "it is a list"),
            (json!({}), "neither `url` nor `command` is set"),
            (json!({"url": null, "command": ""}), "neither `url` nor `command` is set"),
            (json!({"args": ["s3cret"]}), "neither `url` nor `command` is set"),
            (json!({"url": 5}), "`url` is a number"),
            (json!({"url": "http://a", "headers": "s3cret"}), "`headers` is a text"),
            (json!({"url": "http://a", "headers": {"X-K": ["s3cret"]}}), "`headers` has a list as X-K"),
            (json!({"url": "http://a", "disabled": "s3cret"}), "`disabled` is a text"),
            (json!({"url": "http://a", "bearer_token_env_var": 5}), "`bearer_token_env_var` is a number"),
            (json!({"command": "x", "args": "s3cret"}), "`args` is a text"),
            (json!({"command": "x", "args": [{"a": "s3cret"}]}), "`args` holds an object"),
            (json!({"command": "x", "env": ["s3cret"]}), "`env` is a list"),
            (json!({"command": true}), "`command` is a boolean"),
            (json!({"command": []}), "`command` is empty"),
            (json!({"command": {"args": ["s3cret"]}}), "`command` is an object"),
        ] {
            assert_eq!(read(&entry, Dialect::Common), Err(reason.to_owned()), "{entry}");
        }
    }

    #[test]
    fn what_is_not_taken_along_is_said() {
        let entry = json!({"url": "http://a", "cwd": "/x", "headersHelper": "get", "oauth": {}, "auth": false, "headers": {"X": "$KEY", "Y": "a$b"}});
        let notes = read(&entry, Dialect::Common).unwrap().unwrap().notes;
        assert_eq!(
            notes,
            [
                "`cwd` is not taken along",
                "`headersHelper` is not taken along",
                "the header X is sent as it stands, though it looks like a variable; write ${NAME} for one"
            ]
        );
        let transport = |dialect| read(&entry, dialect).unwrap().unwrap();
        assert_eq!(
            transport(Dialect::Dollar).transport,
            http("http://a", &[("X", "${KEY}"), ("Y", "a${b}")])
        );
    }
}
