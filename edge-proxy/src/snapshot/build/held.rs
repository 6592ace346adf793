//! The last good version of every resource, as it arrived.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::accept::{self, Unusable};
use super::{Kind, Refusal};

/// A resource as it arrives.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Its type.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// A hash of its content.
    pub version: String,
    /// Its message, encoded.
    pub body: Bytes,
}

/// A resource that was accepted.
#[derive(Clone)]
pub struct Held {
    /// A hash of its content.
    pub version: Box<str>,
    /// Its message, encoded. It may be a secret.
    pub body: Bytes,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("version", &self.version).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(super) struct HeldResources {
    accepted: [BTreeMap<Box<str>, Held>; Kind::ALL.len()],
    refused: BTreeMap<(Kind, String), String>,
}

impl HeldResources {
    /// Takes `offer`; says whether that changed anything.
    pub(super) fn put(&mut self, offer: Offer) -> Result<bool, Refusal> {
        let Offer { kind, name, version, body } = offer;
        let held = self.accepted[kind as usize].get(name.as_str());
        if held.is_some_and(|held| *held.version == *version) {
            self.refused.remove(&(kind, name));
            return Ok(false);
        }
        if let Err(unusable) = accept::check(kind, &name, &body) {
            return Err(self.refuse(kind, name, &unusable));
        }
        self.accepted[kind as usize].insert(name.as_str().into(), Held { version: version.into(), body });
        self.refused.remove(&(kind, name));
        Ok(true)
    }

    /// Drops a resource; says whether that changed anything.
    pub(super) fn remove(&mut self, kind: Kind, name: &str) -> bool {
        self.refused.remove(&(kind, name.to_owned()));
        self.accepted[kind as usize].remove(name).is_some()
    }

    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = (&str, &Held)> {
        self.accepted[kind as usize].iter().map(|(name, held)| (&**name, held))
    }

    pub(super) fn get(&self, kind: Kind, name: &str) -> Option<&Held> {
        self.accepted[kind as usize].get(name)
    }

    pub(super) fn refused(&self) -> Vec<Refusal> {
        let refusal = |((kind, name), reason): (&(Kind, String), &String)| Refusal {
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

    fn refuse(&mut self, kind: Kind, name: String, unusable: &Unusable) -> Refusal {
        let reason = unusable.to_string();
        self.refused.insert((kind, name.clone()), reason.clone());
        Refusal { kind, name, reason }
    }
}
