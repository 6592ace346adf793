//! One type on one stream: what the client holds, what is in flight, and what is still to be sent.
//!
//! What the client holds is kept as the difference from what it should hold: a client that is up to date costs nothing, and a
//! change costs what it touches. It must not know the other types: when it may send is for `session` to say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::difference::differences;
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
    /// The versions that the client declared to hold, until it has subscribed.
    claimed: BTreeMap<Arc<str>, Arc<str>>,
    /// The memory for those of them that are not in the registry, at the most.
    claimed_bytes: usize,
    /// The versions that the client holds, as it declared or acknowledged them, of what it wants: where they are not those of
    /// `target`. `None`: it holds none.
    differing: BTreeMap<Arc<str>, Option<Arc<str>>>,
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
    /// What was sent, or `None` for a removal.
    items: BTreeMap<Arc<str>, Option<Arc<Item>>>,
}

/// A resource that the client could not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefusedResource {
    pub(super) version: Arc<str>,
    /// The revision of the registry that made this version.
    pub(super) revision: i64,
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
                Some((name, item)) => self.claimed.insert(name.clone(), item.version.clone()),
                None => {
                    self.claimed_bytes += kept_bytes(&[&name, &version]);
                    self.claimed.insert(name.into(), version.into())
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

    /// Changes the subscription. A name that is subscribed to is answered even if nothing changed. The client forgets by itself
    /// what it no longer asks for, so nothing is said about it.
    pub(super) fn subscribe(&mut self, subscribe: &[String], unsubscribe: &[String]) {
        unsubscribe.iter().for_each(|name| self.subscription.remove(name));
        if !unsubscribe.is_empty() {
            self.differing.retain(|name, _| self.subscription.covers(name));
        }
        for name in subscribe {
            let had_all = self.subscription.is_wildcard();
            let was_covered = self.subscription.covers(name);
            match self.subscription.add(name) {
                Some(name) => {
                    if !was_covered {
                        let held = self.claimed.remove(&name);
                        self.hold(name.clone(), held);
                    }
                    self.requested.insert(name);
                }
                None if !had_all => self.hold_all(),
                None => {}
            }
        }
        self.claimed.clear();
        self.requested.retain(|name| self.subscription.covers(name));
    }

    /// Sets the resources that the client should hold.
    pub(super) fn set_target(&mut self, target: &Arc<Items>) {
        if Arc::ptr_eq(&self.target, target) {
            return;
        }
        let before = std::mem::replace(&mut self.target, target.clone());
        for (name, item) in differences(&before, target) {
            if self.subscription.covers(name) {
                let held = self.differing.get(name).cloned();
                let held = held.unwrap_or_else(|| item.map(|item| item.version.clone()));
                self.hold(name.clone(), held);
            }
        }
        self.compare();
    }

    /// Works out what is still to be sent. Of what is neither different, nor under way, nor asked for, nor refused, nothing is.
    pub(super) fn compare(&mut self) {
        self.additions.clear();
        self.removals.clear();
        let sent = self.in_flight.iter().flat_map(|in_flight| in_flight.items.keys());
        let names = self.differing.keys().chain(sent).chain(&self.requested).chain(self.refused.keys());
        let names: BTreeSet<Arc<str>> = names.cloned().collect();
        names.iter().for_each(|name| self.compare_one(name));
    }

    /// Takes an acknowledgement or a refusal. Returns whether it is for the response in flight.
    pub(super) fn acknowledge(&mut self, nonce: &str, refusals: &[(String, String)]) -> bool {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.nonce == nonce) else {
            return false;
        };
        // A client may send any number of refusals; of two for one resource the later counts.
        let reasons: HashMap<&str, &String> =
            refusals.iter().map(|(refused, reason)| (&**refused, reason)).collect();
        for (name, item) in in_flight.items {
            let version = item.as_ref().map(|item| item.version.clone());
            match item.zip(reasons.get(&*name)) {
                Some((item, reason)) => {
                    let is_kept = self.refused.len() < MAX_REASONS;
                    let reason = if is_kept { (*reason).clone() } else { NO_REASON.to_owned() };
                    self.refused.insert(name.clone(), RefusedResource::new(&item, reason));
                }
                None => {
                    if version.is_some() {
                        self.refused.remove(&name);
                    }
                    if self.subscription.covers(&name) {
                        self.hold(name.clone(), version);
                    }
                }
            }
            self.compare_one(&name);
        }
        true
    }

    /// Takes what goes with the next response, as far as it may go out now.
    pub(super) fn next_changes(&mut self, nonce: &str, additions: bool, removals: bool) -> Option<Changes> {
        if self.in_flight.is_some() {
            return None;
        }
        let (mut changes, mut bytes) = (Changes::default(), 0);
        while additions && !self.additions.is_empty() {
            let size = self.additions.first_key_value().map_or(0, |(_, item)| item.field().len());
            if bytes > 0 && bytes + size > MAX_RESPONSE_BYTES {
                break;
            }
            bytes += size;
            changes.resources.extend(self.additions.pop_first());
        }
        while removals && !self.removals.is_empty() && bytes < MAX_RESPONSE_BYTES {
            const FRAMING: usize = 8;
            let name = self.removals.pop_first();
            bytes += name.as_ref().map_or(0, |name| name.len() + FRAMING);
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

    /// Notes what the client holds of a name that it wants.
    fn hold(&mut self, name: Arc<str>, version: Option<Arc<str>>) {
        if self.target.get(&name).map(|item| &item.version) == version.as_ref() {
            self.differing.remove(&name);
        } else {
            self.differing.insert(name, version);
        }
    }

    /// Notes what a client holds that wants everything from now on: what it declared, and what it asked for before.
    fn hold_all(&mut self) {
        let claimed = std::mem::take(&mut self.claimed);
        let target = self.target.clone();
        let is_new = |name: &Arc<str>| !self.subscription.names(name);
        let new = target.keys().filter(|name| is_new(name) && !claimed.contains_key(*name));
        let new: Vec<_> = new.map(|name| (name.clone(), None)).collect();
        let declared = claimed.into_iter().filter(|(name, _)| is_new(name));
        let declared: Vec<_> = declared.map(|(name, version)| (name, Some(version))).collect();
        for (name, version) in new.into_iter().chain(declared) {
            self.hold(name, version);
        }
    }

    /// Works out what is still to be sent of one name.
    fn compare_one(&mut self, name: &Arc<str>) {
        let is_wanted = self.subscription.covers(name);
        let item = self.target.get(name).cloned();
        self.end_refusal(name, item.as_deref(), is_wanted);
        self.additions.remove(name);
        self.removals.remove(name);
        if !is_wanted {
            return;
        }
        match item {
            None if self.requested.contains(name) || self.expected(name).is_some() => {
                self.removals.insert(name.clone());
            }
            None => {}
            Some(item) => {
                self.withhold(name, &item);
                if self.must_send(name, &item) {
                    self.additions.insert(name.clone(), item);
                }
            }
        }
    }

    /// Ends the refusal of what has changed or is gone. The client is told even if it holds what is true now: what it
    /// was sent last, it refuses. Where a later revision made the same again, that is what is refused.
    fn end_refusal(&mut self, name: &Arc<str>, item: Option<&Item>, is_wanted: bool) {
        let Some(refused) = self.refused.get_mut(name) else { return };
        match item.filter(|item| item.version == refused.version) {
            Some(item) => refused.revision = item.revision,
            None => {
                self.refused.remove(name);
                if is_wanted {
                    self.requested.insert(name.clone());
                }
            }
        }
    }

    /// Refuses in the client's place what it could not even receive. What it holds of it stays: the target has the name.
    fn withhold(&mut self, name: &Arc<str>, item: &Item) {
        if let Some(reason) = item.excess()
            && self.expected(name) != Some(&item.version)
        {
            self.refused.insert(name.clone(), RefusedResource::new(item, reason));
        }
    }

    fn mark_in_flight(&mut self, nonce: &str, changes: &Changes) {
        let added = changes.resources.iter().map(|(name, item)| (name.clone(), Some(item.clone())));
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
            Some(item) => item.as_ref().map(|item| &item.version),
            None => self.held(name),
        }
    }

    /// Returns the version that the client holds of a name that it wants.
    fn held(&self, name: &Arc<str>) -> Option<&Arc<str>> {
        match self.differing.get(name) {
            Some(held) => held.as_ref(),
            None => self.target.get(name).map(|item| &item.version),
        }
    }
}

impl RefusedResource {
    fn new(item: &Item, reason: String) -> Self {
        Self { version: item.version.clone(), revision: item.revision, reason }
    }
}
