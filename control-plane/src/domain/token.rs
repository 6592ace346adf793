//! Tokens: what their author may write, and which servers they name.

use trunkline::identity::v1::Token;

use super::{Kind, KindRules, Reference, Violations, meta, names};

const MAX_DESCRIPTION: usize = 1_024;
const MAX_PATTERNS: usize = 1_000;
const MAX_PATTERN_BYTES: usize = 2_048;
/// Every server.
const ALL: &str = "*";

impl KindRules for Token {
    fn validate(&self, violations: &mut Violations) {
        meta::validate(self.meta.as_ref(), violations);
        violations.at_most("description", &self.description, MAX_DESCRIPTION);
        if let Some(end) = &self.expire_time {
            let valid =
                (0..=253_402_300_799).contains(&end.seconds) && (0..1_000_000_000).contains(&end.nanos);
            violations.require(valid, "expire_time", "must be a time between the years 1970 and 9999");
        }
        let Some(scope) = &self.scope else { return };
        for (index, server) in scope.servers.iter().enumerate().filter(|(_, server)| *server != ALL) {
            if let Err(error) = names::parse(Kind::Server, server) {
                violations.add(format!("scope.servers[{index}]"), format!("{error}, nor is it `*`"));
            }
        }
        let lists = [
            ("servers", &scope.servers),
            ("tools", &scope.tools),
            ("resources", &scope.resources),
            ("prompts", &scope.prompts),
        ];
        for (name, list) in lists {
            validate_list(&format!("scope.{name}"), list, violations);
        }
    }
    fn references(&self) -> Vec<Reference> {
        let servers = self.scope.iter().flat_map(|scope| &scope.servers).enumerate();
        servers
            .filter(|(_, server)| *server != ALL)
            .map(|(index, server)| Reference {
                field: format!("scope.servers[{index}]"),
                target: server.clone(),
                required: true,
            })
            .collect()
    }
    fn search(&self) -> Vec<&str> {
        vec![&self.description]
    }
}

fn validate_list(field: &str, list: &[String], violations: &mut Violations) {
    let count = list.len();
    violations.require(
        count <= MAX_PATTERNS,
        field,
        format!("has {count} entries; the maximum is {MAX_PATTERNS}"),
    );
    for (index, pattern) in list.iter().enumerate() {
        let field = format!("{field}[{index}]");
        violations.require(!pattern.is_empty(), field.clone(), "is empty");
        violations.at_most_bytes(&field, pattern, MAX_PATTERN_BYTES);
    }
}
