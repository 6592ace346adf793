//! Virtual servers: what their author may write, and whom they refer to.

use trunkline::registry::v1::{Member, NameStyle, Server, ServerStatus};

use super::members::{self, Target};
use super::rule::{RulesOf, VainPart};
use super::{
    Kind, KindRules, Reference, Surroundings, Violations, exposed, meta, names, reflect, rule, scope,
    server_state,
};

const MAX_MEMBERS: usize = 2_000;
/// Conflicts that the status of a server lists.
const MAX_CONFLICTS: usize = 100;
const MAX_MATCH_BYTES: usize = 2_048;
const MAX_TITLE: usize = 128;
const MAX_DESCRIPTION: usize = 4_096;
const MAX_INSTRUCTIONS_BYTES: usize = 16 << 10;

impl KindRules for Server {
    fn set_defaults(&mut self) {
        if self.name_style == i32::from(NameStyle::Unspecified) {
            self.name_style = NameStyle::Prefixed.into();
        }
    }
    fn validate(&self, violations: &mut Violations) {
        meta::validate(self.meta.as_ref(), violations);
        violations.at_most("title", &self.title, MAX_TITLE);
        violations.at_most("description", &self.description, MAX_DESCRIPTION);
        violations.at_most_bytes("instructions", &self.instructions, MAX_INSTRUCTIONS_BYTES);
        let style = NameStyle::try_from(self.name_style);
        let known = reflect::choices("trunkline.registry.v1.NameStyle");
        let text = format!("must be {known}, not {}", self.name_style);
        violations.require(style.is_ok(), "name_style", text);
        rule::validate_of(&self.name, &self.rules, violations);
        for (kind, list) in members::lists(self) {
            let field = kind.collection();
            let count = list.len();
            violations.require(
                count <= MAX_MEMBERS,
                field,
                format!("has {count} members; the maximum is {MAX_MEMBERS}"),
            );
            for (index, member) in list.iter().enumerate() {
                validate_member(&format!("{field}[{index}]"), kind, member, violations);
            }
        }
    }
    fn references(&self) -> Vec<Reference> {
        let mut references = Vec::new();
        for (kind, list) in members::lists(self) {
            for (index, member) in list.iter().enumerate() {
                let field = format!("{}[{index}].match", kind.collection());
                let Some(target) =
                    Target::parse(&member.r#match).filter(|target| !glob::is_pattern(target.upstream))
                else {
                    continue;
                };
                let upstream = format!("upstreams/{}", target.upstream);
                references.push(Reference { field: field.clone(), target: upstream, required: true });
                if !glob::is_pattern(target.own) {
                    let entry = names::entry(kind, target.upstream, target.own);
                    references.push(Reference { field, target: entry, required: false });
                }
            }
        }
        references
    }
    fn exposes(&self) -> Option<&Server> {
        Some(self)
    }
    fn search(&self) -> Vec<&str> {
        vec![&self.title, &self.description]
    }
    const EVALUATED: bool = true;
    const COMPUTED: &'static [&'static str] = &["status"];
    const SEES_UPSTREAM_STATES: bool = true;
    fn evaluate(&mut self, around: &Surroundings<'_>) {
        let exposure = members::evaluate(self, around.catalogue);
        let count = |kind| i32::try_from(exposure.of(kind).count()).unwrap_or(i32::MAX);
        let not_ready = server_state::not_ready(self, &exposure, around);
        let broken = broken_rules(self, &exposure, around);
        let idle_rules = rule::idle(&self.rules, &exposure);
        let rule_warnings = rule::warnings(&self.rules, &exposure);
        let mut status = ServerStatus {
            tool_count: count(Kind::Tool),
            resource_count: count(Kind::Resource),
            prompt_count: count(Kind::Prompt),
            too_large: exposure.excess().unwrap_or_default(),
            conflicts: conflicts(&exposure, around),
            idle_rules,
            rule_warnings,
            unresolved: exposure.unresolved,
            shadowed: exposure.shadowed,
            ..ServerStatus::default()
        };
        let (state, reason) = server_state::state(self, &status, &not_ready);
        let (state, reason) = server_state::with_rules(state, reason, broken);
        status.set_state(state);
        status.reason = reason;
        self.status = Some(status);
    }
}

/// The rules of a server, and of its team, that cannot be decided, each with why. Of a team that does not exist for the viewer no more
/// is told than that there is one.
fn broken_rules(server: &Server, exposure: &members::Exposure<'_>, around: &Surroundings<'_>) -> Vec<String> {
    let own = rule::undecidable(&server.rules, RulesOf::Server, exposure).into_iter();
    let own = own.map(|VainPart { index, field, why }| format!("rules[{index}].{field}: {why}"));
    let (team, viewer) = (server.ownership().team, around.viewer);
    let rules = around.catalogue.team_rules(&team);
    let is_seen = viewer.sees_all() || viewer.teams().contains(&team);
    let of_team = rule::undecidable(rules, RulesOf::Team, exposure).into_iter();
    let of_team = of_team.map(|VainPart { index, field: _, why }| match is_seen {
        true => format!("the rule {} of {team}: {why}", rules[index].id),
        false => "a rule of its team cannot be decided".to_owned(),
    });
    let mut all: Vec<_> = own.chain(of_team).collect();
    all.dedup();
    all
}

/// Shows the first conflicts of what exists for the viewer, and says how many there are besides.
fn conflicts(exposure: &members::Exposure<'_>, around: &Surroundings<'_>) -> Vec<String> {
    let is_seen = |conflict: &&members::Conflict| {
        [&conflict.kept, &conflict.left_out].into_iter().all(|entry| around.sees_upstream_of(entry))
    };
    let seen = exposure.conflicts.iter().filter(is_seen).take(MAX_CONFLICTS);
    let shown: Vec<_> = seen.map(ToString::to_string).collect();
    let more = exposure.conflicts.len() - shown.len();
    let shown = shown.into_iter();
    shown.chain((more > 0).then(|| format!("and {more} more"))).collect()
}

fn validate_member(field: &str, kind: Kind, member: &Member, violations: &mut Violations) {
    validate_match(&format!("{field}.match"), &member.r#match, violations);
    meta::validate_labels(&format!("{field}.labels"), &member.labels, violations);
    if kind != Kind::Tool {
        violations.require(member.read_only.is_none(), format!("{field}.read_only"), "applies only to tools");
        violations.require(member.hints.is_none(), format!("{field}.hints"), "applies only to tools");
    }
    if glob::is_pattern(&member.r#match) {
        for (name, value) in
            [("alias", &member.alias), ("title", &member.title), ("description", &member.description)]
        {
            violations.require(
                value.is_empty(),
                format!("{field}.{name}"),
                "applies only to a `match` without `*`",
            );
        }
    }
    violations.at_most(&format!("{field}.title"), &member.title, MAX_TITLE);
    violations.at_most(&format!("{field}.description"), &member.description, MAX_DESCRIPTION);
    if !member.alias.is_empty() {
        validate_alias(&format!("{field}.alias"), kind, member, violations);
    }
}

fn validate_match(field: &str, text: &str, violations: &mut Violations) {
    violations.at_most_bytes(field, text, MAX_MATCH_BYTES);
    scope::check_stars(field, text, violations);
    let Some(target) = Target::parse(text) else {
        let form = "in the form `{upstream}/{name}`, where each part may contain `*`";
        return match text {
            "" => violations.add(field, format!("is required, {form}")),
            text => violations.add(field, format!("must be {form}; `{text}` names no upstream")),
        };
    };
    let letters = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'*')
    };
    let upstream = target.upstream;
    let possible =
        if glob::is_pattern(upstream) { letters(upstream) } else { names::check_id(upstream).is_ok() };
    let text = match names::check_id(upstream) {
        Err(error) if !glob::is_pattern(upstream) => format!("names no upstream: {error}"),
        _ => format!("has the pattern `{upstream}`, which no id of an upstream matches"),
    };
    violations.require(possible, field, text);
    refuse_alias_in_match(field, target, violations);
}

/// Refuses `add as plus`, as some write it who mean an alias: it would select nothing.
fn refuse_alias_in_match(field: &str, target: Target<'_>, violations: &mut Violations) {
    let Some((own, alias)) = target.own.rsplit_once(" as ") else { return };
    if !glob::is_pattern(own) && !alias.is_empty() && !alias.contains([' ', '*']) {
        let upstream = target.upstream;
        let text = format!(
            "says ` as {alias}`, which is no part of a name; write `{upstream}/{own}`, and `{alias}` into `alias`"
        );
        violations.add(field, text);
    }
}

fn validate_alias(field: &str, kind: Kind, member: &Member, violations: &mut Violations) {
    if kind != Kind::Resource {
        return violations.require(
            exposed::fits(&member.alias),
            field,
            "must have letters, digits, `_` and `-` only, and at most 64 of them: clients accept no other names",
        );
    }
    violations.require(!member.r#match.contains('{'), field, "does not apply to URI templates");
    violations.at_most_bytes(field, &member.alias, MAX_MATCH_BYTES);
    violations.require(url::Url::parse(&member.alias).is_ok(), field, "is not an absolute URI");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_in_a_match_is_refused_and_names_with_blanks_are_not() {
        for (text, refused) in [
            ("mine/add as plus", true),
            ("mine/a b as c", true),
            ("mine/add", false),
            ("mine/add as", false),
            ("mine/as b", false),
            ("mine/as good as it gets", false),
            ("mine/* as x", false),
        ] {
            let mut violations = Violations::default();
            validate_match("tools[0].match", text, &mut violations);
            assert_eq!(!violations.is_empty(), refused, "{text}");
        }
        let mut violations = Violations::default();
        validate_match("tools[0].match", "mine/add as plus", &mut violations);
        assert_eq!(
            violations.into_vec()[0].description,
            "says ` as plus`, which is no part of a name; write `mine/add`, and `plus` into `alias`"
        );
    }
}
