//! The last good version of every resource, as it arrived.

use std::collections::BTreeMap;

use bytes::Bytes;
use delta::ByType;
use trunkline::edge::v1::StreamType;

use super::accept::{self, InvalidResource};
use super::{Candidate, Refusal};

/// A resource that was accepted.
#[derive(Clone)]
pub struct Accepted {
    /// A hash of its content.
    pub version: Box<str>,
    /// Its message, encoded. It may be a secret.
    pub body: Bytes,
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accepted").field("version", &self.version).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(super) struct AcceptedResources {
    accepted: ByType<StreamType, BTreeMap<Box<str>, Accepted>>,
    refused: BTreeMap<(StreamType, String), String>,
}

impl AcceptedResources {
    /// Accepts or refuses `candidate`. Returns whether that changed anything.
    pub(super) fn put(&mut self, candidate: Candidate) -> Result<bool, Refusal> {
        let Candidate { kind, name, version, body } = candidate;
        let accepted = self.accepted[kind].get(name.as_str());
        if accepted.is_some_and(|accepted| *accepted.version == *version) {
            self.refused.remove(&(kind, name));
            return Ok(false);
        }
        if let Err(unusable) = accept::check(kind, &name, &body) {
            return Err(self.refuse(kind, name, &unusable));
        }
        self.accepted[kind].insert(name.as_str().into(), Accepted { version: version.into(), body });
        self.refused.remove(&(kind, name));
        Ok(true)
    }

    /// Removes a resource. Returns whether that changed anything.
    pub(super) fn remove(&mut self, kind: StreamType, name: &str) -> bool {
        self.refused.remove(&(kind, name.to_owned()));
        self.accepted[kind].remove(name).is_some()
    }

    pub(super) fn of(&self, kind: StreamType) -> impl Iterator<Item = (&str, &Accepted)> {
        self.accepted[kind].iter().map(|(name, accepted)| (&**name, accepted))
    }

    pub(super) fn get(&self, kind: StreamType, name: &str) -> Option<&Accepted> {
        self.accepted[kind].get(name)
    }

    pub(super) fn refused(&self) -> Vec<Refusal> {
        let refusal = |((kind, name), reason): (&(StreamType, String), &String)| Refusal {
            kind: *kind,
            name: name.clone(),
            reason: reason.clone(),
        };
        self.refused.iter().map(refusal).collect()
    }

    pub(super) fn forget_refused(&mut self) {
        self.refused.clear();
    }

    pub(super) fn refused_count(&self) -> usize {
        self.refused.len()
    }

    fn refuse(&mut self, kind: StreamType, name: String, unusable: &InvalidResource) -> Refusal {
        let reason = unusable.to_string();
        self.refused.insert((kind, name.clone()), reason.clone());
        Refusal { kind, name, reason }
    }
}
