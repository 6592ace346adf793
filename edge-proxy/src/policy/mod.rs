//! The one place where a caller's access is decided, and where a `Permit` is made.
//!
//! It must not know HTTP or upstream connections. What is not allowed is reported as unknown.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Failure;
use crate::identity::{Principal, PrincipalKind};
use crate::route::{Destination, NamedTarget, Target, TargetKind};
use crate::snapshot::{Entry, List, Permissions, Snapshot, Token, View, glob};

/// The right to call one entry. Only this module makes one, and every way to an upstream takes one.
#[derive(Debug, Clone)]
pub struct Permit {
    entry: Arc<Entry>,
    list: List,
    original: Option<Box<str>>,
    exposed_uri: Option<Box<str>>,
}

impl Permit {
    /// The entry that may be called.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// The name or URI that the upstream knows the target by.
    pub fn original(&self) -> &str {
        self.original.as_deref().unwrap_or(&self.entry.original)
    }

    /// The kind of the target.
    pub fn kind(&self) -> TargetKind {
        match (self.list, &self.exposed_uri) {
            (List::Tools, _) => TargetKind::Tool,
            (List::Prompts, _) => TargetKind::Prompt,
            (List::Resources, _) | (List::ResourceTemplates, Some(_)) => TargetKind::Resource,
            (List::ResourceTemplates, None) => TargetKind::Template,
        }
    }

    /// The name, URI or URI template that the client named.
    pub fn exposed(&self) -> &str {
        self.exposed_uri.as_deref().unwrap_or(&self.entry.exposed)
    }

    /// The target, to be checked again later.
    pub fn target(&self) -> Target {
        Target { kind: self.kind(), exposed: self.exposed().into() }
    }

    /// Returns whether `view` still permits the same target at the same upstream.
    pub fn still_holds(&self, view: &View) -> bool {
        permit(view, &NamedTarget::of(self.kind(), self.exposed()))
            .is_some_and(|now| now.entry.upstream.uid == self.entry.upstream.uid)
    }
}

/// Returns what `principal` sees of a server, if its rights are in force.
pub fn admit<'a>(
    snapshot: &'a Snapshot,
    principal: &Principal,
    server: &str,
    now: u64,
) -> Result<&'a Arc<View>, Failure> {
    let token = token(snapshot, principal).filter(|token| is_in_force(principal, token, now));
    let token = token.ok_or(Failure::Bearer { presented: true })?;
    snapshot.view(&token.scope, server).ok_or(Failure::Server)
}

/// The permissions of a principal, if it has any.
pub fn permissions<'a>(snapshot: &'a Snapshot, principal: &Principal) -> Option<&'a Permissions> {
    token(snapshot, principal).map(|token| token.scope.permissions())
}

/// The time that a principal has left at `now`, if its rights expire.
pub fn remaining(snapshot: &Snapshot, principal: &Principal, now: u64) -> Option<Duration> {
    let token = token(snapshot, principal).and_then(|token| token.expires);
    let earlier = principal.expires.into_iter().chain(token).min()?;
    Some(Duration::from_secs(earlier.saturating_sub(now)))
}

fn token<'a>(snapshot: &'a Snapshot, principal: &Principal) -> Option<&'a Token> {
    match principal.kind {
        PrincipalKind::Token => snapshot.tokens.get(&principal.uid).map(AsRef::as_ref),
    }
}

/// Returns whether neither the credential nor the token is over, and the token is not revoked.
fn is_in_force(principal: &Principal, token: &Token, now: u64) -> bool {
    let is_over = |expires: Option<u64>| expires.is_some_and(|expires| expires <= now);
    !token.revoked && !is_over(token.expires) && !is_over(principal.expires)
}

/// Returns a permit for the target of a call, if `view` shows it.
pub fn permit(view: &View, named: &NamedTarget<'_>) -> Option<Permit> {
    named.destinations(&view.server).find_map(|destination| check(view, destination))
}

fn check(view: &View, destination: Destination) -> Option<Permit> {
    let Destination { list, position, entry, original, exposed_uri } = destination;
    let allowed = match list {
        List::Tools => view.visible.tools.contains(position),
        List::Prompts => view.visible.prompts.contains(position),
        List::Resources => view.visible.resources.contains(position),
        List::ResourceTemplates => {
            view.visible.resource_templates.contains(position)
                || exposed_uri.as_deref().is_some_and(|uri| glob::any(&view.visible.resource_globs, uri))
        }
    };
    allowed.then_some(Permit { entry, list, original, exposed_uri })
}
