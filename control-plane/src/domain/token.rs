//! Tokens: what their author may write, and which servers they name.

use mcp::uri;
use trunkline::identity::v1::{Token, TokenState};

use super::{Catalogue, Kind, KindRules, Reference, Surroundings, Violations, meta, names};
use crate::clock;

const MAX_DESCRIPTION: usize = 1_024;
const MAX_PATTERNS: usize = 1_000;
const MAX_PATTERN_BYTES: usize = 2_048;
/// Every server.
const ALL: &str = "*";

impl KindRules for Token {
    fn validate(&self, violations: &mut Violations) {
        meta::validate(self.meta.as_ref(), violations);
        violations.at_most("description", &self.description, MAX_DESCRIPTION);
        if let Some(end) = &self.expire_time {
            let valid =
                (0..=253_402_300_799).contains(&end.seconds) && (0..1_000_000_000).contains(&end.nanos);
            violations.require(valid, "expire_time", "must be a time between the years 1970 and 9999");
        }
        let Some(scope) = &self.scope else { return };
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
        for (index, pattern) in scope.resources.iter().enumerate().filter(|(_, text)| glob::is_pattern(text))
        {
            validate_uri_pattern(format!("scope.resources[{index}]"), pattern, violations);
        }
    }
    fn references(&self) -> Vec<Reference> {
        let servers = self.scope.iter().flat_map(|scope| &scope.servers).enumerate();
        servers
            .filter(|(_, server)| *server != ALL)
            .map(|(index, server)| Reference {
                field: format!("scope.servers[{index}]"),
                target: server.clone(),
                required: true,
            })
            .collect()
    }
    fn search(&self) -> Vec<&str> {
        vec![&self.description]
    }
    const COMPUTED: &'static [&'static str] = &["state", "reason"];
    fn evaluate(&mut self, around: &Surroundings<'_>) {
        let (state, reason) = if self.revoke_time.is_some() {
            (TokenState::Revoked, "it was revoked".to_owned())
        } else if is_over(self, around.now_us) {
            (TokenState::Expired, "its time is over".to_owned())
        } else {
            match unusable(&self.scope.clone().unwrap_or_default().servers, around.catalogue) {
                Some(reason) => (TokenState::Unusable, reason),
                None => (TokenState::Valid, String::new()),
            }
        };
        self.set_state(state);
        self.reason = reason;
    }
}

/// Tells whether nobody can use a token any more: it was revoked, or its time has come.
pub fn is_over(token: &Token, now_us: i64) -> bool {
    token.revoke_time.is_some() || token.expire_time.as_ref().is_some_and(|end| clock::micros(end) <= now_us)
}

/// Why a token with these servers can be used nowhere.
fn unusable(servers: &[String], catalogue: &Catalogue) -> Option<String> {
    if servers.iter().any(|server| catalogue.has_server(server)) {
        return None;
    }
    Some(match servers {
        [] => "its scope names no server".to_owned(),
        [all] if all == ALL => "there is no server".to_owned(),
        [one] => format!("{one} does not exist"),
        many => format!("none of its {} servers exists", many.len()),
    })
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
    }
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
    use trunkline::identity::v1::Scope;

    use super::*;

    fn violations(resource: &str) -> Vec<String> {
        let scope = Scope { resources: vec!["*".to_owned(), resource.to_owned()], ..Scope::default() };
        let mut violations = Violations::default();
        Token { scope: Some(scope), ..Token::default() }.validate(&mut violations);
        violations
            .into_vec()
            .into_iter()
            .map(|found| format!("{} {}", found.field, found.description))
            .collect()
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

    #[test]
    fn a_token_is_valid_where_a_server_of_its_scope_exists() {
        let mut catalogue = Catalogue::default();
        let state = |catalogue: &Catalogue, servers: &[&str], expire_us: i64, revoked: bool| {
            let servers = servers.iter().map(|&server| server.to_owned()).collect();
            let mut token = Token {
                scope: Some(Scope { servers, ..Scope::default() }),
                expire_time: Some(clock::timestamp(expire_us)),
                revoke_time: revoked.then(|| clock::timestamp(1)),
                ..Token::default()
            };
            let upstream_states = &Default::default();
            token.evaluate(&Surroundings { now_us: 10, catalogue, upstream_states });
            (token.state(), token.reason)
        };
        let unusable = |reason: &str| (TokenState::Unusable, reason.to_owned());
        assert_eq!(state(&catalogue, &["*"], 11, false), unusable("there is no server"));
        assert_eq!(state(&catalogue, &[], 11, false), unusable("its scope names no server"));
        assert_eq!(state(&catalogue, &["servers/a"], 11, false), unusable("servers/a does not exist"));
        catalogue.put_server("servers/b");
        assert_eq!(state(&catalogue, &["*"], 11, false), (TokenState::Valid, String::new()));
        assert_eq!(state(&catalogue, &["servers/a", "servers/b"], 11, false).0, TokenState::Valid);
        assert_eq!(state(&catalogue, &["servers/b"], 10, false).0, TokenState::Expired);
        assert_eq!(state(&catalogue, &["servers/b"], 10, true).0, TokenState::Revoked);
        catalogue.remove(Kind::Server, "servers/b");
        assert_eq!(state(&catalogue, &["servers/b"], 11, false), unusable("servers/b does not exist"));
    }
}
