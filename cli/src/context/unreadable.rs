//! What is wrong with a context file, from what its parser says: keys, of which none is a secret, and never a value. Pure.

use crate::suggest::did_you_mean;

/// What the parser calls a type, and what people do.
const TYPES: [(&str, &str); 4] = [
    ("a string", "a text"),
    ("path string", "a text"),
    ("a sequence", "a list"),
    ("a map", "a mapping of names"),
];

/// Says what is wrong. The message of the parser may quote a secret.
pub(super) fn what(message: &str) -> String {
    if let Some((before, rest)) = message.split_once("unknown field `") {
        let (key, expected) = rest.split_once('`').unwrap_or_default();
        let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
        let hint = did_you_mean(key, known.iter().copied());
        let within = before.trim_end_matches(": ");
        let place = if within.is_empty() { String::new() } else { format!(" in {within}") };
        // What is like no other key was not misspelled.
        let newer = match hint.is_empty() && !within.is_empty() {
            true => ", or a newer mcpctl has written it",
            false => "",
        };
        return format!("there is no key `{key}`{place}{hint}; there may be {}{newer}", known.join(", "));
    }
    if let Some((path, rest)) = message.split_once(": invalid type: ") {
        // What follows is the parser's own, and what is before it may be a value.
        let expected = rest.rsplit_once(", expected ").map_or("", |(_, expected)| expected);
        let expected = expected.split(" at line ").next().unwrap_or_default();
        let named = TYPES.iter().find(|(theirs, _)| *theirs == expected).map(|(_, ours)| *ours);
        return format!("`{path}` must be {}", named.unwrap_or("a mapping"));
    }
    if message.starts_with("invalid type: ") {
        return "it must be a mapping with currentContext and contexts".to_owned();
    }
    if let Some((_, rest)) = message.split_once("missing field `") {
        let within = message.split_once(": missing").map_or("the file", |(path, _)| path);
        return format!("{within} has no `{}`", rest.split('`').next().unwrap_or_default());
    }
    "it is no valid YAML".to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Contexts;
    use super::*;

    fn told(text: &str) -> String {
        what(&serde_yaml_ng::from_str::<Contexts>(text).unwrap_err().to_string())
    }

    #[test]
    fn the_key_is_named_with_what_may_be_there() {
        let of_file = "there may be currentContext, contexts";
        let of_context = "there may be control, otherControls, edge, adminToken, adminTokenFile, session, device, caFile, clientCert, clientKey, tokens";
        for (text, expected) in [
            ("edge: 127.0.0.1:4444\n", format!("there is no key `edge`; {of_file}")),
            (
                "current_context: a\n",
                format!("there is no key `current_context`; did you mean currentContext?; {of_file}"),
            ),
            (
                "contexts: {a: {admin_token: s3cret}}\n",
                format!(
                    "there is no key `admin_token` in contexts.a; did you mean adminToken?; {of_context}"
                ),
            ),
            (
                "contexts: {a: {passkey: s3cret}}\n",
                format!(
                    "there is no key `passkey` in contexts.a; {of_context}, or a newer mcpctl has written it"
                ),
            ),
            ("- a\n", "it must be a mapping with currentContext and contexts".to_owned()),
            ("contexts: [a]\n", "`contexts` must be a mapping of names".to_owned()),
            ("contexts: {a: 's3cret, expected x'}\n", "`contexts.a` must be a mapping".to_owned()),
            ("contexts: {a: {edge: [s3cret]}}\n", "`contexts.a.edge` must be a text".to_owned()),
            (
                "contexts: {a: {tokens: {t: {bearer: x, servers: s3cret}}}}\n",
                "`contexts.a.tokens.t.servers` must be a list".to_owned(),
            ),
            ("contexts: {a: {tokens: {t: {}}}}\n", "contexts.a.tokens.t has no `bearer`".to_owned()),
            ("contexts: {a: {edge: x\n", "it is no valid YAML".to_owned()),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }
}
