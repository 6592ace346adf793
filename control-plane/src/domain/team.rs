//! Teams: what their author may write, and which servers they name.

use trunkline::identity::v1::Team;

use super::{KindRules, Reference, Surroundings, Violations, meta, scope};

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
    }
    fn references(&self) -> Vec<Reference> {
        scope::references(self.scope.as_ref())
    }
    fn search(&self) -> Vec<&str> {
        vec![&self.title, &self.description]
    }
    const COMPUTED: &'static [&'static str] = &["status"];
    const SEES_CATALOGUE: bool = false;
    fn evaluate(&mut self, _around: &Surroundings<'_>) {}
}
