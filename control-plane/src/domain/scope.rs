//! Scopes of tokens and teams: what may be written in them, and which servers they name.

use mcp::uri;
use trunkline::identity::v1::Scope;

use super::{Kind, Reference, Violations, names};

const MAX_PATTERNS: usize = 1_000;
const MAX_PATTERN_BYTES: usize = 2_048;
/// The most bytes of all patterns with `*`.
const MAX_BYTES: usize = 64 << 10;
/// The most `*` of a pattern. A comparison takes time in proportion to them, and edges compare before they publish what was withdrawn.
pub const MAX_STARS: usize = 16;
/// Every server.
pub const ALL: &str = "*";

/// Checks everything that can be checked without looking at servers.
pub fn validate(scope: &Scope, violations: &mut Violations) {
    for (index, server) in scope.servers.iter().enumerate().filter(|(_, server)| *server != ALL) {
        if let Err(error) = names::parse(Kind::Server, server) {
            let text = format!("must be `*` or the name of a server: {error}");
            violations.add(format!("scope.servers[{index}]"), text);
        }
    }
    let lists = [
        ("servers", &scope.servers),
        ("tools", &scope.tools),
        ("resources", &scope.resources),
        ("prompts", &scope.prompts),
    ];
    for (name, list) in lists {
        validate_list(&format!("scope.{name}"), list, violations);
    }
    for (index, pattern) in scope.resources.iter().enumerate().filter(|(_, text)| glob::is_pattern(text)) {
        validate_uri_pattern(format!("scope.resources[{index}]"), pattern, violations);
    }
}

/// Refuses more bytes of patterns than are compared in reasonable time, unless there were as many before.
pub fn check_bytes(scope: Option<&Scope>, before: Option<&Scope>, violations: &mut Violations) {
    let (bytes, before) = (pattern_bytes(scope), pattern_bytes(before));
    let text = format!("has {bytes} bytes of patterns with `*`; the maximum is {MAX_BYTES}");
    violations.require(bytes <= MAX_BYTES.max(before), "scope", text);
}

fn pattern_bytes(scope: Option<&Scope>) -> usize {
    let lists = scope.iter().flat_map(|scope| [&scope.tools, &scope.resources, &scope.prompts]).flatten();
    lists.filter(|text| glob::is_pattern(text)).map(String::len).sum()
}

/// The servers that a scope names, which must exist.
pub fn references(scope: Option<&Scope>) -> Vec<Reference> {
    let servers = scope.iter().flat_map(|scope| &scope.servers).enumerate();
    servers
        .filter(|(_, server)| *server != ALL)
        .map(|(index, server)| Reference {
            field: format!("scope.servers[{index}]"),
            target: server.clone(),
            required: true,
        })
        .collect()
}

/// Tells whether whatever `inner` allows, `outer` allows too, word by word.
pub fn contains(outer: &Scope, inner: &Scope) -> bool {
    let lists =
        |scope: &Scope| [&scope.servers, &scope.tools, &scope.resources, &scope.prompts].map(Clone::clone);
    let is_within =
        |(outer, inner): (Vec<String>, Vec<String>)| inner.iter().all(|word| outer.contains(word));
    lists(outer).into_iter().zip(lists(inner)).all(is_within)
}

fn validate_list(field: &str, list: &[String], violations: &mut Violations) {
    let count = list.len();
    violations.require(
        count <= MAX_PATTERNS,
        field,
        format!("has {count} entries; the maximum is {MAX_PATTERNS}"),
    );
    for (index, pattern) in list.iter().enumerate() {
        let field = format!("{field}[{index}]");
        violations.require(!pattern.is_empty(), field.clone(), "is empty");
        violations.at_most_bytes(&field, pattern, MAX_PATTERN_BYTES);
        check_stars(&field, pattern, violations);
    }
}

/// Refuses a pattern that takes long to compare.
pub fn check_stars(field: &str, pattern: &str, violations: &mut Violations) {
    let stars = pattern.bytes().filter(|byte| *byte == b'*').count();
    violations.require(stars <= MAX_STARS, field, format!("has {stars} `*`; the maximum is {MAX_STARS}"));
}

/// Refuses a pattern that can match no URI that a template produces: its author meant something else.
fn validate_uri_pattern(field: String, pattern: &str, violations: &mut Violations) {
    let problem = if pattern.chars().any(char::is_control) {
        "has a control character"
    } else if uri::resolves_elsewhere(pattern) {
        "has a dot segment"
    } else {
        return;
    };
    let reason = "and so matches no URI that a template produces; a URI that an upstream lists so is named without `*`";
    violations.add(field, format!("{problem}, {reason}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(resource: &str) -> Vec<String> {
        let scope = Scope { resources: vec!["*".to_owned(), resource.to_owned()], ..Scope::default() };
        let mut violations = Violations::default();
        validate(&scope, &mut violations);
        violations
            .into_vec()
            .into_iter()
            .map(|found| format!("{} {}", found.field, found.description))
            .collect()
    }

    #[test]
    fn a_pattern_has_few_stars() {
        assert_eq!(violations(&"*a".repeat(MAX_STARS)), [""; 0]);
        assert_eq!(violations(&"*".repeat(17)), ["scope.resources[1] has 17 `*`; the maximum is 16"]);
    }

    #[test]
    fn all_patterns_together_are_bounded_unless_there_were_as_many_before() {
        let of = |count: usize, text: &str| Scope {
            tools: (0..count).map(|number| format!("{text}{number:04}")).collect(),
            ..Scope::default()
        };
        let (large, larger, names) =
            (of(40, &"*a".repeat(900)), of(41, &"*a".repeat(900)), of(1_000, &"a".repeat(900)));
        let check = |scope: &Scope, before: Option<&Scope>| {
            let mut violations = Violations::default();
            check_bytes(Some(scope), before, &mut violations);
            violations.is_empty()
        };
        assert!(check(&of(36, &"*a".repeat(900)), None) && check(&names, None));
        assert!(!check(&large, None) && !check(&larger, Some(&large)));
        assert!(check(&large, Some(&larger)), "what is there already is no obstacle");
    }

    #[test]
    fn patterns_that_match_no_uri_of_a_template_are_refused_for_their_reason() {
        for (resource, problem) in [
            ("file:///public/../*", Some("has a dot segment")),
            ("file:///./*", Some("has a dot segment")),
            ("file:///public/%2e%2E/*", Some("has a dot segment")),
            ("file:///public\\..\\*", Some("has a dot segment")),
            ("file:///public/\n*", Some("has a control character")),
            ("file:///public/..", None),
            ("file:///public/*", None),
            ("file:///public/..*", None),
            ("file:///{+path}*", None),
            ("file:///C:\\*", None),
            ("memo://a b*", None),
            ("*.md", None),
        ] {
            let reason = "and so matches no URI that a template produces; a URI that an upstream lists so is named without `*`";
            let expected: Vec<String> = problem
                .map(|problem| format!("scope.resources[1] {problem}, {reason}"))
                .into_iter()
                .collect();
            assert_eq!(violations(resource), expected, "{resource:?}");
        }
    }
}
