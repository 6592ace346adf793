//! Methods of MCP that a token may use. It must not know how any of them is handled.

use std::fmt;

use crate::text::{nearest, quoted};

/// Patterns of methods, in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods {
    patterns: Vec<String>,
    /// A bit for each of [`Methods::KNOWN`].
    allowed: u64,
}

/// Text that is no pattern of methods.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// No method has this name.
    #[error("{text} is no method of MCP{}", hint(.nearest))]
    Unknown {
        /// As written.
        text: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// No method matches the pattern.
    #[error("{0} matches no method of MCP; write one such as tools/call, or a pattern such as resources/*")]
    MatchesNothing(String),
}

fn hint(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name}?"),
        None => "; write one such as tools/call, or a pattern such as resources/*".to_owned(),
    }
}

impl Methods {
    /// The requests that a client can send, in every era.
    pub const KNOWN: &[&str] = &[
        "initialize",
        "ping",
        "server/discover",
        "completion/complete",
        "logging/setLevel",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
        "tools/list",
        "tools/call",
        "subscriptions/listen",
        "tasks/get",
        "tasks/result",
        "tasks/list",
        "tasks/cancel",
        "tasks/update",
    ];

    /// Those that are allowed to everyone, whatever is written: without them there is no conversation.
    pub const ALWAYS: &[&str] = &["initialize", "ping", "server/discover"];

    /// What lists what a method uses: who may call tools may see which there are, because no client calls a tool that it was not shown.
    const LISTED_BY: &[(&str, &str)] = &[
        ("tools/call", "tools/list"),
        ("prompts/get", "prompts/list"),
        ("resources/read", "resources/list"),
        ("resources/read", "resources/templates/list"),
    ];

    /// Whether a pattern allows a method: because it matches it, or a method for which it lists.
    #[must_use]
    pub fn covers(pattern: &str, method: &str) -> bool {
        let listed = Self::LISTED_BY.iter().filter(|(_, list)| *list == method);
        glob::matches(pattern, method) || listed.into_iter().any(|(used, _)| glob::matches(pattern, used))
    }

    /// All of these.
    ///
    /// # Errors
    /// With what to write, where one of them matches no method.
    pub fn new(patterns: &[String]) -> Result<Self, MethodError> {
        let mut allowed = bits(|method| Self::ALWAYS.contains(&method));
        for pattern in patterns {
            match bits(|method| Self::covers(pattern, method)) {
                0 => return Err(refusal(pattern)),
                found => allowed |= found,
            }
        }
        Ok(Self { patterns: patterns.to_vec(), allowed })
    }

    /// Whether this request may be made. Notifications are never asked about.
    #[must_use]
    pub fn allows(&self, method: &str) -> bool {
        match Self::KNOWN.iter().position(|known| *known == method) {
            Some(at) => self.allowed & (1 << at) != 0,
            None => self.patterns.iter().any(|pattern| glob::matches(pattern, method)),
        }
    }

    /// The patterns, as they were written.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

fn bits(is_in: impl Fn(&str) -> bool) -> u64 {
    let found = Methods::KNOWN.iter().enumerate().filter(|(_, method)| is_in(method));
    found.fold(0, |bits, (at, _)| bits | (1 << at))
}

fn refusal(pattern: &str) -> MethodError {
    if glob::is_pattern(pattern) {
        return MethodError::MatchesNothing(quoted(pattern));
    }
    let nearest = if pattern.len() <= 64 { nearest(pattern, Methods::KNOWN.iter().copied()) } else { None };
    MethodError::Unknown { text: quoted(pattern), nearest }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.patterns.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn methods(patterns: &[&str]) -> Result<Methods, MethodError> {
        Methods::new(&patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn patterns_allow_what_they_match_and_the_handshake() {
        let found = methods(&["tools/call", "resources/*"]).unwrap();
        assert_eq!(found.to_string(), "tools/call, resources/*");
        for (method, expected) in [
            ("tools/call", true),
            ("tools/list", true),
            ("prompts/list", false),
            ("resources/read", true),
            ("resources/templates/list", true),
            ("resources/of/tomorrow", true),
            ("prompts/get", false),
            ("tasks/get", false),
            ("initialize", true),
            ("server/discover", true),
            ("ping", true),
            ("pong", false),
        ] {
            assert_eq!(found.allows(method), expected, "{method}");
        }
        assert!(Methods::KNOWN.iter().all(|method| methods(&["*"]).unwrap().allows(method)));
    }

    #[test]
    fn none_are_the_handshake_alone() {
        let allowed = Methods::KNOWN.iter().filter(|method| methods(&[]).unwrap().allows(method));
        assert_eq!(allowed.copied().collect::<Vec<_>>(), Methods::ALWAYS);
    }

    #[test]
    fn what_matches_nothing_is_refused_with_what_to_write() {
        for (pattern, expected) in [
            ("tool/call", "\"tool/call\" is no method of MCP; did you mean tools/call?"),
            ("Tools/Call", "\"Tools/Call\" is no method of MCP; did you mean tools/call?"),
            ("resource/read", "\"resource/read\" is no method of MCP; did you mean resources/read?"),
            (
                "frobnicate",
                "\"frobnicate\" is no method of MCP; write one such as tools/call, or a pattern such as resources/*",
            ),
            ("", "\"\" is no method of MCP; write one such as tools/call, or a pattern such as resources/*"),
            (
                "tool/*",
                "\"tool/*\" matches no method of MCP; write one such as tools/call, or a pattern such as resources/*",
            ),
        ] {
            assert_eq!(methods(&[pattern]).unwrap_err().to_string(), expected);
        }
        assert!(
            methods(&["tools/call", "notifications/progress"]).is_err(),
            "notifications are not asked about"
        );
    }

    proptest! {
        #[test]
        fn they_allow_what_a_pattern_matches(patterns in prop::collection::vec("[a-z/*]{0,12}|tools/\\*|\\*/list|.{0,90}", 0..4), at in 0..20usize) {
            let method = Methods::KNOWN[at];
            if let Ok(found) = Methods::new(&patterns) {
                let plainly = Methods::ALWAYS.contains(&method) || patterns.iter().any(|pattern| Methods::covers(pattern, method));
                prop_assert_eq!(found.allows(method), plainly);
            }
        }
    }
}
