//! Variables in the configuration of a host: `${NAME}` and `${NAME:-default}` (Claude Code), `${env:NAME}` and
//! `${userHome}` (Cursor, Visual Studio Code), `${input:id}` (Visual Studio Code). Pure: it must not know where values
//! come from.

use std::borrow::Cow;
use std::collections::BTreeSet;

/// The variables of a server that have no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", said(.0))]
pub(super) struct Unresolved(BTreeSet<String>);

impl Unresolved {
    /// Their names; `input:id` is one that the host asks for.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.iter()
    }
}

/// Values of variables, by name.
pub(super) struct Variables<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    unresolved: BTreeSet<String>,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    /// A variable of the environment. A value that is empty or absent gives way to the default.
    Variable {
        name: &'a str,
        default: Option<&'a str>,
    },
    /// A value that the host has: `input:id`, which it asks for, or `command:id`.
    OfHost(&'a str),
}

impl<'a> Variables<'a> {
    /// Reads values with `lookup`.
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, unresolved: BTreeSet::new() }
    }

    /// Replaces the variables in a text. Those without a value are remembered.
    pub(super) fn expand(&mut self, text: &str) -> String {
        parts(text).into_iter().map(|part| self.value(part)).collect()
    }

    fn value<'t>(&mut self, part: Part<'t>) -> Cow<'t, str> {
        match part {
            Part::Text(text) => text.into(),
            Part::Variable { name, default } => {
                let value = (self.lookup)(name).filter(|value| !value.is_empty() || default.is_none());
                match (value, default) {
                    (Some(value), _) => value.into(),
                    (None, Some(default)) => default.into(),
                    (None, None) => self.missing(name),
                }
            }
            Part::OfHost(name) => (self.lookup)(name).map_or_else(|| self.missing(name), Cow::Owned),
        }
    }

    fn missing(&mut self, name: &str) -> Cow<'static, str> {
        self.unresolved.insert(name.to_owned());
        "".into()
    }

    /// Ends the replacement.
    ///
    /// # Errors
    /// When a variable had no value.
    pub(super) fn finish(self) -> Result<(), Unresolved> {
        if self.unresolved.is_empty() { Ok(()) } else { Err(Unresolved(self.unresolved)) }
    }
}

/// How a host writes variables of the environment, beside the common `${NAME}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Not otherwise.
    Common,
    /// `$NAME` (Gemini CLI).
    Dollar,
    /// `{env:NAME}` (OpenCode).
    Braces,
}

impl Dialect {
    /// A text with its variables as they are written in common.
    pub(super) fn common(self, text: &str) -> String {
        let (open, close) = match self {
            Self::Common => return text.to_owned(),
            Self::Dollar => ("$", ""),
            Self::Braces => ("{env:", "}"),
        };
        let (mut common, mut rest) = (String::new(), text);
        while let Some(at) = rest.find(open) {
            let (before, after) = (&rest[..at], &rest[at + open.len()..]);
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            common.push_str(before);
            rest = match after[end..].strip_prefix(close) {
                Some(rest) if is_name(&after[..end]) => {
                    common.push_str(&format!("${{{}}}", &after[..end]));
                    rest
                }
                _ => {
                    common.push_str(open);
                    after
                }
            };
        }
        common + rest
    }
}

/// Whether what is no variable here looks like one of some host, such as `$NAME`, `{env:NAME}`, `{{NAME}}` or `%NAME%`.
pub(super) fn is_like_a_variable(text: &str) -> bool {
    let is_like_one = |word: &str| {
        let inner = word.strip_prefix('%').and_then(|rest| rest.strip_suffix('%'));
        word.strip_prefix('$').or(inner).is_some_and(is_name)
            || ["${", "{{", "{env:", "{file:"].iter().any(|open| word.contains(open))
    };
    let texts = parts(text).into_iter().filter_map(|part| match part {
        Part::Text(text) => Some(text),
        Part::Variable { .. } | Part::OfHost(_) => None,
    });
    texts.flat_map(str::split_whitespace).any(is_like_one)
}

/// A text with the values of some variables in their places; the others stay.
pub(super) fn with_values(text: &str, values: &[(String, String)]) -> String {
    let value = |name: &str| values.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let written = |part| match part {
        Part::Text(text) => text.to_owned(),
        Part::Variable { name, default } => value(name).unwrap_or_else(|| match default {
            Some(default) => format!("${{{name}:-{default}}}"),
            None => format!("${{{name}}}"),
        }),
        Part::OfHost(name) => format!("${{{name}}}"),
    };
    parts(text).into_iter().map(written).collect()
}

fn said(names: &BTreeSet<String>) -> String {
    let (of_host, variables): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.contains(':'));
    let (inputs, of_host): (Vec<_>, Vec<_>) =
        of_host.into_iter().partition(|name| name.starts_with("input:"));
    let list =
        |names: &[&String]| names.iter().map(|name| format!("${{{name}}}")).collect::<Vec<_>>().join(", ");
    let instead = "write ${env:NAME} in its place, and set that variable";
    let mut said = Vec::new();
    if !variables.is_empty() {
        said.push(format!("{} is not set in the environment", list(&variables)));
    }
    if !inputs.is_empty() {
        said.push(format!(
            "{} is asked for on a terminal, where the file says how; else {instead}",
            list(&inputs)
        ));
    }
    if !of_host.is_empty() {
        said.push(format!("{} is known to its host only: {instead}", list(&of_host)));
    }
    said.join("; ")
}

/// Renders a text as a word of a POSIX shell in which its variables are variables of the shell, so that no value is
/// printed.
pub(super) fn shell_word(text: &str) -> String {
    let parts = parts(text);
    if parts.iter().all(|part| !matches!(part, Part::Variable { .. })) {
        return quote(text);
    }
    let word: String = parts
        .into_iter()
        .map(|part| match part {
            Part::Text(text) => escape(text),
            Part::Variable { name, default: None } => format!("${{{name}}}"),
            Part::Variable { name, default: Some(default) } => format!("${{{name}:-{}}}", escape(default)),
            Part::OfHost(name) => escape(&format!("${{{name}}}")),
        })
        .collect();
    format!("\"{word}\"")
}

/// The variable of the environment that a text consists of, and nothing else.
pub(super) fn sole_variable(text: &str) -> Option<&str> {
    match parts(text)[..] {
        [Part::Variable { name, default: None }] => Some(name),
        _ => None,
    }
}

/// The variable with a default that a text consists of, and nothing else.
pub(super) fn sole_default(text: &str) -> Option<(&str, &str)> {
    match parts(text)[..] {
        [Part::Variable { name, default: Some(default) }] => Some((name, default)),
        _ => None,
    }
}

/// Whether there are variables in a text.
pub(super) fn has_variables(text: &str) -> bool {
    parts(text).iter().any(|part| !matches!(part, Part::Text(_)))
}

/// Escapes what has a meaning between double quotes (POSIX.1-2017, Shell 2.2.3).
fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| matches!(c, '"' | '\\' | '$' | '`').then_some('\\').into_iter().chain([c]))
        .collect()
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Splits a text at its variables. What only looks like one, such as `${a[@]}`, is text.
fn parts(text: &str) -> Vec<Part<'_>> {
    let (mut parts, mut start, mut from) = (Vec::new(), 0, 0);
    while let Some(at) = text[from..].find("${").map(|at| from + at) {
        let Some(end) = text[at..].find('}').map(|end| at + end) else { break };
        from = at + 2;
        let Some(part) = variable(&text[from..end]) else { continue };
        if start < at {
            parts.push(Part::Text(&text[start..at]));
        }
        parts.push(part);
        start = end + 1;
        from = start;
    }
    if start < text.len() {
        parts.push(Part::Text(&text[start..]));
    }
    parts
}

/// Reads what is between the braces.
fn variable(inner: &str) -> Option<Part<'_>> {
    if inner == "userHome" {
        return Some(Part::Variable { name: "HOME", default: None });
    }
    if let Some((kind, rest)) = inner.split_once(':')
        && ["input", "command", "config"].contains(&kind)
    {
        return (!rest.is_empty()).then_some(Part::OfHost(inner));
    }
    let inner = inner.strip_prefix("env:").unwrap_or(inner);
    let (name, default) =
        inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
    is_name(name).then_some(Part::Variable { name, default })
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, Unresolved> {
        let lookup = |name: &str| match name {
            "KEY" => Some("k3y".to_owned()),
            "HOME" => Some("/h/u".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let mut variables = Variables::new(&lookup);
        let expanded = variables.expand(text);
        variables.finish().map(|()| expanded)
    }

    #[test]
    fn every_spelling_is_replaced() {
        for (text, expanded) in [
            ("${KEY}", "k3y"),
            ("Bearer ${env:KEY}!", "Bearer k3y!"),
            ("${KEY:-x}${NONE:-http://a:1/}b", "k3yhttp://a:1/b"),
            ("${EMPTY}|${EMPTY:-x}|${NONE:-}", "|x|"),
            ("${userHome}/.cfg", "/h/u/.cfg"),
            ("$KEY ${a[@]} ${} ${1} ${KEY", "$KEY ${a[@]} ${} ${1} ${KEY"),
            ("${a ${KEY}", "${a k3y"),
            ("é${KEY}é", "ék3yé"),
        ] {
            assert_eq!(expand(text).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn the_spellings_of_hosts_become_the_common_one() {
        for (dialect, text, common) in [
            (Dialect::Common, "$KEY {env:KEY}", "$KEY {env:KEY}"),
            (Dialect::Dollar, "$KEY Bearer $A_1.x ${KEY} $$5 $", "${KEY} Bearer ${A_1}.x ${KEY} $$5 $"),
            (Dialect::Braces, "{env:KEY}é{env:A B}{env:}{env:K", "${KEY}é{env:A B}{env:}{env:K"),
        ] {
            assert_eq!(dialect.common(text), common, "{text}");
        }
        for like in ["$KEY", "Bearer $KEY", "{env:KEY}", "Bearer {{KEY}}", "%KEY%", "${a-b}", "{file:x}"] {
            assert!(is_like_a_variable(like), "{like}");
        }
        for unlike in ["", "k3y", "${KEY}", "Bearer ${env:KEY}", "$2b$10$x", "a$b", "100%", "% %", "{x}"] {
            assert!(!is_like_a_variable(unlike), "{unlike}");
        }
    }

    #[test]
    fn values_of_an_entry_take_the_places_of_its_variables_and_others_stay() {
        let values = [("A".to_owned(), "${A} x".to_owned())];
        for (text, expected) in [
            ("${A}|${env:A:-d}|$A", "${A} x|${A} x|$A"),
            ("${B}${B:-d}${input:t}${a[@]}", "${B}${B:-d}${input:t}${a[@]}"),
        ] {
            assert_eq!(with_values(text, &values), expected, "{text}");
        }
    }

    #[test]
    fn what_has_no_value_is_named_and_replaced_by_nothing() {
        let error = expand("${B} ${A} ${input:tok} ${KEY}").unwrap_err().to_string();
        assert_eq!(
            error,
            "${A}, ${B} is not set in the environment; ${input:tok} is asked for on a terminal, where the file says how; else write ${env:NAME} in its place, and set that variable"
        );
        assert!(expand("${command:x}").is_err() && expand("${workspaceFolder}").is_err());
    }

    #[test]
    fn a_shell_word_has_variables_and_no_values() {
        for (text, word) in [
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("--key=${KEY}", r#""--key=${KEY}""#),
            ("${env:KEY}", r#""${KEY}""#),
            (r#"${A:-x"y} `$`"#, r#""${A:-x\"y} \`\$\`""#),
            ("${input:t}", "'${input:t}'"),
        ] {
            assert_eq!(shell_word(text), word, "{text}");
        }
        assert_eq!(sole_variable("${env:KEY}"), Some("KEY"));
        assert_eq!((sole_variable("${KEY:-s3cret}"), sole_variable("x${KEY}")), (None, None));
    }
}
