//! What the rules of a server come to for a request. It must not know how an edge keeps what it found out.

use std::sync::Arc;

use super::eval::Work;
use super::facts::{Fact, Facts, Target};
use super::fields::FieldPath;
use super::program::{Needs, Program, Unevaluable};
use crate::targets::without_ignored;

/// A rule, as people wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Names it: `servers/{server}/rules/{rule}` or `teams/{team}/rules/{rule}`.
    pub id: String,
    /// What it does where it is true.
    pub effect: Effect,
    /// What it covers: exposed names, URIs and URI templates; of a team also `{upstream}/{name}`. Empty: all.
    pub tools: Vec<String>,
    /// The methods that it covers. Empty: all; of a rule that reads `args`, `tools/call`.
    pub methods: Vec<String>,
    /// When it is true. Empty: always.
    pub when: String,
    /// What callers are told whom it refuses, and those who are asked to approve.
    pub reason: String,
    /// Of a mask: paths of the members of results that it takes away.
    pub fields: Vec<String>,
}

impl Rule {
    /// Whether it is a rule of a team, which is about servers that others write: see [`super::OwnFacts`].
    #[must_use]
    pub fn is_of_team(&self) -> bool {
        self.id.starts_with("teams/")
    }
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
    /// The call is made, and its result is shown without some members.
    Mask,
    /// The call is held back until somebody approves it.
    Approve,
}

impl Effect {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Mask => "mask",
            Self::Approve => "approve",
            Self::Unknown => "refuse",
        }
    }
}

/// What a rule takes away from results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// The id of the rule.
    pub rule: Box<str>,
    /// The members whose values are taken away.
    pub fields: Vec<FieldPath>,
}

/// What goes with a call that is not refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obligations<'a> {
    /// The first rule that holds it back until somebody approves it.
    pub approval: Option<&'a Rule>,
    /// What is taken away from its result.
    pub masks: Vec<&'a Arc<Mask>>,
    /// Whether some of them are there because they may be true: that depends on a fact that is known later.
    pub is_open: bool,
}

/// Rules that are ready to decide. Equal rules were written equally.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(Arc<[Ready]>);

#[derive(Debug, Clone)]
struct Ready {
    rule: Rule,
    /// `None`: always true. An error: it refuses what it covers.
    when: Option<Result<Program, String>>,
    /// What it takes away. `None`: it is no mask.
    mask: Option<Arc<Mask>>,
}

/// What rules come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// They allow it, with what goes with it.
    Allowed(Obligations<'a>),
    /// Whether they refuse it depends on a fact that is known later. Where they do not, this goes with it.
    Depends(Obligations<'a>),
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
    /// It does not refuse the request, and nothing goes with it.
    Passes,
    /// It is true, and so masks the result, or holds the call back.
    Obliges,
    /// It refuses it, or does not allow it.
    Refuses,
    /// That depends on a fact that is known later.
    Open,
    /// It cannot be decided, and so refuses it.
    Undecidable(Unevaluable),
}

/// What a rule that covers a request comes to.
type Truth = Option<Result<bool, Unevaluable>>;

/// The patterns that are compared, and the bytes of an expression that are evaluated, in the time of a decision without rules.
const PATTERNS_A_DECISION: usize = 16;
const BYTES_A_DECISION: usize = 128;

/// What a rule is about that reads arguments and names no method, and what all are about that mask or hold back.
const CALL: &str = "tools/call";

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

    /// The others than those that hold calls back.
    #[must_use]
    pub fn approved(&self) -> Self {
        Self(self.0.iter().filter(|ready| ready.effect() != Effect::Approve).cloned().collect())
    }

    /// What they depend on, all together.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let programs = self.0.iter().filter_map(|ready| ready.when.as_ref()?.as_ref().ok());
        programs.fold(Needs::default(), |all, program| all.or(program.needs()))
    }

    /// What the one at this place depends on.
    pub(crate) fn needs_of(&self, at: usize) -> Needs {
        let program = self.0.get(at).and_then(|ready| ready.when.as_ref()?.as_ref().ok());
        program.map(Program::needs).unwrap_or_default()
    }

    /// What it takes to decide by them, in decisions without rules.
    #[must_use]
    pub fn cost(&self) -> usize {
        let of_one =
            |rule: &Rule| 1 + rule.tools.len() / PATTERNS_A_DECISION + rule.when.len() / BYTES_A_DECISION;
        self.iter().map(of_one).sum()
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
            let outcome = match (coverage, ready.truth(facts, &mut work), ready.effect()) {
                (Coverage::Later, ..) | (_, None, _) => Outcome::Open,
                (_, Some(Err(why)), _) => Outcome::Undecidable(why),
                (_, Some(Ok(true)), Effect::Mask | Effect::Approve) => Outcome::Obliges,
                (_, Some(Ok(true)), Effect::Deny | Effect::Unknown) => Outcome::Refuses,
                (Coverage::Fully, Some(Ok(true)), Effect::Allow) => Outcome::Passes,
                (_, Some(Ok(_)), Effect::Allow) => Outcome::Refuses,
                (_, Some(Ok(false)), _) => Outcome::Passes,
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
    /// What goes with it where nothing refuses it.
    obligations: Obligations<'a>,
}

impl<'a> Tally<'a> {
    fn count(&mut self, ready: &'a Ready, at: usize, coverage: Coverage, truth: Truth) {
        let refusal = |error| Refusal { rule: &ready.rule, at, error };
        let is_certain = coverage != Coverage::Later;
        match (ready.effect(), truth) {
            (Effect::Allow, Some(Ok(true))) if coverage == Coverage::Fully => self.allowed = true,
            (Effect::Allow, Some(found)) if is_certain => self.miss(refusal(found.err())),
            (Effect::Allow, _) => self.may_allow = true,
            (_, Some(Ok(false))) => {}
            (_, Some(Err(error))) if is_certain => {
                self.undecided = self.undecided.or(Some(refusal(Some(error))));
            }
            (Effect::Mask | Effect::Approve, Some(Ok(_)) | None) => {
                self.oblige(ready, !is_certain || truth.is_none());
            }
            (_, Some(Ok(true))) if is_certain => self.denied = self.denied.or(Some(refusal(None))),
            (_, _) => self.may_deny = true,
        }
    }

    fn oblige(&mut self, ready: &'a Ready, is_open: bool) {
        self.obligations.is_open |= is_open;
        match &ready.mask {
            Some(mask) => self.obligations.masks.push(mask),
            None => self.obligations.approval = self.obligations.approval.or(Some(&ready.rule)),
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
            None if self.may_deny || (self.may_allow && !self.allowed) => Verdict::Depends(self.obligations),
            None => Verdict::Allowed(self.obligations),
        }
    }
}

impl Obligations<'_> {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.approval.is_none() && self.masks.is_empty()
    }
}

impl Mask {
    fn of(rule: &Rule) -> Result<Arc<Self>, String> {
        if rule.fields.is_empty() {
            return Err("it masks no field".to_owned());
        }
        let read = |(at, text): (usize, &String)| {
            FieldPath::parse(text).map_err(|error| format!("fields[{at}] {error}"))
        };
        let fields = rule.fields.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(Arc::new(Self { rule: rule.id.as_str().into(), fields }))
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
        let mask = (rule.effect == Effect::Mask).then(|| Mask::of(&rule)).transpose();
        let when = match (rule.effect, rule.when.as_str(), &mask) {
            (Effect::Unknown, ..) => Some(Err("its effect is not known".to_owned())),
            (.., Err(why)) => Some(Err(why.clone())),
            (_, "", _) => None,
            (_, when, _) => Some(Program::parse(when).map_err(|error| error.to_string())),
        };
        Self { rule, when, mask: mask.ok().flatten() }
    }

    /// What it does where it is true. One that cannot be read refuses.
    fn effect(&self) -> Effect {
        if matches!(self.when, Some(Err(_))) { Effect::Unknown } else { self.rule.effect }
    }

    fn truth<'a>(&'a self, facts: &Facts<'a>, work: &mut Work<'a>) -> Truth {
        match &self.when {
            None => Some(Ok(true)),
            Some(Ok(program)) if self.rule.is_of_team() => program.run_within(&facts.for_team(), work),
            Some(Ok(program)) => program.run_within(facts, work),
            Some(Err(_)) => Some(Err(UNREADABLE)),
        }
    }

    fn coverage(&self, facts: &Facts<'_>) -> Coverage {
        match (self.covers(facts.method), self.rule.tools.as_slice()) {
            (false, _) => Coverage::No,
            (true, []) => Coverage::Fully,
            (true, patterns) => {
                let by_name = patterns.iter().map(|pattern| coverage(pattern, &facts.target));
                let own = patterns.iter().filter(|_| self.rule.is_of_team());
                let by_own = own.map(|pattern| own_coverage(pattern, &facts.target));
                by_name.chain(by_own).max().unwrap_or(Coverage::No)
            }
        }
    }

    fn covers(&self, method: &str) -> bool {
        let reads = matches!(&self.when, Some(Ok(program)) if program.needs().arguments);
        let is_of_results = matches!(self.rule.effect, Effect::Mask | Effect::Approve);
        match self.rule.methods.as_slice() {
            _ if is_of_results && method != CALL => false,
            [] => !reads || method == CALL,
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

/// Whether a pattern is about a target by what its upstream knows it by, `{upstream}/{name}`: whatever a server exposes it as.
fn own_coverage(pattern: &str, target: &Target<'_>) -> Coverage {
    match pattern.split_once('/') {
        Some((upstream, own)) if glob::matches(upstream, target.upstream) => {
            coverage(own, &target.by_own_names())
        }
        _ => Coverage::No,
    }
}

/// Of a rule that cannot be read.
const UNREADABLE: Unevaluable = Unevaluable("it cannot be read");
