//! Globs of scopes: `*` stands for any characters, everything else for itself.
//!
//! A URI that a template produced is matched as a `CanonicalUri` alone, in which nothing leads out of a prefix.

use mcp::uri::{CanonicalUri, UriTemplate};

/// Returns whether `pattern` matches `text`. Takes time in proportion to the product of both lengths, at worst.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    while let Some((part, after)) = rest.split_once('*') {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
        rest = after;
    }
    text.ends_with(rest)
}

/// Returns whether one of `patterns` matches a URI that a template produced.
pub fn any_matches_uri(patterns: &[Box<str>], uri: &CanonicalUri) -> bool {
    patterns.iter().any(|pattern| matches_uri(pattern, uri.as_str()))
}

/// Returns whether `pattern` matches `uri`, and also without its query and fragment where the pattern has none: servers
/// that ignore them must not be led elsewhere by `secret.txt?.md`.
fn matches_uri(pattern: &str, uri: &str) -> bool {
    let ignored = ['?', '#'].into_iter().filter(|delimiter| !pattern.contains(*delimiter));
    let end = ignored.filter_map(|delimiter| uri.find(delimiter)).min().unwrap_or(uri.len());
    matches(pattern, uri) && (end == uri.len() || matches(pattern, &uri[..end]))
}

/// Returns whether `pattern` may match a URI of `template`. Where it is not known, it may.
pub fn may_match(pattern: &str, template: &UriTemplate<'_>) -> bool {
    match (pattern.split_once('*'), pattern.rsplit_once('*')) {
        (Some((start, _)), Some((_, end))) => template.may_produce(start, end),
        _ => template.matches(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_stand_for_any_characters() {
        let check = |pattern: &str, text: &str, expected: bool| {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        };
        check("", "", true);
        check("", "a", false);
        check("*", "", true);
        check("*", "anything/at:all", true);
        check("time_*", "time_now", true);
        check("time_*", "tim_now", false);
        check("*_now", "time_now", true);
        check("*_now", "time_now_", false);
        check("a*b*c", "a1b2c", true);
        check("a*b*c", "abc", true);
        check("a*b*c", "acb", false);
        check("ab*ba", "aba", false);
        check("*aa", "aaa", true);
        check("a?c", "abc", false);
        check("**", "x", true);
    }

    #[test]
    fn queries_and_fragments_lead_no_glob_astray() {
        for (pattern, uri, expected) in [
            ("x:/public/*", "x:/public/a?b#c", true),
            ("x:/*.md", "x:/a.md", true),
            ("x:/*.md", "x:/secret.txt?.md", false),
            ("x:/*.md", "x:/secret.txt#.md", false),
            ("x:/*.md", "x:/a.md?b.md", true),
            ("x:/find?q=*", "x:/find?q=1", true),
            ("x:/find?q=*", "x:/find?q=1#2", true),
            ("x:/find?q=*1", "x:/find?q=2#1", false),
            ("x:/find?q=*#1", "x:/find?q=2#1", true),
            ("x:/find", "x:/find?q=1", false),
        ] {
            assert_eq!(matches_uri(pattern, uri), expected, "{pattern} {uri}");
        }
    }

    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some('*'), _) => slow(&pattern[1..], text) || (!text.is_empty() && slow(pattern, &text[1..])),
            (Some(p), Some(t)) if p == t => slow(&pattern[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), slow(&chars(&pattern), &chars(&text)));
        }
    }
}
