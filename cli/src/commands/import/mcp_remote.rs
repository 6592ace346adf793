//! `mcp-remote`, a command that bridges to a URL which Trunkline reaches itself. Pure.

use std::collections::BTreeMap;

use super::transport::Transport;
use super::variables::with_values;

/// Unwraps `npx mcp-remote URL --header "Name: value"`. Variables that the entry sets itself get their values, as the bridge
/// does; `None` for other commands, and for headers that cannot be read.
pub(super) fn unwrapped(command: &[String], env: &[(String, String)]) -> Option<Transport> {
    let rest = &command[command.iter().position(|word| is_mcp_remote(word))? + 1..];
    let url = rest.iter().find(|word| word.starts_with("http://") || word.starts_with("https://"))?;
    let mut headers = BTreeMap::new();
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        let header = match word.strip_prefix("--header") {
            Some("") => words.next()?,
            Some(rest) if rest.starts_with('=') => &rest[1..],
            _ => continue,
        };
        let (name, value) = header.split_once(':')?;
        headers.insert(with_values(name.trim(), env), with_values(value.trim(), env).trim().to_owned());
    }
    Some(Transport::Http { url: with_values(url, env), headers })
}

fn is_mcp_remote(word: &str) -> bool {
    let path = word.replace('\\', "/");
    word == "mcp-remote" || word.starts_with("mcp-remote@") || path.ends_with("/mcp-remote/dist/proxy.js")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_of_the_bridge_are_the_upstreams() {
        let env = [("AUTH", "Bearer a:b"), ("PAT", "${input:pat}"), ("SELF", "${SELF}")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (line, expected) in [
            ("npx -y mcp-remote http://r/mcp", Some("")),
            (
                "cmd /c npx mcp-remote@latest --allow-http http://r/mcp --transport http-only --header X-K:~k",
                Some("X-K=k"),
            ),
            ("npx mcp-remote http://r/mcp --header X-K:${AUTH}", Some("X-K=Bearer a:b")),
            ("npx mcp-remote http://r/mcp --header X-K:~Bearer~${PAT}", Some("X-K=Bearer ${input:pat}")),
            ("npx mcp-remote http://r/mcp --header=X-K:~eq --header Y:z", Some("X-K=eq Y=z")),
            ("npx mcp-remote http://r/mcp --header X-K:${SELF}${OTHER:-x}", Some("X-K=${SELF}${OTHER:-x}")),
            ("node /lib/node_modules/mcp-remote/dist/proxy.js http://r/mcp", Some("")),
            // Without its credential the upstream would be another.
            ("npx mcp-remote http://r/mcp --header X-K", None),
            ("npx mcp-remote http://r/mcp --header", None),
            ("npx not-mcp-remote http://r/mcp", None),
            ("npx mcp-remote", None),
        ] {
            let command: Vec<_> = line.split(' ').map(|word| word.replace('~', " ")).collect();
            let said = unwrapped(&command, &env).map(|transport| match transport {
                Transport::Http { url, headers } => {
                    assert_eq!(url, "http://r/mcp");
                    headers
                        .iter()
                        .map(|(name, value)| format!("{name}={value}"))
                        .collect::<Vec<_>>()
                        .join(" ")
                }
                Transport::Stdio { .. } => unreachable!(),
            });
            assert_eq!(said.as_deref(), expected, "{line}");
        }
    }
}
