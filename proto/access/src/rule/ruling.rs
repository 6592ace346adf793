//! What the rules of a server come to for a request. It must not know how an edge keeps what it found out.

use std::sync::Arc;

use super::eval::Work;
use super::facts::{Fact, Facts, Target};
use super::program::{Needs, Program, Unevaluable};
use crate::targets::without_ignored;

/// A rule, as people wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Names it.
    pub id: String,
    /// What it does where it is true.
    pub effect: Effect,
    /// What it covers: exposed names, URIs and URI templates. Empty: all.
    pub tools: Vec<String>,
    /// The methods that it covers. Empty: all; of a rule that reads `args`, `tools/call`.
    pub methods: Vec<String>,
    /// When it is true. Empty: always.
    pub when: String,
    /// What callers are told whom it refuses.
    pub reason: String,
}

/// What a rule does where it is true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Effect {
    /// Nobody knows: what it covers is refused.
    #[default]
    Unknown,
    /// Of the rules with this effect that cover a request, one must be true.
    Allow,
    /// The request is refused.
    Deny,
}

/// Rules that are ready to decide. Equal rules were written equally.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(Arc<[Ready]>);

#[derive(Debug, Clone)]
struct Ready {
    rule: Rule,
    /// `None`: always true. An error: it refuses what it covers.
    when: Option<Result<Program, String>>,
}

/// What rules come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// They allow it.
    Allowed,
    /// That depends on a fact that is known later.
    Depends,
    /// They refuse it.
    Denied(Refusal<'a>),
}

/// What refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The rule. Where no `allow` is true: the first that covers the request.
    pub rule: &'a Rule,
    /// Where that rule stands among all.
    pub at: usize,
    /// Why it could not be decided. `None`: it was, `denied_by_rule`; otherwise it is a `policy_error`.
    pub error: Option<Unevaluable>,
}

/// Whether a rule covers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Coverage {
    No,
    /// It may be what the rule is about: enough to refuse, not to allow.
    Loosely,
    /// That depends on what a template produces.
    Later,
    Fully,
}

/// What one rule comes to for a request that it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It does not refuse the request.
    Passes,
    /// It refuses it, or does not allow it.
    Refuses,
    /// That depends on a fact that is known later.
    Open,
    /// It cannot be decided, and so refuses it.
    Undecidable(Unevaluable),
}

/// What a rule that covers a request comes to.
type Truth = Option<Result<bool, Unevaluable>>;

/// What a rule is about that reads arguments and names no method.
const WITH_ARGUMENTS: &str = "tools/call";

impl Rules {
    /// Makes rules ready. One that cannot be read refuses what it covers.
    #[must_use]
    pub fn compile(rules: &[Rule]) -> Self {
        Self(rules.iter().cloned().map(Ready::new).collect())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, as they were written.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter().map(|ready| &ready.rule)
    }

    /// The others than the one of this id.
    #[must_use]
    pub fn without(&self, id: &str) -> Self {
        Self(self.0.iter().filter(|ready| ready.rule.id != id).cloned().collect())
    }

    /// What they depend on, all together.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let programs = self.0.iter().filter_map(|ready| ready.when.as_ref()?.as_ref().ok());
        programs.fold(Needs::default(), |all, program| all.or(program.needs()))
    }

    /// Those that cannot be read, each with why.
    pub fn unusable(&self) -> impl Iterator<Item = (&Rule, &str)> {
        self.0.iter().filter_map(|ready| match &ready.when {
            Some(Err(why)) => Some((&ready.rule, why.as_str())),
            _ => None,
        })
    }

    /// What they come to for a request, or, where facts are known later, for all requests that are like it in the rest.
    #[must_use]
    pub fn decide(&self, facts: &Facts<'_>) -> Verdict<'_> {
        let (mut tally, mut work) = (Tally::default(), Work::default());
        for (at, ready) in self.0.iter().enumerate() {
            let coverage = ready.coverage(facts);
            if coverage != Coverage::No {
                tally.count(ready, at, coverage, ready.truth(facts, &mut work));
            }
        }
        tally.verdict()
    }

    /// What each that covers a request comes to, by where it stands among all.
    pub fn outcomes(&self, facts: &Facts<'_>) -> Vec<(usize, &Rule, Outcome)> {
        let mut work = Work::default();
        let covering = self.0.iter().enumerate().filter_map(|(at, ready)| {
            let coverage = Some(ready.coverage(facts)).filter(|coverage| *coverage != Coverage::No)?;
            let outcome = match (coverage, ready.truth(facts, &mut work), ready.refuses()) {
                (Coverage::Later, ..) | (_, None, _) => Outcome::Open,
                (_, Some(Err(why)), _) => Outcome::Undecidable(why),
                (_, Some(Ok(true)), true) | (_, Some(Ok(false)), false) => Outcome::Refuses,
                (Coverage::Loosely, _, false) => Outcome::Refuses,
                _ => Outcome::Passes,
            };
            Some((at, &ready.rule, outcome))
        });
        covering.collect()
    }
}

/// What was found of rules so far.
#[derive(Debug, Default)]
struct Tally<'a> {
    /// A `deny` is true.
    denied: Option<Refusal<'a>>,
    /// A `deny` cannot be decided.
    undecided: Option<Refusal<'a>>,
    /// A `deny` may be true.
    may_deny: bool,
    /// An `allow` is true.
    allowed: bool,
    /// An `allow` may be true, or may not cover the request.
    may_allow: bool,
    /// An `allow` covers the request and is not true; one that cannot be decided before others.
    missing: Option<Refusal<'a>>,
}

impl<'a> Tally<'a> {
    fn count(&mut self, ready: &'a Ready, at: usize, coverage: Coverage, truth: Truth) {
        let refusal = |error| Refusal { rule: &ready.rule, at, error };
        let is_certain = coverage != Coverage::Later;
        match (ready.refuses(), truth) {
            (true, Some(Ok(false))) => {}
            (true, Some(Ok(true))) if is_certain => self.denied = self.denied.or(Some(refusal(None))),
            (true, Some(Err(error))) if is_certain => {
                self.undecided = self.undecided.or(Some(refusal(Some(error))));
            }
            (true, _) => self.may_deny = true,
            (false, Some(Ok(true))) if coverage == Coverage::Fully => self.allowed = true,
            (false, Some(found)) if is_certain => self.miss(refusal(found.err())),
            (false, _) => self.may_allow = true,
        }
    }

    fn miss(&mut self, refusal: Refusal<'a>) {
        let worse = |first: &Refusal<'_>| first.error.is_none() && refusal.error.is_some();
        if self.missing.as_ref().is_none_or(worse) {
            self.missing = Some(refusal);
        }
    }

    fn verdict(self) -> Verdict<'a> {
        let missing = self.missing.filter(|_| !self.allowed && !self.may_allow);
        match self.denied.or(self.undecided).or(missing) {
            Some(refusal) => Verdict::Denied(refusal),
            None if self.may_deny || (self.may_allow && !self.allowed) => Verdict::Depends,
            None => Verdict::Allowed,
        }
    }
}

impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        self.rule == other.rule
    }
}

impl Eq for Ready {}

impl Ready {
    fn new(rule: Rule) -> Self {
        let when = match (rule.effect, rule.when.as_str()) {
            (Effect::Unknown, _) => Some(Err("its effect is not known".to_owned())),
            (_, "") => None,
            (_, when) => Some(Program::parse(when).map_err(|error| error.to_string())),
        };
        Self { rule, when }
    }

    fn refuses(&self) -> bool {
        self.rule.effect != Effect::Allow || matches!(self.when, Some(Err(_)))
    }

    fn truth<'a>(&'a self, facts: &Facts<'a>, work: &mut Work<'a>) -> Truth {
        match &self.when {
            None => Some(Ok(true)),
            Some(Ok(program)) => program.run_within(facts, work),
            Some(Err(_)) => Some(Err(UNREADABLE)),
        }
    }

    fn coverage(&self, facts: &Facts<'_>) -> Coverage {
        match (self.covers(facts.method), self.rule.tools.as_slice()) {
            (false, _) => Coverage::No,
            (true, []) => Coverage::Fully,
            (true, patterns) => {
                let found = patterns.iter().map(|pattern| coverage(pattern, &facts.target));
                found.max().unwrap_or(Coverage::No)
            }
        }
    }

    fn covers(&self, method: &str) -> bool {
        let reads = matches!(&self.when, Some(Ok(program)) if program.needs().arguments);
        match self.rule.methods.as_slice() {
            [] => !reads || method == WITH_ARGUMENTS,
            patterns => patterns.iter().any(|pattern| glob::matches(pattern, method)),
        }
    }
}

/// Whether a pattern is about a target.
fn coverage(pattern: &str, target: &Target<'_>) -> Coverage {
    let names = [Some(target.name), target.former];
    let by_name = names.into_iter().flatten().any(|name| glob::matches(pattern, name));
    let led_out = target.leads_out && pattern != "*" && glob::is_pattern(pattern);
    let by_uri = match target.produced {
        _ if by_name && !led_out => Coverage::Fully,
        Fact::Is(uri) => match [uri, without_ignored(pattern, uri)].map(|uri| glob::matches(pattern, uri)) {
            [true, true] => Coverage::Fully,
            [false, false] => Coverage::No,
            _ => Coverage::Loosely,
        },
        Fact::Later => Coverage::Later,
        Fact::Absent => Coverage::No,
    };
    if by_name { by_uri.max(Coverage::Loosely) } else { by_uri }
}

/// Of a rule that cannot be read.
const UNREADABLE: Unevaluable = Unevaluable("it cannot be read");
