//! Warnings about what a change leaves without effect: members of servers that select nothing, and rights of tokens that match
//! nothing. They are hints: what cannot be asked is not said.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value};

use crate::commands::get;
use crate::commands::protection::{Fallen, has_lost_credential};
use crate::control_client::ControlClient;
use crate::kinds::{Kind, short_name};
use crate::output;
use crate::reflection;

/// More warnings of a sort are counted.
const MAX_LINES: usize = 10;
/// More entries of a token are counted.
const MAX_ENTRIES: usize = 5;
/// The fields that change which names servers expose.
const NAMING: [&str; 6] = ["tools", "resources", "prompts", "nameStyle", "disabled", "meta.labels"];

/// Warns of members of servers that select nothing. Of an upstream that was not imported yet, nothing can be said.
pub async fn of_servers(client: &ControlClient, servers: &[DynamicMessage]) {
    print(&servers.iter().flat_map(idle_rules).collect::<Vec<_>>());
    print(&servers.iter().flat_map(odd_rules).collect::<Vec<_>>());
    print(&servers.iter().flat_map(shadowed).collect::<Vec<_>>());
    if servers.iter().all(|server| unresolved(server).is_empty() && !is_empty(server)) {
        return;
    }
    let upstreams = all(client, "upstream").await.unwrap_or_default();
    let known: BTreeSet<_> = upstreams.iter().filter_map(imported).collect();
    print(&servers.iter().flat_map(|server| of_server(server, &known)).collect::<Vec<_>>());
}

/// Warnings about a server, where the catalogues of these upstreams are known.
fn of_server(server: &DynamicMessage, known: &BTreeSet<String>) -> Vec<String> {
    let name = reflection::text(server, "name");
    let is_known = |member: &String| {
        let upstream = member.split('/').next().unwrap_or_default();
        known.contains(upstream) || upstream.contains('*') && !known.is_empty()
    };
    let unresolved = unresolved(server).into_iter().filter(is_known);
    let mut lines: Vec<_> =
        unresolved.map(|member| format!("{name}: {member} matches nothing in the catalogue")).collect();
    if lines.is_empty() && is_empty(server) && members(server).iter().all(is_known) {
        lines.push(format!("{name} exposes nothing: its members match nothing in the catalogue"));
    }
    lines
}

/// Rules that name nothing that the server exposes.
fn idle_rules(server: &DynamicMessage) -> Vec<String> {
    let name = reflection::text(server, "name");
    let status = reflection::submessage(server, "status");
    let idle = status.map(|status| reflection::texts(&status, "idle_rules")).unwrap_or_default();
    let rules = reflection::submessages(server, "rules");
    let line = |rule: String| {
        let written = rules.iter().find(|written| reflection::text(written, "id") == rule);
        let hint = written.and_then(own_name_hint).unwrap_or_default();
        format!("{name}: the rule {rule} covers nothing that it exposes{hint}")
    };
    idle.into_iter().map(line).collect()
}

/// What to write where a rule of a server names a tool as rules of teams and members do.
fn own_name_hint(rule: &DynamicMessage) -> Option<String> {
    let tools = reflection::texts(rule, "tools");
    let (upstream, tool) =
        tools.iter().filter(|tool| !tool.contains("://")).find_map(|tool| tool.split_once('/'))?;
    Some(format!(
        "; a rule of a server names what clients see: write {upstream}_{tool}, or what it is exposed as"
    ))
}

/// What is odd about the rules of a server.
fn odd_rules(server: &DynamicMessage) -> Vec<String> {
    let name = reflection::text(server, "name");
    let status = reflection::submessage(server, "status");
    let odd = status.map(|status| reflection::texts(&status, "rule_warnings")).unwrap_or_default();
    odd.into_iter().map(|text| format!("{name}: the rule {text}")).collect()
}

/// Members that select nothing which an earlier one does not govern: an alias that nobody sees.
fn shadowed(server: &DynamicMessage) -> Vec<String> {
    let name = reflection::text(server, "name");
    let status = reflection::submessage(server, "status");
    let shadowed = status.map(|status| reflection::texts(&status, "shadowed")).unwrap_or_default();
    let line = |member| {
        format!(
            "{name}: {member} selects nothing that an earlier member has not taken already; put it before that one"
        )
    };
    shadowed.into_iter().map(line).collect()
}

fn unresolved(server: &DynamicMessage) -> Vec<String> {
    let status = reflection::submessage(server, "status");
    status.map(|status| reflection::texts(&status, "unresolved")).unwrap_or_default()
}

/// Whether a server has members, and exposes nothing.
fn is_empty(server: &DynamicMessage) -> bool {
    reflection::state(server).0 == "empty" && !members(server).is_empty()
}

/// What the members of a server match.
fn members(server: &DynamicMessage) -> Vec<String> {
    let lists = ["tools", "resources", "prompts"].into_iter();
    let members = lists.flat_map(|list| reflection::submessages(server, list));
    members.map(|member| reflection::text(&member, "match")).collect()
}

/// The id of an upstream whose catalogue is known, and not hidden as a whole.
fn imported(upstream: &DynamicMessage) -> Option<String> {
    let document = reflection::to_json(upstream);
    let status = &document["status"];
    let has = |count: &&str| status[*count].as_i64().unwrap_or_default() > 0;
    let is_known = status["state"] == "UPSTREAM_STATE_READY"
        || ["toolCount", "resourceCount", "promptCount"].iter().any(has);
    (is_known && document["disabled"] != true).then(|| short_name(&reflection::text(upstream, "name")))
}

async fn all(client: &ControlClient, kind: &str) -> Option<Vec<DynamicMessage>> {
    let request = Map::from_iter([("pageSize".to_owned(), Value::from(1_000))]);
    get::all_pages(client, Kind::from_word(kind), request).await.ok()
}

/// What tokens may use before a change.
#[derive(Default)]
pub struct Rights(Option<BTreeMap<String, DynamicMessage>>);

impl Rights {
    /// Reads it.
    pub async fn read(client: &ControlClient) -> Self {
        let tokens = all(client, "token").await.into_iter().flatten();
        Self(Some(tokens.map(|token| (reflection::text(&token, "name"), token)).collect()))
    }

    /// Reads it where these fields of a kind can take something from a token: all of them, if none is named.
    pub async fn before(client: &ControlClient, kind: &Kind, fields: Option<&[String]>) -> Self {
        let names = |path: &String| {
            NAMING.iter().any(|field| path == field || path.starts_with(&format!("{field}.")))
        };
        match kind.name != "Token" && fields.is_none_or(|fields| fields.iter().any(names)) {
            true => Self::read(client).await,
            false => Self::default(),
        }
    }

    /// Warns of tokens that match less after the change. `told`: those of which it is said already.
    pub async fn warn_of_lost(&self, client: &ControlClient, told: &BTreeSet<String>) {
        let Some(before) = self.0.as_ref().filter(|before| !before.is_empty()) else { return };
        let after = all(client, "token").await.unwrap_or_default();
        let after = after.iter().filter(|token| !told.contains(&reflection::text(token, "name")));
        let lines = after.filter_map(|token| {
            let name = reflection::text(token, "name");
            let (lost, _) = unmatched(before.get(&name), token);
            line(&name, &lost, " any more")
        });
        print(&lines.collect::<Vec<_>>());
    }
}

/// Warns of what matches nothing in tokens that were written: as they were before, if they were, and as they are.
pub fn of_tokens(tokens: &[(Option<DynamicMessage>, DynamicMessage)]) {
    let lines = tokens.iter().flat_map(|(before, after)| {
        let name = reflection::text(after, "name");
        let (lost, never) = unmatched(before.as_ref(), after);
        [line(&name, &lost, " any more"), line(&name, &never, "")].into_iter().flatten()
    });
    print(&lines.collect::<Vec<_>>());
}

/// Whether a change is made, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Now,
    Then,
}

/// Warns of protection that has fallen: conditions of tokens, and credentials of upstreams, as they were before and are.
pub fn of_protection(kind: &Kind, states: &[(Option<DynamicMessage>, DynamicMessage)], when: When) {
    let lines = states.iter().filter_map(|(before, after)| {
        let [before, json] = [before.as_ref()?, after].map(reflection::to_json);
        unprotected(kind, &reflection::text(after, "name"), [&before, &json], when)
    });
    print(&lines.collect::<Vec<_>>());
}

fn unprotected(kind: &Kind, name: &str, [before, after]: [&Value; 2], when: When) -> Option<String> {
    match kind.name {
        "Token" => {
            let ways = Fallen::between(before, after).in_words()?;
            let when = if when == When::Now { "now" } else { "then" };
            Some(format!("{name} may {when} be used {ways}"))
        }
        "Upstream" if has_lost_credential(before, after) => Some(match when {
            When::Now => format!("{name} has no credential any more"),
            When::Then => format!("{name} has no credential then"),
        }),
        _ => None,
    }
}

/// Warns of teams whose scope names nothing that their members may use.
pub fn of_teams(teams: &[DynamicMessage]) {
    let lines = teams.iter().filter(|team| {
        let scope = reflection::submessage(team, "scope");
        let lists = ["tools", "resources", "prompts"];
        scope.is_some_and(|scope| lists.iter().all(|list| reflection::texts(&scope, list).is_empty()))
    });
    let line = |team: &DynamicMessage| {
        format!(
            "{}: its scope lists no tools, resources or prompts, so that its members may use nothing; * stands for all",
            reflection::text(team, "name")
        )
    };
    print(&lines.map(line).collect::<Vec<_>>());
}

/// The entries of a token that match nothing: those that matched before, and the others.
fn unmatched(before: Option<&DynamicMessage>, after: &DynamicMessage) -> (Vec<String>, Vec<String>) {
    // Only of those it is said what matches nothing.
    let usable = ["valid", "expiring", "not-yet-valid"];
    let matched =
        before.filter(|token| usable.contains(&reflection::enum_word(token, "state").as_str())).map(matched);
    let is_lost = |entry: &String| matched.as_ref().is_some_and(|matched| matched.contains(entry));
    reflection::texts(after, "unmatched").into_iter().partition(is_lost)
}

/// The entries of a token that match something, spelled as those that do not.
fn matched(token: &DynamicMessage) -> BTreeSet<String> {
    let unmatched = reflection::texts(token, "unmatched");
    let scope = reflection::submessage(token, "scope");
    let entries = ["tools", "resources", "prompts"].into_iter().flat_map(|list| {
        let entries = scope.as_ref().map(|scope| reflection::texts(scope, list)).unwrap_or_default();
        entries.into_iter().map(move |entry| format!("{list}: {entry}"))
    });
    entries.filter(|entry| !unmatched.contains(entry)).collect()
}

/// A warning about a token.
fn line(name: &str, entries: &[String], end: &str) -> Option<String> {
    let verb = if entries.len() == 1 { "matches" } else { "match" };
    (!entries.is_empty()).then(|| format!("{name}: {} {verb} nothing on its servers{end}", in_words(entries)))
}

/// Entries such as `tools: add_*` in a sentence.
pub fn in_words(entries: &[String]) -> String {
    let spelled = |entry: &String| match entry.split_once(": ") {
        Some((list, pattern)) => format!("{list} `{pattern}`"),
        None => entry.clone(),
    };
    let shown = entries.iter().take(MAX_ENTRIES).map(spelled).collect::<Vec<_>>().join(", ");
    let more = entries.len().saturating_sub(MAX_ENTRIES);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn print(lines: &[String]) {
    lines
        .iter()
        .take(MAX_LINES)
        .for_each(|line| output::eprint(format!("warning: {}", printable::line(line))));
    let more = lines.len().saturating_sub(MAX_LINES);
    if more > 0 {
        output::eprint(format!("warning: and {more} more of this kind"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(state: &str, tools: &[&str], unmatched: &[&str]) -> DynamicMessage {
        let json = json!({ "name": "tokens/ci", "state": format!("TOKEN_STATE_{state}"), "scope": { "tools": tools },
            "unmatched": unmatched });
        reflection::from_json(reflection::message("trunkline.identity.v1.Token"), json).unwrap()
    }

    #[test]
    fn members_that_select_nothing_are_told_where_that_is_known() {
        let check = |state: &str, members: &[&str], unresolved: &[&str], known: &[&str]| {
            let tools: Vec<_> = members.iter().map(|member| json!({ "match": member })).collect();
            let status = json!({ "state": format!("SERVER_STATE_{state}"), "unresolved": unresolved });
            let server = json!({ "name": "servers/s", "tools": tools, "status": status });
            let message = reflection::message("trunkline.registry.v1.Server");
            let server = reflection::from_json(message, server).unwrap();
            of_server(&server, &known.iter().map(|&id| id.to_owned()).collect()).join("\n")
        };
        let named = "servers/s: a/x matches nothing in the catalogue";
        let nothing = "servers/s exposes nothing: its members match nothing in the catalogue";
        assert_eq!(check("DEGRADED", &["a/x", "a/y"], &["a/x"], &["a"]), named);
        assert_eq!(check("DEGRADED", &["a/x", "a/y"], &["a/x"], &["b"]), "");
        assert_eq!(check("EMPTY", &["a/x"], &["a/x"], &["a"]), named);
        assert_eq!(check("EMPTY", &["a/x*", "*/z*"], &[], &["a"]), nothing);
        assert_eq!(check("EMPTY", &["a/x*", "b/*"], &[], &["a"]), "");
        assert_eq!(check("EMPTY", &["*/*"], &[], &[]), "");
        assert_eq!(check("READY", &["a/x*", "a/y"], &[], &["a"]), "");
        assert_eq!(check("EMPTY", &[], &[], &["a"]), "");
    }

    #[test]
    fn a_rule_that_names_a_tool_as_its_upstream_does_is_told_of_exposed_names() {
        let json = json!({"name": "servers/desk", "status": {"idleRules": ["a", "b"]}, "rules": [
            {"id": "a", "tools": ["crm/delete_customer"]}, {"id": "b", "tools": ["docs://a/b"]}]});
        let server =
            reflection::from_json(reflection::message(Kind::from_word("server").message), json).unwrap();
        assert_eq!(
            idle_rules(&server),
            [
                "servers/desk: the rule a covers nothing that it exposes; a rule of a server names what clients see: write crm_delete_customer, or what it is exposed as",
                "servers/desk: the rule b covers nothing that it exposes",
            ]
        );
    }

    #[test]
    fn what_a_token_lost_is_told_from_what_it_never_had() {
        let after = token("VALID", &["plus", "x*", "y"], &["tools: plus", "tools: x*"]);
        let check = |before: Option<&DynamicMessage>| {
            let (lost, never) = unmatched(before, &after);
            (lost.join(", "), never.join(", "))
        };
        let both = |lost: &str, never: &str| (lost.to_owned(), never.to_owned());
        let before = token("VALID", &["plus", "x*"], &["tools: x*"]);
        assert_eq!(check(Some(&before)), both("tools: plus", "tools: x*"));
        let unusable = token("UNUSABLE", &["plus", "x*"], &[]);
        assert_eq!(check(Some(&unusable)), both("", "tools: plus, tools: x*"));
        assert_eq!(check(None), both("", "tools: plus, tools: x*"));
    }

    #[test]
    fn a_warning_is_one_line() {
        let entries = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        assert_eq!(line("tokens/a", &[], ""), None);
        assert_eq!(
            line("tokens/a", &entries(&["tools: plus"]), " any more").as_deref(),
            Some("tokens/a: tools `plus` matches nothing on its servers any more")
        );
        let many = entries(&["tools: a", "tools: b", "tools: c", "prompts: d", "prompts: e: f", "tools: g"]);
        assert_eq!(
            line("tokens/a", &many, "").as_deref(),
            Some(
                "tokens/a: tools `a`, tools `b`, tools `c`, prompts `d`, prompts `e: f` and 1 more match nothing on its servers"
            )
        );
    }
}
