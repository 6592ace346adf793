//! What rules say to a request that is granted, with each rule that was looked at. It must not know what grants anything.

use std::collections::BTreeSet;

use crate::decide::{Ground, Reason, Request};
use crate::rule::{Caller, Effect, Fact, Facts, Outcome, Refusal, Rule, Rules, Verdict};
use crate::targets::Exposed;
use crate::world::{Family, Held, Server, World};

/// What rules say.
#[derive(Debug, Default)]
pub(crate) struct Ruled {
    pub(crate) refused: Option<Reason>,
    pub(crate) open: Vec<String>,
    pub(crate) grounds: Vec<Ground>,
}

/// Characters of an expression that are shown.
const SHOWN: usize = 160;

/// Who calls, as rules see them.
pub(crate) fn caller(world: &World, principal: &str, held: Option<&Held>) -> Caller {
    let pairs = held.map(|held| &held.pairs).into_iter().flatten();
    let known = pairs.filter(|pair| world.teams.contains_key(&pair.team));
    let teams: BTreeSet<_> = known.filter_map(|pair| pair.team.strip_prefix("teams/")).collect();
    Caller::of(principal, teams.into_iter().map(str::to_owned).collect())
}

/// What the rules of a server say to a request for something that it exposes. Where a URI means several things, one must be allowed.
pub(crate) fn ruled(
    server: &Server,
    request: &Request,
    caller: &Caller,
    family: Family,
    exposed: &[Exposed<'_>],
) -> Ruled {
    let mut first = None;
    if !server.rules.is_empty() {
        for exposed in exposed {
            let found = of_one(&server.rules, request, caller, family, exposed);
            if found.refused.is_none() {
                return found;
            }
            first = first.or(Some(found));
        }
    }
    first.unwrap_or_default()
}

/// What is refused whatever the request brings is not shown at all, and so cannot be used by any method.
fn of_one(rules: &Rules, request: &Request, caller: &Caller, family: Family, exposed: &Exposed<'_>) -> Ruled {
    let id = |name: &'_ str| name.split_once('/').map_or(name, |(_, id)| id).to_owned();
    let server = id(&request.server);
    let listed = Facts {
        caller,
        server: &server,
        target: exposed.target(false),
        method: family.used_by(),
        // A resource is read without any.
        arguments: if family == Family::Resources { Fact::Absent } else { Fact::Later },
        source: Fact::Later,
        now_s: None,
    };
    match rules.decide(&listed) {
        Verdict::Denied(refusal) => refused(rules, &listed, refusal),
        Verdict::Allowed if request.method == family.used_by() => {
            Ruled { grounds: grounds(rules, &listed, None), ..Ruled::default() }
        }
        Verdict::Allowed | Verdict::Depends => {
            let arguments = match &request.arguments {
                Fact::Later => Fact::Later,
                Fact::Absent => Fact::Absent,
                Fact::Is(bytes) => Fact::Is(bytes.as_slice()),
            };
            let facts = Facts {
                target: exposed.target(true),
                method: &request.method,
                arguments,
                source: match request.address {
                    _ if request.at_any_time => Fact::Later,
                    None => Fact::Absent,
                    Some(address) => Fact::Is(address),
                },
                now_s: Some(request.now_s).filter(|_| !request.at_any_time),
                ..listed
            };
            match rules.decide(&facts) {
                Verdict::Denied(refusal) => refused(rules, &facts, refusal),
                verdict => Ruled {
                    refused: None,
                    open: if verdict == Verdict::Depends { open(rules, &facts) } else { Vec::new() },
                    grounds: grounds(rules, &facts, None),
                },
            }
        }
    }
}

fn refused(rules: &Rules, facts: &Facts<'_>, refusal: Refusal<'_>) -> Ruled {
    let reason = if refusal.error.is_some() { Reason::UndecidableRule } else { Reason::DeniedByRule };
    Ruled { refused: Some(reason), open: Vec::new(), grounds: grounds(rules, facts, Some(refusal.at)) }
}

/// The rules on which it depends.
fn open(rules: &Rules, facts: &Facts<'_>) -> Vec<String> {
    let found = rules.outcomes(facts).into_iter();
    found.filter(|(.., outcome)| *outcome == Outcome::Open).map(|(_, rule, _)| rule.id.clone()).collect()
}

/// The rules that were looked at. Of a refusal: those that have no part in it, then the one that refuses.
fn grounds(rules: &Rules, facts: &Facts<'_>, refusing: Option<usize>) -> Vec<Ground> {
    let found = rules.outcomes(facts);
    let is_last = |at: usize| Some(at) == refusing;
    let others = found.iter().filter(|(at, ..)| !is_last(*at));
    let last = found.iter().filter(|(at, ..)| is_last(*at));
    let allowed =
        found.iter().any(|(_, rule, outcome)| rule.effect == Effect::Allow && *outcome == Outcome::Passes);
    let ordered = others.chain(last).filter(|(at, rule, outcome)| {
        // Where one allows, others need not; where one refuses, what else may come to something decides nothing.
        let is_needless = rule.effect == Effect::Allow && *outcome != Outcome::Passes && allowed;
        let is_moot = refusing.is_some() && *outcome == Outcome::Open;
        is_last(*at) || !(is_needless || is_moot)
    });
    ordered.map(|(at, rule, outcome)| ground(rules, *at, rule, *outcome)).collect()
}

fn ground(rules: &Rules, at: usize, rule: &Rule, outcome: Outcome) -> Ground {
    let (resource, field) = place(rules, at, rule);
    let note = match outcome {
        Outcome::Passes => String::new(),
        Outcome::Refuses => rule.reason.clone(),
        Outcome::Open => "it depends on what the request brings".to_owned(),
        Outcome::Undecidable(why) => format!("it cannot be decided: {why}"),
    };
    let holds = matches!(outcome, Outcome::Passes | Outcome::Open);
    Ground { resource, field, text: text(rule), holds, note }
}

/// Whose rule it is, and which of theirs.
fn place(rules: &Rules, at: usize, rule: &Rule) -> (String, String) {
    let of = |rule: &Rule| rule.id.rsplit_once("/rules/").map(|(of, _)| of.to_owned()).unwrap_or_default();
    let resource = of(rule);
    let before = rules.iter().take(at).filter(|other| of(other) == resource).count();
    (resource, format!("rules[{before}]"))
}

/// The id of the rule at a place.
pub(crate) fn id_at<'a>(rules: &'a Rules, resource: &str, field: &str) -> Option<&'a str> {
    let is_there =
        |(at, rule): &(usize, &Rule)| place(rules, *at, rule) == (resource.to_owned(), field.to_owned());
    rules.iter().enumerate().find(is_there).map(|(_, rule)| rule.id.as_str())
}

/// A rule in a line.
fn text(rule: &Rule) -> String {
    let effect = match rule.effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
        Effect::Unknown => "refuse",
    };
    let id = rule.id.rsplit('/').next().unwrap_or_default();
    let when = rule.when.split_whitespace().collect::<Vec<_>>().join(" ");
    match when.char_indices().nth(SHOWN) {
        _ if when.is_empty() => format!("{effect} {id}"),
        Some((end, _)) => format!("{effect} {id} when {}…", &when[..end]),
        None => format!("{effect} {id} when {when}"),
    }
}
