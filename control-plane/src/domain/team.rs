//! Teams: what their author may write, and which servers they name.

use trunkline::common::v1::Visibility;
use trunkline::identity::v1::{Scope, Team};

use super::{KindRules, Reference, SeesPeople, Surroundings, Violations, meta, rule, scope};
use crate::rights::Ownership;

const MAX_TITLE: usize = 128;
const MAX_DESCRIPTION: usize = 1_024;

impl KindRules for Team {
    fn validate(&self, violations: &mut Violations) {
        meta::validate(self.meta.as_ref(), violations);
        violations.at_most("title", &self.title, MAX_TITLE);
        violations.at_most("description", &self.description, MAX_DESCRIPTION);
        if let Some(scope) = &self.scope {
            scope::validate(scope, violations);
        }
        rule::validate(&self.rules, violations);
    }
    fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }
    fn references(&self) -> Vec<Reference> {
        scope::references(self.scope.as_ref())
    }
    fn rules_servers(&self) -> Option<&Team> {
        Some(self)
    }
    // It is its members', and nobody's else.
    const HAS_OWNER: bool = false;
    fn ownership(&self) -> Ownership {
        Ownership { owner: String::new(), team: self.name.clone(), visibility: Visibility::Team }
    }
    fn search(&self) -> Vec<&str> {
        vec![&self.title, &self.description]
    }
    const COMPUTED: &'static [&'static str] = &["status"];
    const SEES_CATALOGUE: bool = false;
    const SEES_PEOPLE: SeesPeople = SeesPeople::Members;
    const EVALUATED: bool = true;
    fn evaluate(&mut self, around: &Surroundings<'_>) {
        self.status = Some(around.people.teams.get(&self.name).cloned().unwrap_or_default());
    }
}
