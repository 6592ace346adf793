//! Tokens: what their author may write, and which servers they name.

use trunkline::identity::v1::{Conditions, Scope, Token, TokenState};
use trunkline::registry::v1::UpstreamState;

use access::certificate::check_identity;

use super::scope::{self, ALL};
use super::{
    Kind, KindRules, Reference, SeesPeople, Steps, Surroundings, Violations, conditions, meta, names,
};
use crate::clock;

const MAX_DESCRIPTION: usize = 1_024;
const MAX_PURPOSE: usize = 256;
const MAX_CERTIFICATES: usize = 16;
/// A token that ends within this time is said to be about to: seven days.
const SOON_US: i64 = 7 * 86_400_000_000;
/// Entries of a scope that match nothing, and are named.
const MAX_UNMATCHED: usize = 100;
/// The steps in which the entries of a scope are compared with what its servers expose, some 0.02 s.
const MAX_STEPS: usize = 20_000_000;
/// What is said in place of the rest of them, where that takes more.
const NOT_COMPARED: &str = "and perhaps others: there are too many patterns to compare them all";

impl KindRules for Token {
    fn set_defaults(&mut self) {
        self.conditions = self.conditions.take().filter(|conditions| *conditions != Conditions::default());
    }
    fn validate(&self, violations: &mut Violations) {
        meta::validate(self.meta.as_ref(), violations);
        violations.at_most("description", &self.description, MAX_DESCRIPTION);
        violations.at_most("purpose", &self.purpose, MAX_PURPOSE);
        if let Some(end) = &self.expire_time {
            conditions::validate_time("expire_time", end, violations);
        }
        if let Some(given) = &self.conditions {
            conditions::validate(given, self.expire_time.as_ref(), violations);
        }
        if let Some(scope) = &self.scope {
            scope::validate(scope, violations);
        }
        validate_certificates(&self.certificates, violations);
    }
    fn certificates(&self) -> &[String] {
        &self.certificates
    }
    fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }
    fn references(&self) -> Vec<Reference> {
        // Nothing that exists: so others that name the same are found.
        let certificates = self.certificates.iter().map(|identity| Reference {
            field: "certificates".to_owned(),
            target: names::certificate(identity),
            required: false,
        });
        scope::references(self.scope.as_ref()).into_iter().chain(certificates).collect()
    }
    fn search(&self) -> Vec<&str> {
        vec![&self.description, &self.purpose]
    }
    const COMPUTED: &'static [&'static str] =
        &["state", "reason", "unmatched", "last_use_time", "last_use_address", "suspend_time"];
    const SEES_UPSTREAM_STATES: bool = true;
    const SEES_PEOPLE: SeesPeople = SeesPeople::OwnersAndUses;
    fn evaluate(&mut self, around: &Surroundings<'_>) {
        let owner = self.meta.as_ref().map(|meta| meta.owner.as_str()).unwrap_or_default();
        let suspended = around.people.disabled.get(owner).copied();
        let (state, reason) = state_of(self, suspended.map(|_| owner), around);
        // Of what nobody can use, nothing is missing.
        let is_usable = matches!(state, TokenState::Valid | TokenState::Expiring | TokenState::NotYetValid);
        let scope = self.scope.as_ref().filter(|_| is_usable);
        self.unmatched = scope.map(|scope| unmatched(scope, around)).unwrap_or_default();
        self.set_state(state);
        self.reason = reason;
        self.suspend_time = suspended.map(|us| self.suspend_time.unwrap_or_else(|| clock::timestamp(us)));
        let used = around.people.last_uses.get(&self.name).cloned().unwrap_or_default();
        self.last_use_time = (used.time_us > 0).then(|| clock::timestamp(used.time_us));
        self.last_use_address = used.address;
    }
}

fn validate_certificates(certificates: &[String], violations: &mut Violations) {
    let count = certificates.len();
    let text = format!("has {count} entries; the maximum is {MAX_CERTIFICATES}");
    violations.require(count <= MAX_CERTIFICATES, "certificates", text);
    for (index, identity) in certificates.iter().take(MAX_CERTIFICATES).enumerate() {
        let field = format!("certificates[{index}]");
        if let Err(problem) = check_identity(identity) {
            violations.add(field, problem.to_string());
        } else if certificates[..index].contains(identity) {
            violations.add(field, "is named twice");
        }
    }
}

/// Whether clients can use a token, and why not. `disabled`: the name of its owner, where they are.
fn state_of(token: &Token, disabled: Option<&str>, around: &Surroundings<'_>) -> (TokenState, String) {
    let end_us = token.expire_time.as_ref().map(clock::micros);
    let begin = token.conditions.as_ref().and_then(|conditions| conditions.not_before.as_ref());
    if token.revoke_time.is_some() {
        return (TokenState::Revoked, "it was revoked".to_owned());
    }
    if is_over(token, around.now_us) {
        return (TokenState::Expired, "its time is over".to_owned());
    }
    if let Some(owner) = disabled {
        return (TokenState::Suspended, format!("{owner} is disabled"));
    }
    if let Some(reason) = unusable(&token.scope.clone().unwrap_or_default().servers, around) {
        return (TokenState::Unusable, reason);
    }
    if begin.is_some_and(|begin| clock::micros(begin) > around.now_us) {
        return (TokenState::NotYetValid, "its time has not begun".to_owned());
    }
    match end_us {
        Some(end_us) if is_soon(end_us, around.now_us) => {
            (TokenState::Expiring, "it ends in less than seven days".to_owned())
        }
        _ => (TokenState::Valid, String::new()),
    }
}

/// Tells whether a time at which something ends is near, and still to come.
pub fn is_soon(end_us: i64, now_us: i64) -> bool {
    end_us > now_us && end_us - now_us < SOON_US
}

/// Tells whether nobody can use a token any more: it was revoked, or its time has come.
pub fn is_over(token: &Token, now_us: i64) -> bool {
    token.revoke_time.is_some() || token.expire_time.as_ref().is_some_and(|end| clock::micros(end) <= now_us)
}

/// Why a token with these servers can be used nowhere, as far as they exist for the viewer.
fn unusable(servers: &[String], around: &Surroundings<'_>) -> Option<String> {
    if servers.iter().any(|server| around.catalogue.has_server(server, around.viewer)) {
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
    let mut steps = Steps::new(MAX_STEPS);
    let servers = around.catalogue.names_of(&scope.servers, around.viewer, &mut steps);
    let mut found = Vec::new();
    for (field, kind, list) in lists {
        let mut empty = servers.iter().flat_map(|names| names.empty_upstreams(kind));
        if empty.any(|id| !is_imported(id, around)) {
            continue;
        }
        // What was not compared may match.
        let missing = |pattern: &&String| {
            !servers.iter().any(|names| names.matches(kind, pattern, &mut steps).unwrap_or(true))
        };
        let missing = list.iter().filter(is_narrow).filter(missing);
        found.extend(missing.map(|pattern| format!("{field}: {pattern}")));
    }
    let more = found.len().saturating_sub(MAX_UNMATCHED);
    found.truncate(MAX_UNMATCHED);
    found.extend((more > 0).then(|| format!("and {more} more")));
    found.extend((steps.left() == 0).then(|| NOT_COMPARED.to_owned()));
    found
}

/// Tells whether what an upstream has is known, although it has nothing.
fn is_imported(id: &str, around: &Surroundings<'_>) -> bool {
    around.upstream_states.get(&names::upstream(id)) == Some(&UpstreamState::Ready)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use trunkline::common::v1::Meta;
    use trunkline::registry::v1::{Member, Server, Tool, Upstream};

    use super::super::{LastUse, People};
    use super::*;
    use crate::domain::Catalogue;
    use crate::rights::Rights;

    /// A time so far away that nothing is about to end.
    const LATER: i64 = SOON_US + 11;

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
            let (upstream_states, people) = (&Default::default(), &People::default());
            let viewer = &Rights::administrator();
            token.evaluate(&Surroundings { now_us: 10, catalogue, upstream_states, people, viewer });
            (token.state(), token.reason)
        };
        let unusable = |reason: &str| (TokenState::Unusable, reason.to_owned());
        assert_eq!(state(&catalogue, &["*"], LATER, false), unusable("there is no server"));
        assert_eq!(state(&catalogue, &[], LATER, false), unusable("its scope names no server"));
        assert_eq!(state(&catalogue, &["servers/a"], LATER, false), unusable("servers/a does not exist"));
        catalogue.put_server(&Server { name: "servers/b".to_owned(), ..Server::default() });
        assert_eq!(state(&catalogue, &["*"], LATER, false), (TokenState::Valid, String::new()));
        assert_eq!(state(&catalogue, &["servers/a", "servers/b"], LATER, false).0, TokenState::Valid);
        assert_eq!(state(&catalogue, &["servers/b"], 10, false).0, TokenState::Expired);
        assert_eq!(state(&catalogue, &["servers/b"], 10, true).0, TokenState::Revoked);
        catalogue.remove(Kind::Server, "servers/b");
        assert_eq!(state(&catalogue, &["servers/b"], LATER, false), unusable("servers/b does not exist"));
    }

    #[test]
    fn certificates_are_named_in_one_spelling_once_and_in_bounds() {
        let is_fine = |certificates: &[&str]| {
            let certificates = certificates.iter().map(|&identity| identity.to_owned()).collect();
            let mut violations = Violations::default();
            Token { certificates, ..Token::default() }.validate(&mut violations);
            violations.is_empty()
        };
        assert!(is_fine(&["spiffe://example.org/agent", "dns:agent.example.org", "cn:agent"]));
        for refused in [&["*"][..], &["dns:*.example.org"], &["agent"], &["cn:agent", "cn:agent"]] {
            assert!(!is_fine(refused), "{refused:?}");
        }
        let many: Vec<String> = (0..=MAX_CERTIFICATES).map(|number| format!("cn:{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(is_fine(&many[..MAX_CERTIFICATES]) && !is_fine(&many));
    }

    /// A token of Ann's, for a server that exists, seen while `people` are known.
    fn of_ann(end_us: Option<i64>, begin_us: Option<i64>, people: &People) -> Token {
        let mut catalogue = Catalogue::default();
        catalogue.put_server(&Server { name: "servers/b".to_owned(), ..Server::default() });
        let owner = "users/ann@example.org".to_owned();
        let mut token = Token {
            name: "tokens/t".to_owned(),
            meta: Some(Meta { owner, ..Meta::default() }),
            scope: Some(Scope { servers: vec!["*".to_owned()], ..Scope::default() }),
            expire_time: end_us.map(clock::timestamp),
            conditions: Some(Conditions {
                not_before: begin_us.map(clock::timestamp),
                ..Conditions::default()
            }),
            ..Token::default()
        };
        let (upstream_states, viewer) = (&Default::default(), &Rights::administrator());
        let catalogue = &catalogue;
        token.evaluate(&Surroundings { now_us: 10, catalogue, upstream_states, people, viewer });
        token
    }

    #[test]
    fn what_ends_soon_has_not_begun_or_is_a_disabled_persons_says_so() {
        let nobody = People::default();
        let state = |token: Token| (token.state(), token.reason);
        let expiring = (TokenState::Expiring, "it ends in less than seven days".to_owned());
        assert_eq!(state(of_ann(Some(SOON_US + 9), None, &nobody)), expiring);
        assert_eq!(state(of_ann(Some(SOON_US + 10), None, &nobody)), (TokenState::Valid, String::new()));
        let early = (TokenState::NotYetValid, "its time has not begun".to_owned());
        assert_eq!(state(of_ann(Some(20), Some(11), &nobody)), early);
        assert_eq!(state(of_ann(None, Some(10), &nobody)).0, TokenState::Valid);
        let ann = People { disabled: [("users/ann@example.org".to_owned(), 7)].into(), ..People::default() };
        let token = of_ann(None, Some(11), &ann);
        assert_eq!(token.suspend_time, Some(clock::timestamp(7)));
        assert_eq!(state(token), (TokenState::Suspended, "users/ann@example.org is disabled".to_owned()));
        assert_eq!(state(of_ann(Some(10), None, &ann)).0, TokenState::Expired);
    }

    #[test]
    fn the_last_use_is_shown_where_there_was_one() {
        let used = LastUse { time_us: 5, address: "192.0.2.7".to_owned() };
        let people = People { last_uses: [("tokens/t".to_owned(), used)].into(), ..People::default() };
        let token = of_ann(None, None, &people);
        assert_eq!(token.last_use_time, Some(clock::timestamp(5)));
        assert_eq!((token.last_use_address.as_str(), token.suspend_time), ("192.0.2.7", None));
        let token = of_ann(None, None, &People::default());
        assert_eq!((token.last_use_time, token.last_use_address.as_str()), (None, ""));
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
        let (people, viewer) = (&People::default(), &Rights::administrator());
        token.evaluate(&Surroundings { now_us: 10, catalogue, upstream_states: states, people, viewer });
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
        let greedy: Vec<String> =
            (0..1_000).map(|number| format!("{}{number}{}", "*t".repeat(15), "x".repeat(2_000))).collect();
        let mut large = two_servers();
        for own in 0..1_000 {
            large.put_tool(&Tool {
                name: names::entry(Kind::Tool, "mine", &format!("t{own}")),
                ..Tool::default()
            });
        }
        let greedy: Vec<&str> = greedy.iter().map(String::as_str).collect();
        let states = BTreeMap::from([(names::upstream("new"), ready)]);
        let told = unmatched_of(&large, &states, "servers/a", &greedy);
        assert_eq!(told.last().map(String::as_str), Some(NOT_COMPARED));
        assert!(told.len() < 102 + 1 && told.len() > 2, "{}", told.len());
        let many: Vec<String> = (0..150).map(|number| format!("x{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let told = unmatched(ready, "servers/a", &many);
        assert_eq!((told.len(), told[100].as_str()), (101, "and 50 more"));
    }
}
