//! The URIs by which a caller may read what an upstream mentions. It must not know messages.

use std::sync::Arc;

use mcp::uri::naming;

use super::decide;
use crate::route::{Destination, NamedTarget, TargetKind};
use crate::snapshot::{List, Upstream, View};

/// Steps of matching URIs with templates and globs, in bytes that are compared, for one message; what takes more is not
/// found. Without them, links times templates times their lengths would keep a worker busy for seconds.
pub(super) const MAX_STEPS: usize = 4 << 20;

/// Finds the URIs by which a caller may read what an upstream knows by its own, for one message.
pub struct ReadableUris<'a> {
    view: Arc<View>,
    upstream: &'a Upstream,
    steps: usize,
}

impl<'a> ReadableUris<'a> {
    /// For a caller with `view`, and resources of `upstream`.
    pub(super) fn new(view: Arc<View>, upstream: &'a Upstream) -> Self {
        Self { view, upstream, steps: 0 }
    }

    /// Returns the URI by which the caller may read the resource that the upstream knows as `original`. `None` where it may
    /// not, the server has no such resource, or it takes too long to tell.
    pub fn find(&mut self, original: &str) -> Option<Box<str>> {
        let view = Arc::clone(&self.view);
        let names = view.server.uris.upstream(&self.upstream.uid)?;
        let mut prefixes = names.prefixes.iter();
        let listed = prefixes.find_map(|prefix| self.listed(original, &naming::expose(prefix, original)));
        let aliases = || names.aliases(original).iter().find_map(|at| self.alias(original, *at));
        if let Some(found) = listed.or_else(aliases) {
            return Some(found);
        }
        let mut prefixes = names.template_prefixes.iter();
        prefixes.find_map(|prefix| self.produced(original, naming::expose(prefix, original)))
    }

    /// Returns the URI by which the upstream knows the resource that the caller may read as `exposed`, where that is another.
    /// `None` as well where the upstream has a resource of its own by that name, as either may be meant, or it takes too long to
    /// tell.
    pub fn own(&mut self, exposed: &str) -> Option<Box<str>> {
        let destination = self.decided(exposed)?;
        let is_renamed =
            *destination.entry.upstream.uid == *self.upstream.uid && destination.original() != exposed;
        (is_renamed && self.find(exposed).is_none()).then(|| destination.original().into())
    }

    /// The steps that were taken so far.
    #[cfg(test)]
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    fn listed(&self, original: &str, exposed: &str) -> Option<Box<str>> {
        self.alias(original, self.view.server.resources.position(exposed)?)
    }

    /// Returns the exposed URI of the resource at this position, if it is `original` and the caller sees it.
    fn alias(&self, original: &str, position: usize) -> Option<Box<str>> {
        let (resources, visible) = self.view.table(List::Resources);
        let entry = resources.entries.get(position).filter(|_| visible.contains(position))?;
        let is_it = *entry.upstream.uid == *self.upstream.uid && *entry.original == *original;
        is_it.then(|| entry.exposed.clone())
    }

    /// Returns `exposed` if it leads to `original` through a template. One decision tells for all templates of a prefix.
    fn produced(&mut self, original: &str, exposed: String) -> Option<Box<str>> {
        let destination = self.decided(&exposed)?;
        let leads_there =
            *destination.entry.upstream.uid == *self.upstream.uid && destination.original() == original;
        leads_there.then(|| exposed.into())
    }

    /// Where `exposed` leads, if it may be read and it does not take too long to tell.
    fn decided(&mut self, exposed: &str) -> Option<Destination> {
        let steps = self.steps.saturating_add(self.steps_to_decide(exposed));
        if steps > MAX_STEPS {
            return None;
        }
        self.steps = steps;
        decide(&self.view, &NamedTarget::of(TargetKind::Resource, exposed)).ok()
    }

    /// What a decision compares: the URI with templates that begin as it does, and with globs where a template is not listed.
    fn steps_to_decide(&self, uri: &str) -> usize {
        let (templates, listed) = self.view.table(List::ResourceTemplates);
        let rules = self.view.server.rules.as_ref().map_or(0, |rules| rules.glob_steps(uri));
        let steps = |at: usize| {
            let template = templates.entries.get(at).and_then(|entry| entry.template.as_ref());
            let globs = if listed.contains(at) { 0 } else { self.view.visible.glob_steps(uri) };
            template.map_or(0, |template| template.steps(uri)).saturating_add(globs).saturating_add(rules)
        };
        self.view.server.templates_to_match(uri).into_iter().map(steps).fold(1, usize::saturating_add)
    }
}
