//! What of the rights in force could not be evaluated, and so denies. It must not know how it is reported.

use std::collections::BTreeMap;

use trunkline::edge::v1::StreamType;

/// A part of a resource that cannot be evaluated, and so denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusablePolicy {
    /// The resource.
    pub name: Box<str>,
    /// Which part of it, and why.
    pub problem: String,
}

/// The resources of which a part cannot be evaluated.
#[derive(Debug, Default)]
pub(super) struct Unusable {
    known: BTreeMap<(StreamType, Box<str>), Vec<String>>,
    told: BTreeMap<(StreamType, Box<str>), Vec<String>>,
}

impl Unusable {
    /// Notes the problems that a resource has now.
    pub(super) fn note(&mut self, kind: StreamType, name: &str, problems: Vec<String>) {
        let key = (kind, name.into());
        match problems.is_empty() {
            true => drop(self.known.remove(&key)),
            false => drop(self.known.insert(key, problems)),
        }
    }

    /// Forgets those of all resources of a type, which are noted anew.
    pub(super) fn forget(&mut self, kind: StreamType) {
        self.known.retain(|(known, _), _| *known != kind);
    }

    /// Counts the resources.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns the problems that were not returned before.
    pub(super) fn news(&mut self) -> Vec<UnusablePolicy> {
        if self.known == self.told {
            return Vec::new();
        }
        let is_new = |(key, problems): &(&(StreamType, Box<str>), &Vec<String>)| {
            self.told.get(*key) != Some(*problems)
        };
        let new = self.known.iter().filter(is_new).flat_map(|((_, name), problems)| {
            problems.iter().map(|problem| UnusablePolicy { name: name.clone(), problem: problem.clone() })
        });
        let new = new.collect();
        self.told = self.known.clone();
        new
    }
}
