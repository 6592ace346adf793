//! One type on one stream: what the client holds, what is in flight, and what is still to be sent.
//!
//! It must not know the other types: when it may send is for `session` to say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::subscription::{Subscription, kept_bytes};
use crate::snapshot::{Item, Items};

/// Past it, what is left goes with the next response.
const MAX_RESPONSE_BYTES: usize = 1 << 20;
/// The refusals whose reasons are kept; that further ones are refused is known, and not why.
pub(super) const MAX_REASONS: usize = 100;
/// In the place of a reason that is not kept.
const NO_REASON: &str = "not kept: the client refuses too many resources";

/// The state of one type on one stream.
#[derive(Debug, Default)]
pub(super) struct Substream {
    /// True once the client has sent a request for this type.
    pub(super) opened: bool,
    subscription: Subscription,
    /// The versions that the client holds, as it declared or acknowledged them.
    held: BTreeMap<Arc<str>, Arc<str>>,
    /// The memory for those that it declared and that are not in the registry, at the most.
    claimed_bytes: usize,
    /// The resources that it refused, or that are too large for it, until they change.
    refused: BTreeMap<Arc<str>, RefusedResource>,
    /// The one response that is not answered yet.
    in_flight: Option<InFlight>,
    /// Names that must be answered although nothing changed.
    requested: BTreeSet<Arc<str>>,
    additions: BTreeMap<Arc<str>, Arc<Item>>,
    removals: BTreeSet<Arc<str>>,
    target: Arc<Items>,
}

#[derive(Debug)]
struct InFlight {
    nonce: String,
    has_additions: bool,
    /// Version sent, or `None` for a removal.
    items: BTreeMap<Arc<str>, Option<Arc<str>>>,
}

/// A resource that the client could not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefusedResource {
    pub(super) version: Arc<str>,
    pub(super) reason: String,
}

/// The contents of one response.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) resources: Vec<(Arc<str>, Arc<Item>)>,
    pub(super) removed: Vec<Arc<str>>,
}

impl Substream {
    /// Takes a client's word for what it holds, until it has subscribed. What the registry has too is kept with it, once.
    pub(super) fn claim(&mut self, versions: BTreeMap<String, String>, registry: &Items) {
        if self.opened {
            return;
        }
        for (name, version) in versions {
            match registry.get_key_value(&*name).filter(|(_, item)| *item.version == *version) {
                Some((name, item)) => self.held.insert(name.clone(), item.version.clone()),
                None => {
                    self.claimed_bytes += kept_bytes(&[&name, &version]);
                    self.held.insert(name.into(), version.into())
                }
            };
        }
    }

    /// Estimates the memory for what the client alone has caused to be kept, in bytes: what it claims to hold, and the names
    /// that it asks for, in so far as the registry has none of it.
    pub(super) fn client_bytes(&self) -> usize {
        let unknown = self.requested.iter().filter(|name| !self.target.contains_key(*name));
        let requested: usize = unknown.map(|name| kept_bytes(&[name])).sum();
        self.claimed_bytes + self.subscription.bytes() + requested
    }

    /// Changes the subscription. A name that is subscribed to is answered even if nothing changed.
    pub(super) fn subscribe(&mut self, subscribe: &[String], unsubscribe: &[String]) {
        unsubscribe.iter().for_each(|name| self.subscription.remove(name));
        self.requested.extend(subscribe.iter().filter_map(|name| self.subscription.add(name)));
        self.forget_unwanted();
    }

    /// Sets the resources that the client should hold.
    pub(super) fn set_target(&mut self, target: &Arc<Items>) {
        if !Arc::ptr_eq(&self.target, target) {
            self.target = target.clone();
            self.compare();
        }
    }

    /// Works out what is still to be sent.
    pub(super) fn compare(&mut self) {
        let target = self.target.clone();
        self.end_refusals(&target);
        self.withhold(&target);
        self.additions = target
            .iter()
            .filter(|(name, item)| self.subscription.covers(name) && self.must_send(name, item))
            .map(|(name, item)| (name.clone(), item.clone()))
            .collect();
        self.removals = self.names_to_remove(&target);
    }

    /// Takes an acknowledgement or a refusal. Returns whether it is for the response in flight.
    pub(super) fn acknowledge(&mut self, nonce: &str, refusals: &[(String, String)]) -> bool {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.nonce == nonce) else {
            return false;
        };
        // A client may send any number of refusals; of two for one resource the later counts.
        let reasons: HashMap<&str, &String> =
            refusals.iter().map(|(refused, reason)| (&**refused, reason)).collect();
        for (name, version) in in_flight.items {
            let reason = reasons.get(&*name).copied();
            match (version, reason) {
                (None, _) => drop(self.held.remove(&name)),
                (Some(version), None) => {
                    self.refused.remove(&name);
                    self.held.insert(name, version);
                }
                (Some(version), Some(reason)) => {
                    let is_kept = self.refused.len() < MAX_REASONS;
                    let reason = if is_kept { reason.clone() } else { NO_REASON.to_owned() };
                    self.refused.insert(name, RefusedResource { version, reason });
                }
            }
        }
        self.forget_unwanted();
        self.compare();
        true
    }

    /// Takes what goes with the next response, as far as it may go out now.
    pub(super) fn next_changes(&mut self, nonce: &str, additions: bool, removals: bool) -> Option<Changes> {
        if self.in_flight.is_some() {
            return None;
        }
        let (mut changes, mut bytes) = (Changes::default(), 0);
        while additions && !self.additions.is_empty() {
            let size = self.additions.first_key_value().map_or(0, |(name, item)| size(name, Some(item)));
            if bytes > 0 && bytes + size > MAX_RESPONSE_BYTES {
                break;
            }
            bytes += size;
            changes.resources.extend(self.additions.pop_first());
        }
        while removals && !self.removals.is_empty() && bytes < MAX_RESPONSE_BYTES {
            let name = self.removals.pop_first();
            bytes += name.as_ref().map_or(0, |name| size(name, None));
            changes.removed.extend(name);
        }
        if changes.resources.is_empty() && changes.removed.is_empty() {
            return None;
        }
        self.mark_in_flight(nonce, &changes);
        Some(changes)
    }

    /// Tells whether additions are still to be sent.
    pub(super) fn additions_pending(&self) -> bool {
        !self.additions.is_empty()
    }

    /// Tells whether removals are still to be sent.
    pub(super) fn removals_pending(&self) -> bool {
        !self.removals.is_empty()
    }

    /// Tells whether anything is still to be sent.
    pub(super) fn is_pending(&self) -> bool {
        self.additions_pending() || self.removals_pending()
    }

    /// Tells whether additions were sent that are not answered.
    pub(super) fn additions_in_flight(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|in_flight| in_flight.has_additions)
    }

    /// Tells whether everything that was to be sent is answered.
    pub(super) fn is_answered(&self) -> bool {
        self.in_flight.is_none() && !self.is_pending()
    }

    /// Returns the resources that the client refuses at present.
    pub(super) fn refusals(&self) -> &BTreeMap<Arc<str>, RefusedResource> {
        &self.refused
    }

    /// The client forgets by itself what it no longer asks for, so nothing is said about it.
    fn forget_unwanted(&mut self) {
        self.held.retain(|name, _| self.subscription.covers(name));
        self.requested.retain(|name| self.subscription.covers(name));
    }

    /// Ends the refusals of what has changed or is gone. The client is told even if it holds what is true now: what it
    /// was sent last, it refuses.
    fn end_refusals(&mut self, target: &Items) {
        let has_changed = |name: &Arc<str>, refused: &mut RefusedResource| {
            target.get(name).is_none_or(|item| item.version != refused.version)
        };
        let ended = self.refused.extract_if(.., has_changed).map(|(name, _)| name);
        self.requested.extend(ended.filter(|name| self.subscription.covers(name)));
    }

    /// Refuses in the client's place what it could not even receive. What it holds of it stays: the target has the name.
    fn withhold(&mut self, target: &Items) {
        for (name, item) in target.iter().filter(|(name, _)| self.subscription.covers(name)) {
            if let Some(reason) = item.excess()
                && self.expected(name) != Some(&item.version)
            {
                self.refused.insert(name.clone(), RefusedResource { version: item.version.clone(), reason });
            }
        }
    }

    fn mark_in_flight(&mut self, nonce: &str, changes: &Changes) {
        let added = changes.resources.iter().map(|(name, item)| (name.clone(), Some(item.version.clone())));
        let removed = changes.removed.iter().map(|name| (name.clone(), None));
        let items: BTreeMap<_, _> = added.chain(removed).collect();
        self.requested.retain(|name| !items.contains_key(name));
        let has_additions = !changes.resources.is_empty();
        self.in_flight = Some(InFlight { nonce: nonce.to_owned(), has_additions, items });
    }

    fn must_send(&self, name: &Arc<str>, item: &Item) -> bool {
        let refused = self.refused.get(name).is_some_and(|refused| refused.version == item.version);
        (self.requested.contains(name) || self.expected(name) != Some(&item.version)) && !refused
    }

    /// Returns the version that the client will hold once it has accepted the response in flight.
    fn expected(&self, name: &Arc<str>) -> Option<&Arc<str>> {
        match self.in_flight.as_ref().and_then(|in_flight| in_flight.items.get(name)) {
            Some(version) => version.as_ref(),
            None => self.held.get(name),
        }
    }

    fn names_to_remove(&self, target: &Items) -> BTreeSet<Arc<str>> {
        let sent = self.in_flight.iter().flat_map(|in_flight| in_flight.items.keys());
        let known = self.held.keys().chain(sent).filter(|name| self.expected(name).is_some());
        known
            .chain(&self.requested)
            .filter(|name| self.subscription.covers(name) && !target.contains_key(*name))
            .cloned()
            .collect()
    }
}

/// Estimates the bytes that a resource takes in a response.
fn size(name: &str, item: Option<&Arc<Item>>) -> usize {
    const FRAMING: usize = 96;
    name.len() + item.map_or(8, |item| item.body.len() + FRAMING)
}
