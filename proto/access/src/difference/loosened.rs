//! Which rules bind somebody no more, or less, than before. What cannot be told to bind as much is said to be another. Pure.

use crate::rule::{Effect, Rule, Rules};

/// A rule that binds somebody at something, or may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    id: String,
    effect: Effect,
    when: String,
    fields: Vec<String>,
}

/// A rule that is loosened, what it did, and whether it is still there.
type Loosened = (String, &'static str, bool);

impl Binding {
    /// Those at these places among the rules of a server.
    pub(super) fn at(rules: &Rules, places: &[usize]) -> Vec<Self> {
        let binding = rules.iter().enumerate().filter(|(at, _)| places.contains(at));
        binding.map(|(_, rule)| Self::of(rule)).collect()
    }

    fn of(rule: &Rule) -> Self {
        let Rule { id, effect, when, fields, .. } = rule.clone();
        Self { id, effect, when, fields }
    }

    /// Whether nothing is free by it that the other binds.
    fn binds_as_much_as(&self, other: &Self) -> bool {
        let is_as_often = self.when == other.when || (self.when.is_empty() && self.effect != Effect::Allow);
        let has_all = other.fields.iter().all(|field| self.fields.contains(field));
        self.effect == other.effect && is_as_often && has_all
    }

    fn is_allow(&self) -> bool {
        self.effect == Effect::Allow
    }
}

/// The rules of before that bind less.
pub(super) fn loosened<'a>(
    before: &'a [Binding],
    after: &'a [Binding],
) -> impl Iterator<Item = Loosened> + 'a {
    before.iter().filter_map(|rule| {
        let is_changed = match after.iter().any(|other| other.binds_as_much_as(rule)) {
            true => return None,
            false => after.iter().any(|other| other.id == rule.id && other.effect == rule.effect),
        };
        // Where another must be true, one less gives nothing; and what another gives is told by its name.
        let needs_another = rule.is_allow() && !is_changed && after.iter().any(Binding::is_allow);
        (!needs_another).then(|| (rule.id.clone(), rule.effect.as_str(), is_changed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, effect: Effect, when: &str, fields: &[&str]) -> Binding {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        Binding { id: id.to_owned(), effect, when: when.to_owned(), fields }
    }

    /// What is told where these rules of before are these, such as `-a`, or `~a` where it is another.
    fn told(before: &[Binding], after: &[Binding]) -> String {
        let words = loosened(before, after).map(|(id, effect, is_changed)| {
            let sign = if is_changed { '~' } else { '-' };
            format!("{sign}{id} {effect}")
        });
        words.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_binds_less_is_told_and_what_binds_more_is_not() {
        let deny = |id: &str, when: &str| rule(id, Effect::Deny, when, &[]);
        let approve = |id: &str, when: &str| rule(id, Effect::Approve, when, &[]);
        let mask = |fields: &[&str]| rule("m", Effect::Mask, "", fields);
        let allow = |id: &str, when: &str| rule(id, Effect::Allow, when, &[]);
        for (before, after, expected) in [
            (vec![deny("a", "x")], vec![], "-a deny"),
            (vec![approve("a", "")], vec![], "-a approve"),
            (vec![mask(&["email"])], vec![], "-m mask"),
            (vec![allow("a", "x")], vec![], "-a allow"),
            (vec![deny("a", "x")], vec![deny("a", "y")], "~a deny"),
            (vec![approve("a", "")], vec![approve("a", "x")], "~a approve"),
            (vec![mask(&["email", "name"])], vec![mask(&["email"])], "~m mask"),
            (vec![allow("a", "x")], vec![allow("a", "y")], "~a allow"),
            (vec![deny("a", "x")], vec![approve("a", "x")], "-a deny"),
            // As much, or more.
            (vec![deny("a", "x")], vec![deny("b", "x")], ""),
            (vec![approve("a", "x")], vec![approve("a", "")], ""),
            (vec![mask(&["email"])], vec![mask(&["email", "name"])], ""),
            (vec![], vec![deny("a", "x")], ""),
            (vec![allow("a", "x"), allow("b", "y")], vec![allow("b", "y")], ""),
        ] {
            assert_eq!(told(&before, &after), expected, "{before:?} {after:?}");
        }
    }
}
