//! The right to call one entry. It must not know how it is decided.

use std::sync::Arc;

use mcp::method::Method;
use mcp::uri::CanonicalUri;

use super::rules::{Arguments, Judgement, KeptArguments};
use super::{ApprovalRule, Masks};
use crate::route::{Destination, Target, TargetKind};
use crate::snapshot::{Entry, List};

/// The right to call one entry. Only `policy` makes one, and every way to an upstream takes one.
#[derive(Debug, Clone)]
pub struct Permit {
    method: Method,
    entry: Arc<Entry>,
    list: List,
    original: Option<Box<str>>,
    produced: Option<CanonicalUri>,
    /// What rules decided on, where that depended on arguments.
    kept: Option<Arc<KeptArguments>>,
    masks: Option<Arc<Masks>>,
    approval: Option<Arc<ApprovalRule>>,
}

impl Permit {
    /// Permits to use `destination` by `method`.
    pub(super) fn to(destination: Destination, method: Method, judgement: Judgement) -> Self {
        let Destination { list, position: _, entry, original, produced } = destination;
        let Judgement { arguments: kept, masks, approval } = judgement;
        Self { method, entry, list, original, produced, kept, masks, approval }
    }

    /// What is taken away from the result. `None`: nothing.
    pub fn masks(&self) -> Option<&Arc<Masks>> {
        self.masks.as_ref()
    }

    /// The rule that holds the call back until somebody approves it, where it is new. `None`: none.
    pub fn approval(&self) -> Option<&Arc<ApprovalRule>> {
        self.approval.as_ref()
    }

    /// The arguments that it was given for, to be judged again.
    pub(super) fn arguments(&self) -> Arguments<'_> {
        self.kept.as_ref().map_or(Arguments::Judged(None), |kept| kept.arguments())
    }

    /// What its arguments were judged by, if they were. It is sealed into handles of what goes on, because the arguments are not.
    pub fn judged_by(&self) -> Option<u128> {
        self.kept.as_ref().map(|kept| kept.judged_by())
    }

    /// The method by which the entry is used.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The entry that may be called.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// The name or URI that the upstream knows the target by.
    pub fn original(&self) -> &str {
        self.original.as_deref().unwrap_or(&self.entry.original)
    }

    /// Whether it is for what this upstream knows by this name or URI. A name that a handle was sealed with may lead elsewhere by now.
    pub fn leads_to(&self, upstream: &str, original: &str) -> bool {
        *self.entry.upstream.id == *upstream && self.original() == original
    }

    /// The kind of the target.
    pub fn kind(&self) -> TargetKind {
        match (self.list, &self.produced) {
            (List::Tools, _) => TargetKind::Tool,
            (List::Prompts, _) => TargetKind::Prompt,
            (List::Resources, _) | (List::ResourceTemplates, Some(_)) => TargetKind::Resource,
            (List::ResourceTemplates, None) => TargetKind::Template,
        }
    }

    /// The name, URI or URI template that the client named.
    pub fn exposed(&self) -> &str {
        self.produced.as_ref().map_or(&self.entry.exposed, CanonicalUri::as_str)
    }

    /// The target, to be checked again later.
    pub fn target(&self) -> Target {
        Target { kind: self.kind(), exposed: self.exposed().into() }
    }
}
