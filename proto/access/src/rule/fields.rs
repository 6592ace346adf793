//! Paths to members of JSON whose values a mask takes away: `email`, `customers.*.iban`, `**.token`. It must not know JSON.

use std::fmt;

use super::shape::{Kinds, Shape};

/// A path to members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    text: Box<str>,
    steps: Box<[Step]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The member of this name.
    Name(Box<str>),
    /// `*`: every member or item.
    Each,
    /// `**`: any number of them, none as well.
    Deep,
}

/// How far a path has led: the steps of it that may be next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached(u64);

/// Why a text is no path, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FieldPathError(String);

/// Steps of a path at most. One bit of `Reached` is needed for what comes after the last.
const MAX_STEPS: usize = 32;

impl FieldPath {
    /// Reads a path.
    ///
    /// # Errors
    /// With what is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, FieldPathError> {
        let names: Vec<&str> = text.split('.').collect();
        if let Some(wrong) = misspelled(text, &names) {
            return Err(FieldPathError(wrong));
        }
        let steps = names.into_iter().map(|name| match name {
            "*" => Step::Each,
            "**" => Step::Deep,
            name => Step::Name(name.into()),
        });
        Ok(Self { text: text.into(), steps: steps.collect() })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How many names and stars it has.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.steps.len()
    }

    /// Where it begins: at a whole value.
    #[must_use]
    pub fn start(&self) -> Reached {
        self.with_deep(1)
    }

    /// Where it leads from there into a member of this name, or, without one, into an item of a list.
    #[must_use]
    pub fn enter(&self, from: Reached, name: Option<&str>) -> Reached {
        let next =
            self.steps.iter().enumerate().filter(|(at, _)| from.0 >> at & 1 == 1).map(
                |(at, step)| match step {
                    Step::Deep => 1 << at,
                    Step::Each => 2 << at,
                    Step::Name(own) if Some(&**own) == name => 2 << at,
                    Step::Name(_) => 0,
                },
            );
        self.with_deep(next.fold(0, |all, bit| all | bit))
    }

    /// Whether it ends there, so that the value is taken away.
    #[must_use]
    pub fn ends(&self, at: Reached) -> bool {
        at.0 >> self.steps.len() & 1 == 1
    }

    /// Whether a value of this shape may have a member at its end.
    #[must_use]
    pub fn may_lead_into(&self, shape: &Shape) -> bool {
        self.leads_within(self.start(), shape)
    }

    fn leads_within(&self, at: Reached, shape: &Shape) -> bool {
        let in_member = |(name, member): (&String, &Shape)| {
            let at = self.enter(at, Some(name));
            self.ends(at) || (!at.is_nowhere() && self.leads_within(at, member))
        };
        let may_be = |kinds: Kinds| !shape.kinds.and(kinds).is_empty();
        let by_member =
            may_be(Kinds::MAP) && shape.members.as_ref().is_none_or(|members| members.iter().any(in_member));
        let item = self.enter(at, None);
        let by_item = may_be(Kinds::LIST)
            && !item.is_nowhere()
            && (self.ends(item) || shape.items.as_ref().is_none_or(|items| self.leads_within(item, items)));
        by_member || by_item
    }

    /// A `**` may be none: where one is next, so is what follows it.
    fn with_deep(&self, mut bits: u64) -> Reached {
        for (at, step) in self.steps.iter().enumerate() {
            if *step == Step::Deep && bits >> at & 1 == 1 {
                bits |= 2 << at;
            }
        }
        Reached(bits)
    }
}

impl Reached {
    /// Whether it leads nowhere from here.
    #[must_use]
    pub const fn is_nowhere(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn misspelled(text: &str, names: &[&str]) -> Option<String> {
    if text.is_empty() {
        return Some("is empty; write the name of a member, such as `email`".to_owned());
    }
    if names.len() > MAX_STEPS {
        return Some(format!("has {} names; the maximum is {MAX_STEPS}", names.len()));
    }
    let position = |name: &&str| name.is_empty();
    match names.iter().position(position) {
        Some(0) => return Some("starts with `.`; write names with one `.` between them".to_owned()),
        Some(at) if at + 1 == names.len() => {
            return Some("ends with `.`; write names with one `.` between them".to_owned());
        }
        Some(_) => return Some("has two `.` with nothing between them; for any depth write `**`".to_owned()),
        None => {}
    }
    if names.iter().all(|name| *name == "**") {
        return Some("names no member; write which after it, such as `**.email`".to_owned());
    }
    if names.windows(2).any(|pair| pair == ["**", "**"]) {
        return Some("has `**` after `**`; one is enough".to_owned());
    }
    if names.last() == Some(&"**") {
        let before = text.trim_end_matches(".**");
        return Some(format!("ends with `**`; write `{before}`, which takes away all that is in it"));
    }
    names.iter().enumerate().find_map(|(at, name)| strange(at, name))
}

/// What is wrong with one name.
fn strange(at: usize, name: &str) -> Option<String> {
    match name {
        "*" | "**" => None,
        "$" if at == 0 => {
            Some("starts with `$`; write the names of members alone, such as `email`".to_owned())
        }
        _ if name.contains('*') => Some("has `*` within a name; it stands for a whole name".to_owned()),
        _ if name.contains(['[', ']']) => {
            Some("has brackets; write `*` for every item, such as `customers.*.iban`".to_owned())
        }
        _ if name.contains(char::is_control) => Some("must have no control characters".to_owned()),
        _ if name.trim() != name => Some("has spaces around a name".to_owned()),
        _ => None,
    }
}
