//! One type on one stream: what the edge holds, what is out, and what is still to be sent.
//!
//! It must not know the other types: when it may send is for `session` to say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::snapshot::content::{Item, Items};

/// Past it, what is left goes with the next response.
pub(super) const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// The state of one type on one stream.
#[derive(Debug, Default)]
pub(super) struct Substream {
    /// True once the edge has sent a request for this type.
    pub(super) opened: bool,
    everything: bool,
    names: BTreeSet<Arc<str>>,
    /// The versions that the edge holds, as it declared or acknowledged them.
    held: BTreeMap<Arc<str>, Arc<str>>,
    /// The resources that it refused, until they change.
    refused: BTreeMap<Arc<str>, RefusedResource>,
    /// The one response that is not answered yet.
    flight: Option<Unacknowledged>,
    /// Names that must be answered although nothing changed.
    owed: BTreeSet<Arc<str>>,
    add: BTreeMap<Arc<str>, Arc<Item>>,
    remove: BTreeSet<Arc<str>>,
    target: Arc<Items>,
}

#[derive(Debug)]
struct Unacknowledged {
    nonce: String,
    adds: bool,
    /// Version sent, or `None` for a removal.
    items: BTreeMap<Arc<str>, Option<Arc<str>>>,
}

/// A resource that the edge could not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefusedResource {
    pub(super) version: Arc<str>,
    pub(super) reason: String,
}

/// The contents of one response.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) resources: Vec<(Arc<str>, Arc<Item>)>,
    pub(super) removed: Vec<Arc<str>>,
}

impl Substream {
    /// Takes the first message's word for what the edge holds.
    pub(super) fn open(&mut self, initial: impl Iterator<Item = (String, String)>) {
        if !std::mem::replace(&mut self.opened, true) {
            self.held = initial.map(|(name, version)| (name.into(), version.into())).collect();
        }
    }

    /// Changes the subscription. A name that is subscribed to is answered even if nothing changed.
    pub(super) fn subscribe(&mut self, subscribe: Vec<String>, unsubscribe: &[String]) {
        for name in unsubscribe {
            match name.as_str() {
                "*" => self.everything = false,
                name => drop(self.names.remove(name)),
            }
        }
        for name in subscribe {
            match name.as_str() {
                "*" => self.everything = true,
                name => {
                    let name: Arc<str> = name.into();
                    self.owed.insert(name.clone());
                    self.names.insert(name);
                }
            }
        }
        let (everything, names) = (self.everything, &self.names);
        // The edge forgets by itself what it no longer asks for, so nothing is said about it.
        self.held.retain(|name, _| everything || names.contains(name));
        self.owed.retain(|name| everything || names.contains(name));
    }

    /// Sets the target that the edge should hold. Returns whether it differs from the one before.
    pub(super) fn set_target(&mut self, target: &Arc<Items>) {
        if !Arc::ptr_eq(&self.target, target) {
            self.target = target.clone();
            self.compare();
        }
    }

    /// Works out what is still to be sent.
    pub(super) fn compare(&mut self) {
        let target = self.target.clone();
        self.refused
            .retain(|name, refused| target.get(name).is_some_and(|item| item.version == refused.version));
        self.add = target
            .iter()
            .filter(|(name, item)| self.wants(name) && self.must_send(name, item))
            .map(|(name, item)| (name.clone(), item.clone()))
            .collect();
        self.remove = self.removals(&target);
    }

    /// Takes an answer. Answers whether it was to the response that is out.
    pub(super) fn answer(&mut self, nonce: &str, refusals: &[(String, String)]) -> bool {
        if self.flight.as_ref().is_none_or(|flight| flight.nonce != nonce) {
            return false;
        }
        let items = self.flight.take().map(|flight| flight.items).unwrap_or_default();
        for (name, version) in items {
            let reason = refusals.iter().find(|(refused, _)| **refused == *name).map(|(_, reason)| reason);
            match (version, reason) {
                (None, _) => drop(self.held.remove(&name)),
                (Some(version), None) => {
                    self.refused.remove(&name);
                    self.held.insert(name, version);
                }
                (Some(version), Some(reason)) => {
                    self.refused.insert(name, RefusedResource { version, reason: reason.clone() });
                }
            }
        }
        let (everything, names) = (self.everything, &self.names);
        self.held.retain(|name, _| everything || names.contains(name));
        self.compare();
        true
    }

    /// The next response, as far as it may go out now.
    pub(super) fn load(&mut self, nonce: &str, adds: bool, removals: bool) -> Option<Load> {
        if self.flight.is_some() {
            return None;
        }
        let (mut load, mut bytes) = (Load::default(), 0);
        while adds && !self.add.is_empty() {
            let size = self.add.first_key_value().map_or(0, |(name, item)| size(name, Some(item)));
            if bytes > 0 && bytes + size > MAX_RESPONSE_BYTES {
                break;
            }
            bytes += size;
            load.resources.extend(self.add.pop_first());
        }
        while removals && !self.remove.is_empty() && bytes < MAX_RESPONSE_BYTES {
            let name = self.remove.pop_first();
            bytes += name.as_ref().map_or(0, |name| size(name, None));
            load.removed.extend(name);
        }
        if load.resources.is_empty() && load.removed.is_empty() {
            return None;
        }
        self.depart(nonce, &load);
        Some(load)
    }

    /// Tells whether additions are still to be sent.
    pub(super) fn additions_pending(&self) -> bool {
        !self.add.is_empty()
    }

    /// Tells whether removals are still to be sent.
    pub(super) fn removals_wait(&self) -> bool {
        !self.remove.is_empty()
    }

    /// Tells whether additions were sent that are not answered.
    pub(super) fn additions_in_flight(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.adds)
    }

    /// Tells whether everything that was to be sent is answered.
    pub(super) fn settled(&self) -> bool {
        self.flight.is_none() && !self.additions_pending() && !self.removals_wait()
    }

    /// Returns the resources that the edge refuses at present.
    pub(super) fn refusals(&self) -> &BTreeMap<Arc<str>, RefusedResource> {
        &self.refused
    }

    fn depart(&mut self, nonce: &str, load: &Load) {
        let added = load.resources.iter().map(|(name, item)| (name.clone(), Some(item.version.clone())));
        let removed = load.removed.iter().map(|name| (name.clone(), None));
        let items: BTreeMap<_, _> = added.chain(removed).collect();
        self.owed.retain(|name| !items.contains_key(name));
        self.flight =
            Some(Unacknowledged { nonce: nonce.to_owned(), adds: !load.resources.is_empty(), items });
    }

    fn wants(&self, name: &str) -> bool {
        self.everything || self.names.contains(name)
    }

    fn must_send(&self, name: &Arc<str>, item: &Item) -> bool {
        let refused = self.refused.get(name).is_some_and(|refused| refused.version == item.version);
        (self.owed.contains(name) || self.expected(name) != Some(&item.version)) && !refused
    }

    /// Computes the versions that the edge will hold once it has accepted the unacknowledged response.
    fn expected(&self, name: &Arc<str>) -> Option<&Arc<str>> {
        match self.flight.as_ref().and_then(|flight| flight.items.get(name)) {
            Some(flying) => flying.as_ref(),
            None => self.held.get(name),
        }
    }

    fn removals(&self, target: &Items) -> BTreeSet<Arc<str>> {
        let flying = self.flight.iter().flat_map(|flight| flight.items.keys());
        let known = self.held.keys().chain(flying).filter(|name| self.expected(name).is_some());
        known
            .chain(&self.owed)
            .filter(|name| self.wants(name) && !target.contains_key(*name))
            .cloned()
            .collect()
    }
}

/// Roughly what a resource takes in a response.
fn size(name: &str, item: Option<&Arc<Item>>) -> usize {
    const FRAMING: usize = 96;
    name.len() + item.map_or(8, |item| item.body.len() + FRAMING)
}
