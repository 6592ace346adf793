//! Who gains and who loses something, as it is told to who asks: whole teams by the name of the team, and nobody who does not exist for
//! them. Pure.
//!
//! It must not know how it was worked out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use access::difference::{AccessMove, Difference, LoosenedRule, RuledThing, Thing};
use access::world::Family;
use trunkline::admin::v1::{
    AccessChange, AccessTarget, ApplyResourcesResponse, LoosenedRule as LoosenedRuleMessage, RuledTarget,
};
use trunkline::identity::v1::Team;
use trunkline::registry::v1::Server;

use super::touched::{Rows, all};
use crate::api::rpc::Call;
use crate::domain::Kind;
use crate::store::rights::{HoldersOf, Standing};

/// The most that are told of.
const MAX_TOLD: usize = 1_000;
/// The most things that are named of one.
const MAX_NAMED: usize = 100;
const PEOPLE: &str = "users/";

/// What exists for who is told.
#[derive(Debug, Default)]
pub(super) struct Audience {
    servers: BTreeSet<String>,
    principals: BTreeSet<String>,
    /// All people of a team, by the team.
    teams: BTreeMap<String, BTreeSet<String>>,
    /// Whether a rule asks who calls: how many others it is about would tell who they are, to who writes it.
    asks_who_calls: bool,
}

/// Those who gain or lose something and do not exist for who is told.
#[derive(Debug, Default)]
struct Unseen {
    losing: BTreeSet<String>,
    gaining: BTreeSet<String>,
}

/// What the same is true of, whoever it is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moved {
    server: String,
    gained: Vec<Thing>,
    lost: Vec<Thing>,
    ruled: Vec<RuledThing>,
    loosened: Vec<LoosenedRule>,
}

impl Moved {
    /// Who is bound by a rule less gains by that.
    fn is_gain(&self) -> bool {
        !self.gained.is_empty() || !self.loosened.is_empty()
    }

    /// What is told of it, without of whom.
    fn change(&self) -> AccessChange {
        AccessChange {
            server: self.server.clone(),
            gained: targets(&self.gained),
            lost: targets(&self.lost),
            ruled: ruled_targets(&self.ruled),
            loosened: loosened_rules(&self.loosened),
            gained_count: count(self.gained.len()),
            lost_count: count(self.lost.len()),
            ruled_count: count(self.ruled.len()),
            loosened_count: count(self.loosened.len()),
            ..AccessChange::default()
        }
    }
}

impl Unseen {
    fn note(&mut self, names: BTreeSet<String>, gain: bool, lose: bool) {
        if gain {
            self.gaining.extend(names.iter().cloned());
        }
        if lose {
            self.losing.extend(names);
        }
    }

    /// How many they are, how many of them lose and how many gain. Who is told of at one server is none of them, whatever else they
    /// lose.
    fn counts(&self, told: &BTreeSet<String>) -> [i32; 3] {
        let all: BTreeSet<_> = self.losing.union(&self.gaining).cloned().collect();
        [&all, &self.losing, &self.gaining].map(|names| count(names.difference(told).count()))
    }
}

impl Audience {
    /// What exists for a caller. `teams`: those of whom everybody is among `people`; `None`: none.
    pub(super) fn of(
        call: &Call<'_>,
        rows: &[Rows; 2],
        standings: &[BTreeMap<String, Standing>; 2],
        people: &BTreeSet<String>,
        teams: Option<&HoldersOf>,
    ) -> Self {
        let caller = &call.caller;
        let seen = |kind: Kind| {
            let rows = all(kind, rows).filter(move |_| caller.holds(kind.read()));
            let rows = rows.filter(|row| caller.sees_all() || caller.sees(&row.ownership));
            rows.map(|row| row.name.clone()).collect::<BTreeSet<_>>()
        };
        let standing = standings.iter().flat_map(BTreeMap::values);
        let standing: Vec<_> = standing.filter(|one| people.contains(&one.rights.name)).collect();
        let met = standing.iter().map(|one| &one.rights);
        let met = met.filter(|rights| rights.name == caller.name || call.sees_person(rights));
        let principals = seen(Kind::Token).into_iter().chain(met.map(|rights| rights.name.clone())).collect();
        let named = seen(Kind::Team);
        let is_whole = |team: &&String| {
            let is_asked = teams.is_some_and(|of| of.everybody || of.teams.contains(team));
            is_asked && (named.contains(*team) || caller.teams().contains(*team))
        };
        let mut whole = BTreeMap::<String, BTreeSet<String>>::new();
        for one in standing.iter().filter(|one| !one.is_disabled && one.rights.name.starts_with(PEOPLE)) {
            for team in one.rights.teams().iter().filter(is_whole) {
                whole.entry(team.clone()).or_default().insert(one.rights.name.clone());
            }
        }
        let asks_who_calls = !caller.sees_all() && asks_who_calls(rows);
        Self { servers: seen(Kind::Server), principals, teams: whole, asks_who_calls }
    }

    /// Adds to an answer what may be told.
    pub(super) fn told(&self, found: Difference, answer: ApplyResourcesResponse) -> ApplyResourcesResponse {
        let mut alike = BTreeMap::<Moved, BTreeSet<String>>::new();
        for AccessMove { principals, server, gained, lost, ruled, loosened } in found.moves {
            let moved = Moved { server, gained, lost, ruled, loosened };
            alike.entry(moved).or_default().extend(principals);
        }
        let (mut changes, mut told, mut unseen) = (Vec::new(), BTreeSet::new(), Unseen::default());
        for (moved, principals) in alike {
            let is_seen =
                |name: &String| self.servers.contains(&moved.server) && self.principals.contains(name);
            let (seen, others): (BTreeSet<_>, BTreeSet<_>) = principals.into_iter().partition(is_seen);
            unseen.note(others, moved.is_gain(), !moved.lost.is_empty());
            told.extend(seen.iter().cloned());
            let change = moved.change();
            let named = |(principal, people)| AccessChange { principal, people, ..change.clone() };
            changes.extend(self.by_team(seen).into_iter().map(named));
        }
        changes.sort_by(|one, other| (&one.server, &one.principal).cmp(&(&other.server, &other.principal)));
        let access_changes_cut = found.cut || changes.len() > MAX_TOLD;
        changes.truncate(MAX_TOLD);
        let [others, losing, gaining] = if self.asks_who_calls { [0; 3] } else { unseen.counts(&told) };
        ApplyResourcesResponse {
            access_changes: changes,
            access_changes_cut,
            access_changes_unseen: others,
            access_changes_unseen_losing: losing,
            access_changes_unseen_gaining: gaining,
            ..answer
        }
    }

    /// Names each of these, or a team in the place of all its people.
    fn by_team(&self, mut names: BTreeSet<String>) -> Vec<(String, i32)> {
        let mut teams: Vec<_> = self.teams.iter().filter(|(_, people)| people.len() > 1).collect();
        teams.sort_by_key(|(_, people)| Reverse(people.len()));
        let mut said = Vec::new();
        for (team, people) in teams {
            if people.is_subset(&names) {
                names.retain(|name| !people.contains(name));
                said.push((team.clone(), count(people.len())));
            }
        }
        said.extend(names.into_iter().map(|name| (name, 0)));
        said
    }
}

fn asks_who_calls(rows: &[Rows; 2]) -> bool {
    let of_servers =
        all(Kind::Server, rows).filter_map(|row| row.message::<Server>().ok()).map(|server| server.rules);
    let of_teams = all(Kind::Team, rows).filter_map(|row| row.message::<Team>().ok()).map(|team| team.rules);
    of_servers.chain(of_teams).flatten().any(|rule| rule.when.contains("caller"))
}

fn targets(things: &[Thing]) -> Vec<AccessTarget> {
    let target =
        |thing: &Thing| AccessTarget { kind: kind(thing.family).to_owned(), name: thing.name.clone() };
    things.iter().take(MAX_NAMED).map(target).collect()
}

fn ruled_targets(ruled: &[RuledThing]) -> Vec<RuledTarget> {
    let target = |RuledThing { thing, rules }: &RuledThing| RuledTarget {
        kind: kind(thing.family).to_owned(),
        name: thing.name.clone(),
        rules: rules.clone(),
    };
    ruled.iter().take(MAX_NAMED).map(target).collect()
}

fn loosened_rules(loosened: &[LoosenedRule]) -> Vec<LoosenedRuleMessage> {
    let message = |rule: &LoosenedRule| LoosenedRuleMessage {
        rule: rule.rule.clone(),
        effect: rule.effect.to_owned(),
        changed: rule.is_changed,
        targets: targets(&rule.things),
        target_count: count(rule.things.len()),
    };
    loosened.iter().take(MAX_NAMED).map(message).collect()
}

fn kind(family: Family) -> &'static str {
    match family {
        Family::Tools => "tool",
        Family::Resources => "resource",
        Family::Prompts => "prompt",
    }
}

fn count(of: usize) -> i32 {
    i32::try_from(of).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn tools(names: &[&str]) -> Vec<Thing> {
        let tool = |name: &&str| Thing { family: Family::Tools, name: (*name).to_owned() };
        names.iter().map(tool).collect()
    }

    fn moved(principals: &[&str], server: &str, lost: &[&str]) -> AccessMove {
        let principals = names(principals).into_iter().collect();
        AccessMove { principals, server: server.to_owned(), lost: tools(lost), ..AccessMove::default() }
    }

    fn told(audience: &Audience, moves: Vec<AccessMove>) -> ApplyResourcesResponse {
        audience.told(Difference { moves, cut: false }, ApplyResourcesResponse::default())
    }

    fn lines(answer: &ApplyResourcesResponse) -> Vec<String> {
        let line =
            |change: &AccessChange| format!("{} {} {}", change.principal, change.people, change.server);
        answer.access_changes.iter().map(line).collect()
    }

    #[test]
    fn a_team_stands_for_all_its_people_and_a_part_of_it_for_itself() {
        let teams =
            [("teams/core", &["users/ann", "users/bob"][..]), ("teams/all", &["users/ann", "users/eve"][..])];
        let audience = Audience {
            servers: names(&["servers/dev"]),
            principals: names(&["tokens/t", "users/ann", "users/bob", "users/eve"]),
            teams: teams.map(|(team, people)| (team.to_owned(), names(people))).into(),
            asks_who_calls: false,
        };
        let lost = [
            moved(&["users/ann", "users/bob"], "servers/dev", &["a"]),
            moved(&["tokens/t"], "servers/dev", &["a"]),
        ];
        let answer = told(&audience, lost.to_vec());
        assert_eq!(lines(&answer), ["teams/core 2 servers/dev", "tokens/t 0 servers/dev"]);
        let answer = told(&audience, vec![moved(&["users/bob", "users/eve"], "servers/dev", &["a"])]);
        assert_eq!(lines(&answer), ["users/bob 0 servers/dev", "users/eve 0 servers/dev"]);
    }

    #[test]
    fn who_does_not_exist_for_who_asks_is_counted_and_not_named() {
        let audience = Audience {
            servers: names(&["servers/dev"]),
            principals: names(&["tokens/mine", "tokens/other"]),
            teams: BTreeMap::new(),
            asks_who_calls: false,
        };
        let lost = [
            moved(&["tokens/mine", "tokens/theirs", "users/ann"], "servers/dev", &["a"]),
            moved(&["tokens/mine", "tokens/other"], "servers/hidden", &["b"]),
        ];
        let gains = AccessMove { gained: tools(&["c"]), ..moved(&["users/bob"], "servers/dev", &[]) };
        let answer = told(&audience, [&lost[..], &[gains]].concat());
        assert_eq!(lines(&answer), ["tokens/mine 0 servers/dev"]);
        let unseen = (
            answer.access_changes_unseen,
            answer.access_changes_unseen_losing,
            answer.access_changes_unseen_gaining,
        );
        assert_eq!(
            unseen,
            (4, 3, 1),
            "two others lose at dev, one at a server that is not seen, and one gains at dev"
        );
        assert!(!answer.access_changes_cut);
    }

    #[test]
    fn what_is_too_much_is_counted_and_cut() {
        let all: Vec<String> = (0..1_500).map(|number| format!("tokens/t{number}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let audience =
            Audience { servers: names(&["servers/dev"]), principals: names(&all), ..Audience::default() };
        let many: Vec<String> = (0..250).map(|number| format!("tool{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let answer = told(&audience, vec![moved(&all, "servers/dev", &many)]);
        assert!(answer.access_changes_cut);
        assert_eq!(answer.access_changes.len(), 1_000);
        let first = &answer.access_changes[0];
        assert_eq!((first.lost.len(), first.lost_count, first.gained_count), (100, 250, 0));
    }
}
