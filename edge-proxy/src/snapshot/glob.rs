//! Globs of scopes. A URI that a template produced is matched as a `CanonicalUri` alone, in which nothing leads out of a prefix.

pub use glob::matches;
use mcp::uri::{CanonicalUri, UriTemplate};

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
}
