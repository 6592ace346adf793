//! Tokens: what their author may write, and which servers they name.

use trunkline::identity::v1::{Scope, Token, TokenState};
use trunkline::registry::v1::UpstreamState;

use super::scope::{self, ALL};
use super::{Catalogue, Kind, KindRules, Reference, Surroundings, Violations, meta, names};
use crate::clock;

const MAX_DESCRIPTION: usize = 1_024;
/// Entries of a scope that match nothing, and are named.
const MAX_UNMATCHED: usize = 100;

impl KindRules for Token {
    fn validate(&self, violations: &mut Violations) {
        meta::validate(self.meta.as_ref(), violations);
        violations.at_most("description", &self.description, MAX_DESCRIPTION);
        if let Some(end) = &self.expire_time {
            let valid =
                (0..=253_402_300_799).contains(&end.seconds) && (0..1_000_000_000).contains(&end.nanos);
            violations.require(valid, "expire_time", "must be a time between the years 1970 and 9999");
        }
        if let Some(scope) = &self.scope {
            scope::validate(scope, violations);
        }
    }
    fn references(&self) -> Vec<Reference> {
        scope::references(self.scope.as_ref())
    }
    fn search(&self) -> Vec<&str> {
        vec![&self.description]
    }
    const COMPUTED: &'static [&'static str] = &["state", "reason", "unmatched"];
    const SEES_UPSTREAM_STATES: bool = true;
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
        // Of what nobody can use, nothing is missing.
        let is_valid = state == TokenState::Valid;
        let scope = self.scope.as_ref().filter(|_| is_valid);
        self.unmatched = scope.map(|scope| unmatched(scope, around)).unwrap_or_default();
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

/// The entries of a scope that match nothing on its servers: the first of them, and how many there are besides. Where nothing of
/// an upstream was imported yet, nothing can be said; and `*` means all there is, be it nothing.
fn unmatched(scope: &Scope, around: &Surroundings<'_>) -> Vec<String> {
    let lists = [
        ("tools", Kind::Tool, &scope.tools),
        ("resources", Kind::Resource, &scope.resources),
        ("prompts", Kind::Prompt, &scope.prompts),
    ];
    let is_narrow = |pattern: &&String| pattern.bytes().any(|byte| byte != b'*');
    if !lists.iter().any(|(_, _, list)| list.iter().any(|pattern| is_narrow(&pattern))) {
        return Vec::new();
    }
    let servers = around.catalogue.names_of(&scope.servers);
    let mut found = Vec::new();
    for (field, kind, list) in lists {
        let mut empty = servers.iter().flat_map(|names| names.empty_upstreams(kind));
        if empty.any(|id| !is_imported(id, around)) {
            continue;
        }
        let missing = |pattern: &&String| !servers.iter().any(|names| names.matches(kind, pattern));
        let missing = list.iter().filter(is_narrow).filter(missing);
        found.extend(missing.map(|pattern| format!("{field}: {pattern}")));
    }
    let more = found.len().saturating_sub(MAX_UNMATCHED);
    found.truncate(MAX_UNMATCHED);
    found.extend((more > 0).then(|| format!("and {more} more")));
    found
}

/// Tells whether what an upstream has is known, although it has nothing.
fn is_imported(id: &str, around: &Surroundings<'_>) -> bool {
    around.upstream_states.get(&names::upstream(id)) == Some(&UpstreamState::Ready)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use trunkline::registry::v1::{Member, Server, Tool, Upstream};

    use super::*;

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
        catalogue.put_server(&Server { name: "servers/b".to_owned(), ..Server::default() });
        assert_eq!(state(&catalogue, &["*"], 11, false), (TokenState::Valid, String::new()));
        assert_eq!(state(&catalogue, &["servers/a", "servers/b"], 11, false).0, TokenState::Valid);
        assert_eq!(state(&catalogue, &["servers/b"], 10, false).0, TokenState::Expired);
        assert_eq!(state(&catalogue, &["servers/b"], 10, true).0, TokenState::Revoked);
        catalogue.remove(Kind::Server, "servers/b");
        assert_eq!(state(&catalogue, &["servers/b"], 11, false), unusable("servers/b does not exist"));
    }

    fn two_servers() -> Catalogue {
        let mut catalogue = Catalogue::default();
        for id in ["mine", "new"] {
            catalogue.put_upstream(&Upstream { name: names::upstream(id), ..Upstream::default() });
        }
        for own in ["tool0", "tool1"] {
            catalogue.put_tool(&Tool { name: names::entry(Kind::Tool, "mine", own), ..Tool::default() });
        }
        for (id, target) in [("a", "mine/*"), ("b", "new/*")] {
            let member = Member { r#match: target.to_owned(), ..Member::default() };
            let name = format!("servers/{id}");
            catalogue.put_server(&Server { name, tools: vec![member], ..Server::default() });
        }
        catalogue
    }

    fn unmatched_of(
        catalogue: &Catalogue,
        states: &BTreeMap<String, UpstreamState>,
        server: &str,
        tools: &[&str],
    ) -> Vec<String> {
        let mut token = Token {
            scope: Some(Scope {
                servers: vec![server.to_owned()],
                tools: tools.iter().map(|&tool| tool.to_owned()).collect(),
                prompts: vec!["*".to_owned()],
                ..Scope::default()
            }),
            ..Token::default()
        };
        token.evaluate(&Surroundings { now_us: 10, catalogue, upstream_states: states });
        token.unmatched
    }

    #[test]
    fn what_matches_nothing_is_named_once_everything_is_imported() {
        let catalogue = two_servers();
        let unmatched = |state: UpstreamState, server: &str, tools: &[&str]| {
            let states = BTreeMap::from([(names::upstream("new"), state)]);
            unmatched_of(&catalogue, &states, server, tools)
        };
        let (ready, pending) = (UpstreamState::Ready, UpstreamState::Pending);
        let none: [&str; 0] = [];
        assert_eq!(unmatched(ready, "servers/a", &["mine_tool0", "*", "mine_tool*", "**"]), none);
        assert_eq!(unmatched(pending, "servers/a", &["tool0", "mine_*"]), ["tools: tool0"]);
        assert_eq!(unmatched(ready, "servers/b", &["new_x", "*"]), ["tools: new_x"]);
        assert_eq!(unmatched(pending, "servers/b", &["new_x"]), none);
        assert_eq!(unmatched(UpstreamState::Unreachable, "*", &["new_x"]), none);
        assert_eq!(unmatched(ready, "*", &["new_x", "mine_tool1"]), ["tools: new_x"]);
        assert_eq!(unmatched(ready, "servers/gone", &["x"]), none, "that it is unusable is said already");
        let many: Vec<String> = (0..150).map(|number| format!("x{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let told = unmatched(ready, "servers/a", &many);
        assert_eq!((told.len(), told[100].as_str()), (101, "and 50 more"));
    }
}
