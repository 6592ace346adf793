//! Masks and what the tools that they cover can return, as far as their output schemas say so: what is never there cannot be masked.
//!
//! It must not know how schemas are read, nor what else rules say.

use access::rule::{FieldPath, Shape};
use trunkline::policy::v1::{Rule, RuleEffect};

use super::argument_shape::Results;
use super::members::Exposure;
use super::rule::{RulesOf, has};

/// Members that are told of at most.
const MAX_NAMES: usize = 12;

/// The fields of a mask that no result of what it covers can have: each with where it stands, and why.
pub(super) fn impossible(
    rule: (&Rule, RulesOf),
    exposure: &Exposure<'_>,
    left: &mut usize,
) -> Vec<(usize, String)> {
    let found = absent(rule, exposure, |results| &results.possible, left).into_iter();
    found.map(|(at, first)| (at, format!("no result of what it covers has it; {first}"))).collect()
}

/// What is told of fields that no output schema of what a mask covers lists, though a result may have them.
pub(super) fn unlisted(rule: (&Rule, RulesOf), exposure: &Exposure<'_>, left: &mut usize) -> Vec<String> {
    let known = absent(rule, exposure, |results| &results.possible, left);
    let mut found = absent(rule, exposure, |results| &results.listed, left);
    found.retain(|(at, _)| known.iter().all(|(other, _)| other != at));
    let told = |(at, first): (usize, String)| {
        format!("no output schema of what it covers lists `{}`; {first}", rule.0.fields[at])
    };
    found.into_iter().map(told).collect()
}

/// The fields of a mask that lead nowhere in the results of all that it covers, each with what the first of them has. Where one says
/// nothing of its results, they may have anything.
fn absent(
    (rule, of): (&Rule, RulesOf),
    exposure: &Exposure<'_>,
    shape: impl Fn(&Results) -> &Shape,
    left: &mut usize,
) -> Vec<(usize, String)> {
    if rule.effect() != RuleEffect::Mask {
        return Vec::new();
    }
    let covered = || exposure.entries.iter().filter(|exposed| has(rule, of, exposed));
    let steps = covered().count() * rule.fields.len();
    let Some(rest) = left.checked_sub(steps) else { return Vec::new() };
    *left = rest;
    let shapes: Option<Vec<&Shape>> =
        covered().map(|exposed| exposed.entry.results.as_deref().map(&shape)).collect();
    let (Some(shapes), Some(first)) = (shapes, covered().next()) else { return Vec::new() };
    let leads = |path: &FieldPath| shapes.iter().any(|shape| path.may_lead_into(shape));
    let paths =
        rule.fields.iter().enumerate().filter_map(|(at, text)| Some((at, FieldPath::parse(text).ok()?)));
    let known = shapes.first().map(|shape| names(shape)).unwrap_or_default();
    let told = format!("{} {} has {known}", first.word(), first.exposed_name);
    paths.filter(|(_, path)| !leads(path)).map(|(at, _)| (at, told.clone())).collect()
}

/// The members of a result, for people.
fn names(shape: &Shape) -> String {
    let members = shape.members.iter().flat_map(|members| members.keys());
    let names: Vec<_> = members.take(MAX_NAMES).map(String::as_str).collect();
    if names.is_empty() { "no members".to_owned() } else { names.join(", ") }
}
