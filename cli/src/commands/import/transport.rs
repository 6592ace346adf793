//! How a server of a host is reached: by a URL, or as a command. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::secrets::{Concealed, concealed, is_harmless, is_secret};
use super::variables::{Unresolved, Variables, shell_word, sole_default, sole_variable};

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

impl Transport {
    /// Replaces the variables in it.
    ///
    /// # Errors
    /// When one has no value.
    pub(super) fn resolve(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Unresolved> {
        let mut variables = Variables::new(lookup);
        let mut expand = |text: &String| variables.expand(text);
        let resolved = match self {
            Self::Http { url, headers } => Self::Http {
                url: expand(url),
                headers: headers.iter().map(|(name, value)| (name.clone(), expand(value))).collect(),
            },
            Self::Stdio { command, env } => Self::Stdio {
                command: command.iter().map(&mut expand).collect(),
                env: env.iter().map(|(name, value)| (name.clone(), expand(value))).collect(),
            },
        };
        variables.finish()?;
        Ok(resolved)
    }

    /// Renders the shell command that exposes it and registers it as upstream `id`; empty for a URL. Secrets are variables there,
    /// and variables of the command have no values, which may be secrets; a default stays that is none.
    pub(super) fn command_line(&self, id: &str) -> String {
        let Self::Stdio { env, .. } = self else { return String::new() };
        let variables: String = env.iter().map(|(key, value)| format!("{} ", assigned(key, value))).collect();
        format!("{variables}mcpctl expose --register {id} -- {}", self.shown())
    }

    /// Renders the command as words of a shell, with variables in the places of secrets; empty for a URL.
    pub(super) fn shown(&self) -> String {
        self.concealed().words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
    }

    /// The names of the variables that are in the places of secrets there.
    pub(super) fn hidden(&self) -> Vec<String> {
        self.concealed().names
    }

    fn concealed(&self) -> Concealed {
        match self {
            Self::Stdio { command, env } => concealed(command, env),
            Self::Http { .. } => Concealed::default(),
        }
    }
}

/// Sets a variable of the command to that of the shell, without showing what may be a secret.
fn assigned(key: &str, value: &str) -> String {
    let default = sole_default(value)
        .filter(|(name, default)| !is_secret(key) && !is_secret(name) && is_harmless(default));
    match (default, sole_variable(value)) {
        (Some(_), _) => format!("{key}={}", shell_word(value)),
        (None, from) => format!("{key}=\"${}\"", from.unwrap_or(key)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_alone_is_one_and_other_headers_are_headers() {
        let headers = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        for (all, expected) in [
            (headers(&[]), None),
            (headers(&[("authorization", "Bearer x")]), Some(json!({"bearer": {"token": "x"}}))),
            (
                headers(&[("Authorization", "Basic x")]),
                Some(json!({"headers": {"headers": {"Authorization": "Basic x"}}})),
            ),
            (headers(&[("X-Key", "k")]), Some(json!({"headers": {"headers": {"X-Key": "k"}}}))),
        ] {
            assert_eq!(credential(&all), expected);
        }
    }

    #[test]
    fn variables_are_replaced_wherever_hosts_replace_them() {
        let lookup = |name: &str| match name {
            "URL" => Some("https://a".to_owned()),
            "KEY" => Some("k3y".to_owned()),
            _ => None,
        };
        let http = |url: &str, value: &str| Transport::Http {
            url: url.into(),
            headers: BTreeMap::from([("X-Key".to_owned(), value.to_owned())]),
        };
        let remote = http("${URL}/mcp", "Bearer ${env:KEY}");
        assert_eq!(remote.resolve(&lookup), Ok(http("https://a/mcp", "Bearer k3y")));
        let stdio = |command: [&str; 2], env: [(&str, &str); 2]| Transport::Stdio {
            command: command.map(str::to_owned).into(),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        let command =
            stdio(["${BIN:-npx}", "--password=s3cret"], [("D", "${D:-x y}"), ("A", "${KEY:-s3cret}")]);
        assert_eq!(
            command.command_line("b"),
            r#"D="${D:-x y}" A="$A" mcpctl expose --register b -- "${BIN:-npx}" "--password=${PASSWORD}""#
        );
        assert_eq!(command.hidden(), ["PASSWORD"]);
        let command = stdio(["${BIN:-npx}", "--key=${KEY}"], [("T", "${KEY}"), ("U", "u${KEY}")]);
        assert_eq!(
            command.command_line("b"),
            r#"T="$KEY" U="$U" mcpctl expose --register b -- "${BIN:-npx}" "--key=${KEY}""#
        );
        let resolved = stdio(["npx", "--key=k3y"], [("T", "k3y"), ("U", "uk3y")]);
        assert_eq!(command.resolve(&lookup), Ok(resolved));
        let error = http("https://c/mcp", "${NONE}").resolve(&lookup).unwrap_err();
        assert_eq!(error.to_string(), "${NONE} is not set in the environment");
    }
}
