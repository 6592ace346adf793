//! What a write may not do to rules: give a server or team rules that cannot be decided, or take a server from under rules of its team.
//!
//! It must not know the language of rules.

use std::collections::HashMap;

use tonic::Code;
use trunkline::common::v1::Permission;
use trunkline::identity::v1::Team;
use trunkline::policy::v1::Rule;
use trunkline::registry::v1::Server;

use super::write::{MAX_STEPS, Write, evaluate, too_much};
use crate::domain::members::Exposure;
use crate::domain::rule::{self, RulesOf, TooManySteps, VainPart};
use crate::domain::{Catalogue, Kind, KindRules, Steps, Violations};
use crate::error::Error;

/// Servers of a team that its rules are checked against. What the others expose is decided by edges.
const MAX_SERVERS_OF_TEAM: usize = 100;

/// Reads the rules that a message brings, so that nobody waits for that while it is written. What is wrong is told then.
pub(super) fn read_rules<K: KindRules>(message: &K) {
    if message.exposes().is_some() || message.rules_servers().is_some() {
        message.validate(&mut Violations::default());
    }
}

impl Write<'_> {
    /// Refuses to take a server out of a team that has rules, but to who may write those: they would hold for it no more.
    pub(super) async fn check_stays_under_rules<K: KindRules>(
        &mut self,
        message: &K,
        before: Option<&K>,
    ) -> Result<(), Error> {
        let Some(was) = before.filter(|before| before.exposes().is_some()).map(KindRules::ownership) else {
            return Ok(());
        };
        if self.may_write_rules_of(&was.team) || message.ownership().team == was.team {
            return Ok(());
        }
        let row = self.tx.get(Kind::Team, &was.team).await?;
        let has_rules = match row {
            Some(row) => !row.message::<Team>()?.rules.is_empty(),
            None => false,
        };
        if has_rules { Err(Error::denied(Permission::TeamsWrite, message.name())) } else { Ok(()) }
    }

    fn may_write_rules_of(&self, team: &str) -> bool {
        let caller = &self.call.caller;
        team.is_empty() || caller.sees_all() || caller.in_team(team).contains(Permission::TeamsWrite)
    }

    /// Refuses to expose something so that a rule of the team is no longer about it, but to who may write those.
    pub(super) fn check_stays_covered(
        &self,
        (before, exposed_before): (&Server, &Exposure<'_>),
        (after, exposed): (&Server, &Exposure<'_>),
        catalogue: &Catalogue,
        left: &mut Steps,
    ) -> Result<(), Error> {
        let team = after.ownership().team;
        let rules = catalogue.team_rules(&team);
        if rules.is_empty() || before.ownership().team != team || self.may_write_rules_of(&team) {
            return Ok(());
        }
        let known: HashMap<_, _> = exposed_before.entries.iter().map(|was| (&*was.entry.name, was)).collect();
        let renamed = exposed.entries.iter().filter_map(|now| {
            let was = known.get(&*now.entry.name).filter(|was| was.exposed_name != now.exposed_name)?;
            Some((*was, now))
        });
        match rule::escaped(rules, &renamed.collect::<Vec<_>>(), left) {
            Err(TooManySteps) => Err(too_much("name_style")),
            Ok(None) => Ok(()),
            Ok(Some((rule, (was, now)))) => Err(escaped(rule, &team, [&was.exposed_name, &now.exposed_name])),
        }
    }

    /// Refuses rules that this write gives to a team, and that cannot be decided about what one of its servers exposes.
    pub(super) async fn check_team_rules(&mut self) -> Result<(), Error> {
        let mut teams = std::mem::take(&mut self.teams);
        teams.retain(|(_, before, team)| {
            before.as_ref().is_none_or(|before| before.rules != team.rules) && !team.rules.is_empty()
        });
        if teams.is_empty() {
            return Ok(());
        }
        let known = self.registry.catalogue_within(&mut self.tx).await?;
        let (mut violations, mut left) = (Violations::default(), Steps::new(MAX_STEPS));
        for (prefix, before, team) in &teams {
            let own = known.catalogue.servers_of(&team.name).take(MAX_SERVERS_OF_TEAM);
            for server in own.filter(|server| self.call.caller.sees(&server.ownership())) {
                let exposure = evaluate(server, &known.catalogue, &mut left);
                for VainPart { index, field, why } in rule::undecidable(&team.rules, RulesOf::Team, &exposure)
                {
                    let rule = &team.rules[index];
                    let is_new = before.as_ref().is_none_or(|before| !before.rules.contains(rule));
                    let field = format!("{prefix}rules[{index}].{field}");
                    violations.require(!is_new, field, format!("{why} (at {})", server.name));
                }
            }
        }
        if violations.is_empty() { Ok(()) } else { Err(Error::invalid(violations)) }
    }
}

/// What a server exposes would be under another name, which a rule of its team does not have.
fn escaped(rule: &Rule, team: &str, [was, now]: [&str; 2]) -> Error {
    let id = &rule.id;
    let text = format!(
        "the rule {id} of {team} is about {was} and not about {now}; keep the name, or have somebody with teams.write in {team} change it"
    );
    Error::new(Code::PermissionDenied, "PERMISSION_DENIED", text)
        .with("permission", "teams.write")
        .with("name", team)
        .with("rule", id.clone())
}

/// Refuses rules that this write makes undecidable about what the server exposes.
pub(super) fn check_rules(
    before: Option<(&Server, &Exposure<'_>)>,
    (after, exposed): (&Server, &Exposure<'_>),
    prefix: &str,
) -> Result<(), Error> {
    if after.rules.iter().all(|rule| rule.when.is_empty() && rule.fields.is_empty()) {
        return Ok(());
    }
    let found = |(server, exposed): (&Server, &Exposure<'_>)| {
        let found = rule::undecidable(&server.rules, RulesOf::Server, exposed);
        let named = found.into_iter().map(|part| (server.rules[part.index].clone(), part));
        named.collect::<Vec<_>>()
    };
    let known = before.map(found).unwrap_or_default();
    let mut new = found((after, exposed));
    let is_known = |rule: &Rule, part: &VainPart| {
        known.iter().any(|(known, before)| known == rule && before.why == part.why)
    };
    new.retain(|(rule, part)| !is_known(rule, part));
    let mut violations = Violations::default();
    for (_, VainPart { index, field, why }) in new {
        violations.add(format!("{prefix}rules[{index}].{field}"), why);
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::invalid(violations)) }
}
