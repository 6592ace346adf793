//! What rules say to a request that is granted, with each rule that was looked at. It must not know what grants anything.

use std::collections::BTreeSet;

use crate::decide::{Ground, Reason, Request, Unknown};
use crate::rule::{Caller, Effect, Fact, Facts, Outcome, Refusal, Rule, Rules, Verdict};
use crate::targets::Exposed;
use crate::world::{Family, Held, Server, World};

/// What rules say.
#[derive(Debug, Default)]
pub(crate) struct Ruled {
    pub(crate) refused: Option<Reason>,
    pub(crate) open: Vec<String>,
    pub(crate) depends_on: Unknown,
    pub(crate) binding: Vec<usize>,
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
        Verdict::Allowed(with) if request.method == family.used_by() && !with.is_open => {
            not_refused(rules, &listed, false)
        }
        Verdict::Allowed(_) | Verdict::Depends(_) => {
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
                    _ if request.from_anywhere => Fact::Later,
                    None => Fact::Absent,
                    Some(address) => Fact::Is(address),
                },
                now_s: Some(request.now_s).filter(|_| !request.at_any_time),
                ..listed
            };
            match rules.decide(&facts) {
                Verdict::Denied(refusal) => refused(rules, &facts, refusal),
                Verdict::Allowed(_) => not_refused(rules, &facts, false),
                Verdict::Depends(_) => not_refused(rules, &facts, true),
            }
        }
    }
}

fn refused(rules: &Rules, facts: &Facts<'_>, refusal: Refusal<'_>) -> Ruled {
    let reason = if refusal.error.is_some() { Reason::UndecidableRule } else { Reason::DeniedByRule };
    Ruled { refused: Some(reason), grounds: grounds(rules, facts, Some(refusal.at)), ..Ruled::default() }
}

/// What no rule refuses, or none yet. One may hold it back all the same.
fn not_refused(rules: &Rules, facts: &Facts<'_>, depends: bool) -> Ruled {
    let found = rules.outcomes(facts);
    let holding = found.iter().find(|(_, rule, outcome)| holds_back(rule, *outcome)).map(|(at, ..)| *at);
    let open = found.iter().filter(|(at, rule, outcome)| {
        let matters = depends || matches!(rule.effect, Effect::Mask | Effect::Approve);
        Some(*at) == holding || (*outcome == Outcome::Open && matters)
    });
    let open: Vec<_> = open.collect();
    let depends_on = open.iter().fold(Unknown::default(), |all, (at, ..)| {
        let needs = rules.needs_of(*at);
        Unknown {
            arguments: all.arguments || (needs.arguments && facts.arguments == Fact::Later),
            address: all.address || (needs.source && facts.source == Fact::Later),
            time: all.time || (needs.now && facts.now_s.is_none()),
        }
    });
    Ruled {
        refused: holding.map(|_| Reason::ApprovalNeeded),
        open: open.into_iter().map(|(_, rule, _)| rule.id.clone()).collect(),
        depends_on,
        binding: binding(&found),
        grounds: grounds(rules, facts, holding),
    }
}

/// The rules that bind a request, or may.
fn binding(found: &[(usize, &Rule, Outcome)]) -> Vec<usize> {
    let allowed = is_allowed(found);
    let binds = found.iter().filter(|(_, rule, outcome)| match outcome {
        Outcome::Obliges => true,
        Outcome::Open => rule.effect != Effect::Allow || !allowed,
        _ => false,
    });
    binds.map(|(at, ..)| *at).collect()
}

/// Whether an `allow` is true.
fn is_allowed(found: &[(usize, &Rule, Outcome)]) -> bool {
    found.iter().any(|(_, rule, outcome)| rule.effect == Effect::Allow && *outcome == Outcome::Passes)
}

fn holds_back(rule: &Rule, outcome: Outcome) -> bool {
    rule.effect == Effect::Approve && outcome == Outcome::Obliges
}

/// The rules that were looked at. Of a refusal: those that have no part in it, then the one that refuses.
fn grounds(rules: &Rules, facts: &Facts<'_>, refusing: Option<usize>) -> Vec<Ground> {
    let found = rules.outcomes(facts);
    let is_last = |at: usize| Some(at) == refusing;
    let others = found.iter().filter(|(at, ..)| !is_last(*at));
    let last = found.iter().filter(|(at, ..)| is_last(*at));
    let allowed = is_allowed(&found);
    let ordered = others.chain(last).filter(|(at, rule, outcome)| {
        // Where one allows, others need not; where one refuses, what else may come to something decides nothing.
        let is_needless = rule.effect == Effect::Allow && *outcome != Outcome::Passes && allowed;
        let is_moot = refusing.is_some() && (*outcome == Outcome::Open || holds_back(rule, *outcome));
        is_last(*at) || !(is_needless || is_moot)
    });
    ordered.map(|(at, rule, outcome)| ground(rules, *at, rule, *outcome)).collect()
}

fn ground(rules: &Rules, at: usize, rule: &Rule, outcome: Outcome) -> Ground {
    let (resource, field) = place(rules, at, rule);
    let note = match outcome {
        Outcome::Passes => String::new(),
        Outcome::Obliges => obligation(rule),
        Outcome::Refuses => rule.reason.clone(),
        Outcome::Open => "it depends on what the request brings".to_owned(),
        Outcome::Undecidable(why) => format!("it cannot be decided: {why}"),
    };
    let holds = match outcome {
        Outcome::Passes | Outcome::Open => true,
        Outcome::Obliges => rule.effect == Effect::Mask,
        Outcome::Refuses | Outcome::Undecidable(_) => false,
    };
    Ground { resource, field, text: text(rule), holds, note }
}

/// What goes with a call for which a rule is true.
fn obligation(rule: &Rule) -> String {
    if rule.effect == Effect::Mask {
        return format!("masks {}", rule.fields.join(", "));
    }
    let id = rule.id.rsplit('/').next().unwrap_or_default();
    let why = if rule.reason.is_empty() { String::new() } else { format!(": {}", rule.reason) };
    format!("needs an approval by the rule {id}{why}")
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

/// Where the rule of this id stands: `rules[2]`.
pub(crate) fn field_of(rules: &Rules, id: &str) -> Option<String> {
    let found = rules.iter().enumerate().find(|(_, rule)| rule.id == id);
    found.map(|(at, rule)| place(rules, at, rule).1)
}

/// A rule in a line.
fn text(rule: &Rule) -> String {
    let effect = rule.effect.as_str();
    let id = rule.id.rsplit('/').next().unwrap_or_default();
    let when = rule.when.split_whitespace().collect::<Vec<_>>().join(" ");
    match when.char_indices().nth(SHOWN) {
        _ if when.is_empty() => format!("{effect} {id}"),
        Some((end, _)) => format!("{effect} {id} when {}…", &when[..end]),
        None => format!("{effect} {id} when {when}"),
    }
}
