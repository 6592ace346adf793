//! Rules of servers and teams: what may be written in them, and which of them cannot be decided about what a server exposes.
//!
//! They are read by the code by which edges read them. It must not know how a rule is stored, nor who may write it.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{LazyLock, Mutex, PoisonError};

use access::method::Methods;
use access::rule::{FieldPath, Issue, Known, Program, ProgramError, Shape};
use prost::Message;
use trunkline::policy::v1::{Rule, RuleEffect};

use super::members::{Exposed, Exposure, Target};
use super::{Kind, Steps, Violations, masked_fields, names, reflect, scope};

const MAX_RULES: usize = 64;
const MAX_PATTERNS: usize = 256;
const MAX_PATTERN_BYTES: usize = 2_048;
const MAX_METHODS: usize = 32;
const MAX_WHEN_BYTES: usize = 4_096;
/// Bytes of the expressions of all rules of a server or team.
const MAX_BYTES_OF_ALL: usize = 32 * 1_024;
const MAX_REASON: usize = 200;
const MAX_FIELDS: usize = 64;
const MAX_FIELD_BYTES: usize = 256;
/// Servers and teams with rules, read lately, of which it is known what is wrong, and what that is.
const MAX_READ: usize = 16_384;
/// Warnings that are told of a server.
const MAX_WARNINGS: usize = 20;
/// Pairs of a rule and what it covers that are looked at together: ten thousand tools and 64 rules must not stop a write. What is not
/// looked at is decided by edges, which refuse what they cannot decide.
const MAX_PAIRS: usize = 20_000;
/// The methods that name something, which is what rules are about.
const ABOUT: [&str; 6] =
    [CALL, GET, "resources/read", "resources/subscribe", "resources/unsubscribe", "completion/complete"];
const CALL: &str = "tools/call";
const GET: &str = "prompts/get";

/// Checks all that can be checked of rules of several servers without looking at tools.
pub(super) fn validate(rules: &[Rule], violations: &mut Violations) {
    validate_of("", rules, violations);
}

/// Checks all that can be checked without looking at tools of the rules of `servers/dev`. Empty: of several servers.
pub fn validate_of(server: &str, rules: &[Rule], violations: &mut Violations) {
    let find = || {
        let mut found = Violations::default();
        find_wrong(server, rules, &mut found);
        found
    };
    if !rules.is_empty() {
        violations.extend_under("", ReadRules::lately(key(server, rules), find));
    }
}

/// What was found wrong with rules that were read lately. A request has them read before others wait for it to be written, and then reads
/// them no more.
#[derive(Debug, Default)]
struct ReadRules {
    known: HashMap<u64, Violations>,
    /// How many rules and violations that is: who writes wrong ones fills no memory.
    kept: usize,
}

/// All of them.
static LATELY: LazyLock<Mutex<ReadRules>> = LazyLock::new(Mutex::default);
/// Of which nobody chooses two that are alike.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl ReadRules {
    /// What was found wrong, or what `find` finds.
    fn lately(key: u64, find: impl FnOnce() -> Violations) -> Violations {
        let known = || LATELY.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known().known.get(&key).cloned();
        found.unwrap_or_else(|| {
            let found = find();
            known().keep(key, &found);
            found
        })
    }

    fn keep(&mut self, key: u64, found: &Violations) {
        if self.kept >= MAX_READ {
            *self = Self::default();
        }
        self.kept += 1 + found.len();
        self.known.insert(key, found.clone());
    }
}

fn key(server: &str, rules: &[Rule]) -> u64 {
    KEYS.hash_one((server, rules.iter().map(Message::encode_to_vec).collect::<Vec<_>>()))
}

fn find_wrong(server: &str, rules: &[Rule], violations: &mut Violations) {
    let server = server.strip_prefix("servers/").unwrap_or(server);
    let count = rules.len();
    violations.require(count <= MAX_RULES, "rules", format!("has {count} rules; the maximum is {MAX_RULES}"));
    // They are read while others wait to write.
    let bytes: usize = rules.iter().map(|rule| rule.when.len()).sum();
    if bytes > MAX_BYTES_OF_ALL {
        let text = format!("have {bytes} bytes of `when` together; the maximum is {MAX_BYTES_OF_ALL}");
        return violations.add("rules", text);
    }
    let mut ids = HashSet::new();
    for (index, rule) in rules.iter().enumerate().take(MAX_RULES) {
        let field = format!("rules[{index}]");
        match names::check_id(&rule.id) {
            Err(error) => violations.add(format!("{field}.id"), error.to_string()),
            Ok(_) => violations.require(
                ids.insert(&rule.id),
                format!("{field}.id"),
                format!("repeats `{}`; each rule has its own", rule.id),
            ),
        }
        validate_one(&field, server, rule, violations);
    }
}

fn validate_one(field: &str, server: &str, rule: &Rule, violations: &mut Violations) {
    let is_effect = RuleEffect::try_from(rule.effect).is_ok_and(|effect| effect != RuleEffect::Unspecified);
    let known = reflect::choices("trunkline.policy.v1.RuleEffect");
    violations.require(is_effect, format!("{field}.effect"), format!("must be {known}"));
    validate_patterns(&format!("{field}.tools"), &rule.tools, violations);
    validate_fields(&format!("{field}.fields"), rule, violations);
    violations.at_most(&format!("{field}.reason"), &rule.reason, MAX_REASON);
    let prints = !rule.reason.chars().any(char::is_control);
    violations.require(prints, format!("{field}.reason"), "must have no control characters");
    let when = format!("{field}.when");
    violations.at_most_bytes(&when, &rule.when, MAX_WHEN_BYTES);
    let program = match rule.when.as_str() {
        "" => None,
        text if text.len() > MAX_WHEN_BYTES => None,
        text => read(text, server, rule).map_err(|error| violations.add(when, error.to_string())).ok(),
    };
    let reads = program.is_some_and(|program| program.needs().arguments);
    validate_methods(&format!("{field}.methods"), rule, reads, violations);
}

/// Whether a rule is about calls of tools alone, whatever else it names.
fn is_of_calls(rule: &Rule) -> bool {
    matches!(rule.effect(), RuleEffect::Mask | RuleEffect::Approve)
}

fn validate_fields(field: &str, rule: &Rule, violations: &mut Violations) {
    let (is_mask, count) = (rule.effect() == RuleEffect::Mask, rule.fields.len());
    violations.require(is_mask || count == 0, field, "are of a rule with the effect `mask`; leave them out");
    let needed = "must name what is masked, such as `email` or `customers.*.iban`";
    violations.require(!is_mask || count > 0, field, needed);
    let text = format!("has {count} entries; the maximum is {MAX_FIELDS}");
    violations.require(count <= MAX_FIELDS, field, text);
    let mut known = HashSet::new();
    for (index, path) in rule.fields.iter().enumerate().take(MAX_FIELDS) {
        let field = format!("{field}[{index}]");
        violations.at_most_bytes(&field, path, MAX_FIELD_BYTES);
        if path.len() > MAX_FIELD_BYTES {
            continue;
        }
        if let Err(error) = FieldPath::parse(path) {
            violations.add(&field, error.to_string());
        }
        violations.require(known.insert(path), &field, format!("repeats `{path}`"));
    }
}

/// Reads a program in which each part can come to something.
fn read(text: &str, server: &str, rule: &Rule) -> Result<Program, ProgramError> {
    let program = Program::parse(text)?;
    let covered = |method: &&str| match rule.methods.as_slice() {
        _ if is_of_calls(rule) => *method == CALL,
        [] => !program.needs().arguments || *method == CALL,
        patterns => patterns.iter().any(|pattern| covers(pattern, method)),
    };
    let methods: Vec<_> = ABOUT.into_iter().filter(covered).collect();
    match program.vain(Known { server, methods: &methods }) {
        Some(error) => Err(error),
        None => Ok(program),
    }
}

fn validate_patterns(field: &str, patterns: &[String], violations: &mut Violations) {
    let count = patterns.len();
    let text = format!("has {count} entries; the maximum is {MAX_PATTERNS}");
    violations.require(count <= MAX_PATTERNS, field, text);
    for (index, pattern) in patterns.iter().enumerate().take(MAX_PATTERNS) {
        let field = format!("{field}[{index}]");
        violations.require(!pattern.is_empty(), &field, "is empty; write `*` for everything");
        violations.at_most_bytes(&field, pattern, MAX_PATTERN_BYTES);
        scope::check_stars(&field, pattern, violations);
    }
}

fn validate_methods(field: &str, rule: &Rule, reads: bool, violations: &mut Violations) {
    let (methods, count) = (&rule.methods, rule.methods.len());
    let text = format!("has {count} entries; the maximum is {MAX_METHODS}");
    violations.require(count <= MAX_METHODS, field, text);
    for (index, method) in methods.iter().enumerate().take(MAX_METHODS) {
        let field = format!("{field}[{index}]");
        if let Err(error) = Methods::new(std::slice::from_ref(method)) {
            violations.add(field, error.to_string());
        } else if is_of_calls(rule) {
            let text = format!("{method} is more than a mask or an approval is about; write {CALL}, or none");
            violations.require(method == CALL, field, text);
        } else if !ABOUT.iter().any(|known| glob::matches(method, known)) {
            violations.add(field, format!("{method} names nothing that a rule could be about; write {CALL}"));
        } else if reads && !covers(method, CALL) && !covers(method, GET) {
            let text = format!("{method} has no arguments, which `when` reads; write {CALL} or {GET}");
            violations.add(field, text);
        }
    }
}

fn covers(pattern: &str, method: &str) -> bool {
    glob::matches(pattern, method)
}

/// Whose rules they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RulesOf {
    /// The server's own, which name what it exposes.
    Server,
    /// Its team's, which also name `{upstream}/{name}`, whatever that is exposed as.
    Team,
}

/// A part of a rule that comes to nothing about what a server exposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VainPart {
    /// Where the rule stands.
    pub index: usize,
    /// The field of it: `when` or `fields[0]`.
    pub field: String,
    /// Why.
    pub why: String,
}

/// The rules that can never be decided, or always come to the same, about what a server exposes, and masks of what is never there.
pub fn undecidable(rules: &[Rule], of: RulesOf, exposure: &Exposure<'_>) -> Vec<VainPart> {
    let mut left = MAX_PAIRS;
    let mut found = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        if let Some(why) = undecidable_when((rule, of), exposure, &mut left) {
            found.push(VainPart { index, field: "when".to_owned(), why });
        }
        let vain = masked_fields::impossible((rule, of), exposure, &mut left).into_iter();
        found.extend(vain.map(|(at, why)| VainPart { index, field: format!("fields[{at}]"), why }));
    }
    found
}

fn undecidable_when(
    (rule, of): (&Rule, RulesOf),
    exposure: &Exposure<'_>,
    left: &mut usize,
) -> Option<String> {
    let program = match rule.when.as_str() {
        "" => return None,
        text => Program::parse(text),
    };
    match program {
        Err(error) => Some(error.to_string()),
        Ok(program) if program.needs().arguments => trouble((rule, of), &program, exposure, left),
        Ok(_) => None,
    }
}

/// What is told of rules, and not refused: each names its rule.
pub(super) fn warnings(rules: &[Rule], exposure: &Exposure<'_>) -> Vec<String> {
    let mut left = MAX_PAIRS;
    let mut found = Vec::new();
    for rule in rules.iter().take(MAX_RULES) {
        let rule = (rule, RulesOf::Server);
        let optional = optional_argument(rule, exposure, &mut left);
        let told = optional.into_iter().chain(masked_fields::unlisted(rule, exposure, &mut left));
        found.extend(told.map(|text| format!("{}: {text}", rule.0.id)));
    }
    found.truncate(MAX_WARNINGS);
    found
}

/// The first argument that a rule reads as if it were always there, though it is not.
fn optional_argument(rule: (&Rule, RulesOf), exposure: &Exposure<'_>, left: &mut usize) -> Option<String> {
    let program = Program::parse(&rule.0.when).ok().filter(|program| program.needs().arguments)?;
    for exposed in exposure.entries.iter().filter(|exposed| reads_arguments_of(rule, exposed)) {
        *left = left.checked_sub(1)?;
        let shape = exposed.entry.arguments.as_deref();
        let Some(name) = shape.and_then(|shape| program.optional(shape)) else { continue };
        let whose = &exposed.exposed_name;
        return Some(format!(
            "args.{name} is optional in {whose}: a call without it is refused; write has(args.{name}) && …"
        ));
    }
    None
}

/// What is wrong about one thing that a rule covers, if one is enough for it, or about all of them.
fn trouble(
    rule: (&Rule, RulesOf),
    program: &Program,
    exposure: &Exposure<'_>,
    left: &mut usize,
) -> Option<String> {
    let mut common: Option<Vec<(Issue, String)>> = None;
    for exposed in exposure.entries.iter().filter(|exposed| reads_arguments_of(rule, exposed)) {
        *left = left.checked_sub(1)?;
        let anything = Shape::default();
        let issues = program.issues(exposed.entry.arguments.as_deref().unwrap_or(&anything));
        let whose = format!("{} {}", exposed.word(), exposed.exposed_name);
        if let Some(issue) = issues.iter().find(|issue| issue.is_for_each()) {
            return Some(program.error(issue, &whose).to_string());
        }
        common = Some(match common {
            None => issues.into_iter().map(|issue| (issue, whose.clone())).collect(),
            Some(mut common) => {
                common.retain(|(issue, _)| issues.iter().any(|other| other.stands_with(issue)));
                common
            }
        });
    }
    let common = common.unwrap_or_default();
    common.first().map(|(issue, whose)| program.error(issue, whose).to_string())
}

/// Whether a rule that reads arguments is about calls of something.
fn reads_arguments_of((rule, of): (&Rule, RulesOf), exposed: &Exposed<'_>) -> bool {
    let names = |method: &str| rule.methods.iter().any(|pattern| covers(pattern, method));
    let by_method = match exposed.kind {
        Kind::Tool => rule.methods.is_empty() || names(CALL),
        Kind::Prompt => names(GET),
        _ => false,
    };
    by_method && has(rule, of, exposed)
}

/// Whether a rule covers something.
pub(super) fn has(rule: &Rule, of: RulesOf, exposed: &Exposed<'_>) -> bool {
    let names = |pattern: &String| {
        glob::matches(pattern, &exposed.exposed_name) || (of == RulesOf::Team && names_own(pattern, exposed))
    };
    let is_about = exposed.kind == Kind::Tool || !is_of_calls(rule);
    is_about && (rule.tools.is_empty() || rule.tools.iter().any(names))
}

/// Whether a pattern is `{upstream}/{name}` of something that a server exposes.
fn names_own(pattern: &str, exposed: &Exposed<'_>) -> bool {
    let upstream = names::upstream_id(&exposed.entry.name).unwrap_or_default();
    let parts = Target::parse(pattern);
    parts.is_some_and(|of| glob::matches(of.upstream, upstream) && glob::matches(of.own, &exposed.entry.own))
}

/// Something that a server exposes, before and now.
pub type Renamed<'a> = (&'a Exposed<'a>, &'a Exposed<'a>);

/// The first rule of a team that was about something that one of its servers exposed, and is not about it under the name that it has now:
/// by its `tools`, or by the `tool.name` that its `when` compares. An error: that takes more steps than are left.
pub fn escaped<'a, 'b>(
    rules: &'a [Rule],
    renamed: &[Renamed<'b>],
    left: &mut Steps,
) -> Result<Option<(&'a Rule, Renamed<'b>)>, TooManySteps> {
    for rule in rules {
        let program = Program::parse(&rule.when).ok();
        let is_about = |exposed: &Exposed<'_>| {
            let names = || HashSet::from([exposed.exposed_name.as_str()]);
            let is_of_others = program.as_ref().is_some_and(|program| program.names_none_of(&names()));
            has(rule, RulesOf::Team, exposed) && !is_of_others
        };
        for &(before, now) in renamed {
            if !left.take(steps(rule, before).saturating_add(steps(rule, now))) {
                return Err(TooManySteps);
            }
            if is_about(before) && !is_about(now) {
                return Ok(Some((rule, (before, now))));
            }
        }
    }
    Ok(None)
}

/// Comparing takes more steps than are left.
#[derive(Debug, Clone, Copy)]
pub struct TooManySteps;

/// The steps of telling whether a rule is about something.
fn steps(rule: &Rule, exposed: &Exposed<'_>) -> usize {
    let bytes = exposed.exposed_name.len() + exposed.entry.own.len();
    let patterns: usize = rule.tools.iter().map(|pattern| glob::steps(pattern, bytes)).sum();
    patterns.saturating_add(rule.when.len())
}

/// The ids of rules whose `tools`, or `tool.name` in `when`, name nothing that a server exposes. What a template produces is not known.
///
/// They are told of and not refused: what an upstream has may come later.
pub(super) fn idle(rules: &[Rule], exposure: &Exposure<'_>) -> Vec<String> {
    let has_templates = exposure.entries.iter().any(|exposed| exposed.entry.template);
    let mut left = MAX_PAIRS;
    let is_idle = |rule: &&Rule| {
        let may_be_produced =
            has_templates && !is_of_calls(rule) && rule.tools.iter().any(|pattern| pattern.contains(':'));
        let by_tools = !rule.tools.is_empty()
            && !may_be_produced
            && !exposure.entries.iter().any(|exposed| has(rule, RulesOf::Server, exposed));
        by_tools || (!has_templates && names_nothing(rule, exposure, &mut left))
    };
    rules.iter().take(MAX_RULES).filter(is_idle).map(|rule| rule.id.clone()).collect()
}

/// Whether the expression of a rule is true of no name that it covers.
fn names_nothing(rule: &Rule, exposure: &Exposure<'_>, left: &mut usize) -> bool {
    let program = Program::parse(&rule.when).ok().filter(|program| program.needs().tool);
    let (Some(program), Some(rest)) = (program, left.checked_sub(exposure.entries.len())) else {
        return false;
    };
    *left = rest;
    let covered = exposure.entries.iter().filter(|exposed| has(rule, RulesOf::Server, exposed));
    program.names_none_of(&covered.map(|exposed| exposed.exposed_name.as_str()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(rules: &[Rule]) -> Vec<String> {
        let mut violations = Violations::default();
        validate(rules, &mut violations);
        let found = violations.into_vec().into_iter();
        found.map(|found| format!("{}: {}", found.field, found.description)).collect()
    }

    fn rule(id: &str, when: &str) -> Rule {
        Rule { id: id.into(), effect: RuleEffect::Deny.into(), when: when.into(), ..Rule::default() }
    }

    #[test]
    fn a_rule_that_edges_can_read_is_taken() {
        let full = Rule {
            tools: vec!["dev_*".into(), "file:///srv/*".into()],
            methods: vec!["tools/call".into(), "resources/*".into()],
            reason: "ask the owners".into(),
            ..rule("full", "tool.destructive && caller.kind != 'user'")
        };
        assert_eq!(violations(&[full, rule("short", ""), rule("args", "args.path == '/etc'")]), [""; 0]);
        let mask = Rule {
            effect: RuleEffect::Mask.into(),
            fields: vec!["email".into(), "customers.*.iban".into(), "**.token".into()],
            methods: vec!["tools/call".into()],
            ..rule("mask", "caller.kind == 'token'")
        };
        let approve = Rule { effect: RuleEffect::Approve.into(), ..rule("approve", "tool.destructive") };
        assert_eq!(violations(&[mask, approve]), [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_told_by_field_and_place() {
        let effect = |effect: i32| Rule { effect, ..rule("a", "") };
        let methods = |method: &str, when: &str| Rule { methods: vec![method.into()], ..rule("a", when) };
        let must = "rules[0].effect: must be `allow`, `deny`, `mask` or `approve`";
        let mask = |fields: &[&str]| Rule {
            effect: RuleEffect::Mask.into(),
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            ..rule("a", "")
        };
        let approve = |method: &str| Rule {
            effect: RuleEffect::Approve.into(),
            methods: vec![method.into()],
            ..rule("a", "")
        };
        for (rules, expected) in [
            (vec![rule("", "")], "rules[0].id: "),
            (vec![rule("No", "")], "rules[0].id: "),
            (vec![rule("a", ""), rule("a", "")], "rules[1].id: repeats `a`; each rule has its own"),
            (vec![effect(0)], must),
            (vec![effect(5)], must),
            (
                vec![mask(&[])],
                "rules[0].fields: must name what is masked, such as `email` or `customers.*.iban`",
            ),
            (vec![mask(&["a", "b", "a"])], "rules[0].fields[2]: repeats `a`"),
            (vec![mask(&["a", ".b"])], "rules[0].fields[1]: starts with `.`; "),
            (vec![mask(&["a."])], "rules[0].fields[0]: ends with `.`; "),
            (
                vec![mask(&["**"])],
                "rules[0].fields[0]: names no member; write which after it, such as `**.email`",
            ),
            (vec![mask(&[&"x".repeat(257)])], "rules[0].fields[0]: has 257 bytes; the maximum is 256"),
            (
                vec![Rule { fields: vec!["email".into()], ..rule("a", "") }],
                "rules[0].fields: are of a rule with the effect `mask`; leave them out",
            ),
            (
                vec![Rule { methods: vec!["tools/*".into()], ..mask(&["a"]) }],
                "rules[0].methods[0]: tools/* is more than a mask or an approval is about; write tools/call, or none",
            ),
            (vec![approve("prompts/get")], "rules[0].methods[0]: prompts/get is more than "),
            (
                vec![Rule { when: "method == 'prompts/get'".into(), methods: vec![], ..approve("") }],
                "rules[0].when: line 1, column 8: this is always false: it is \"tools/call\"",
            ),
            (
                vec![rule("a", ""), rule("b", "true &&\n args.x = 1")],
                "rules[1].when: line 2, column 9: = is no operator; write ==",
            ),
            (vec![rule("a", &" ".repeat(4_097))], "rules[0].when: has 4097 bytes; the maximum is 4096"),
            (vec![methods("tools/cal", "")], "rules[0].methods[0]: "),
            (
                vec![methods("tools/list", "")],
                "rules[0].methods[0]: tools/list names nothing that a rule could be about; write tools/call",
            ),
            (
                vec![methods("resources/*", "args.x == 1")],
                "rules[0].methods[0]: resources/* has no arguments, which `when` reads; write tools/call or prompts/get",
            ),
            (
                vec![rule("a", "tool.read_only ||\n caller.name == 'users/bob@example.org'")],
                "rules[0].when: line 2, column 14: this is always false: the name of who calls has no /; write \"bob@example.org\"",
            ),
            (
                vec![rule("a", "method == 'tool/call'")],
                "rules[0].when: line 1, column 8: this is always false: it is one of \"tools/call\", \"prompts/get\", ",
            ),
            (
                vec![methods("prompts/*", "method == 'tools/call'")],
                "rules[0].when: line 1, column 8: this is always false: it is \"prompts/get\"",
            ),
            (
                vec![rule("a", "args.x == 1 && method == 'prompts/get'")],
                "rules[0].when: line 1, column 23: this is always false: it is \"tools/call\"",
            ),
            (vec![rule("a", "false")], "rules[0].when: line 1, column 1: this is always false, "),
            (
                vec![Rule { tools: vec![String::new()], ..rule("a", "") }],
                "rules[0].tools[0]: is empty; write `*` for everything",
            ),
            (
                vec![Rule { reason: "a\nb".into(), ..rule("a", "") }],
                "rules[0].reason: must have no control characters",
            ),
            (
                vec![Rule { reason: "x".repeat(201), ..rule("a", "") }],
                "rules[0].reason: has 201 characters; the maximum is 200",
            ),
        ] {
            let found = violations(&rules);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}, and not {expected}");
        }
        let fields = (0..65).map(|nth| format!("f{nth}")).collect();
        let found = violations(&[Rule { fields, ..mask(&[]) }]);
        assert_eq!(found, ["rules[0].fields: has 65 entries; the maximum is 64"]);
        let many: Vec<_> = (0..65).map(|nth| rule(&format!("r{nth}"), "")).collect();
        assert_eq!(violations(&many), ["rules: has 65 rules; the maximum is 64"]);
    }

    /// What a request had read before its turn to write is not read in it.
    #[test]
    fn rules_that_were_read_are_not_read_again() {
        let rules = [rule("read-once", "args.once == 'only'")];
        let wrong = || {
            let mut violations = Violations::default();
            violations.add("rules", "is read");
            violations
        };
        let key = key("dev", &rules);
        assert_eq!(ReadRules::lately(key, wrong), wrong());
        assert_eq!(ReadRules::lately(key, || panic!("they are read again")), wrong());
        let mut violations = Violations::default();
        validate_of("dev", &rules, &mut violations);
        assert_eq!(violations, wrong(), "and so they are known in the whole program");
        validate_of("other", &rules, &mut violations);
        assert_eq!(violations, wrong(), "those of another server are others");
        let mut read = ReadRules::default();
        for number in 0..2 * MAX_READ as u64 {
            read.keep(number, &wrong());
            assert!(read.known.len() <= MAX_READ / 2 + 1);
        }
    }

    #[test]
    fn a_rule_of_a_server_is_about_that_server() {
        for (server, when, expected) in [
            ("servers/files", "server == 'filez'", "line 1, column 8: this is always false: it is \"files\""),
            ("servers/files", "server != 'filez'", "line 1, column 8: this is always true: it is \"files\""),
            ("servers/files", "server == 'files'", ""),
            ("", "server == 'filez'", ""),
        ] {
            let mut violations = Violations::default();
            validate_of(server, &[rule("a", when)], &mut violations);
            let found = violations.into_vec().pop().map(|found| found.description).unwrap_or_default();
            assert_eq!(found, expected, "{server} {when}");
        }
    }
}
