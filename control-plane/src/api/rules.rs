//! What a write may not do to rules: give a server or team rules that cannot be decided, or take a server from under rules of its team.
//!
//! It must not know the language of rules.

use trunkline::common::v1::Permission;
use trunkline::identity::v1::Team;
use trunkline::registry::v1::Server;

use super::write::{MAX_STEPS, Write, evaluate};
use crate::domain::members::Exposure;
use crate::domain::{Kind, KindRules, Steps, Violations, rule};
use crate::error::Error;

/// Servers of a team that its rules are checked against. What the others expose is decided by edges.
const MAX_SERVERS_OF_TEAM: usize = 100;

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
        let caller = &self.call.caller;
        let may_write_rules = was.team.is_empty()
            || caller.sees_all()
            || caller.in_team(&was.team).contains(Permission::TeamsWrite);
        if may_write_rules || message.ownership().team == was.team {
            return Ok(());
        }
        let row = self.tx.get(Kind::Team, &was.team).await?;
        let has_rules = match row {
            Some(row) => !row.message::<Team>()?.rules.is_empty(),
            None => false,
        };
        if has_rules { Err(Error::denied(Permission::TeamsWrite, message.name())) } else { Ok(()) }
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
                for (index, why) in rule::undecidable(&team.rules, &exposure) {
                    let rule = &team.rules[index];
                    let is_new = before.as_ref().is_none_or(|before| !before.rules.contains(rule));
                    let field = format!("{prefix}rules[{index}].when");
                    violations.require(!is_new, field, format!("{why} (at {})", server.name));
                }
            }
        }
        if violations.is_empty() { Ok(()) } else { Err(Error::invalid(violations)) }
    }
}

/// Refuses rules that this write makes undecidable about what the server exposes.
pub(super) fn check_rules(
    before: Option<(&Server, &Exposure<'_>)>,
    (after, exposed): (&Server, &Exposure<'_>),
    prefix: &str,
) -> Result<(), Error> {
    if after.rules.iter().all(|rule| rule.when.is_empty()) {
        return Ok(());
    }
    let found = |(server, exposed): (&Server, &Exposure<'_>)| {
        let found = rule::undecidable(&server.rules, exposed);
        let named = found.into_iter().map(|(index, why)| (server.rules[index].clone(), index, why));
        named.collect::<Vec<_>>()
    };
    let known = before.map(found).unwrap_or_default();
    let mut new = found((after, exposed));
    new.retain(|(rule, _, why)| !known.iter().any(|(known, _, before)| known == rule && before == why));
    let mut violations = Violations::default();
    for (_, index, why) in new {
        violations.add(format!("{prefix}rules[{index}].when"), why);
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::invalid(violations)) }
}
