//! What goes with a call that rules do not refuse. It must not know messages, nor how an approval is asked for.

use std::sync::Arc;

use access::rule::{Mask, Rule};

/// What rules take away from the result of a call: at least one mask.
#[derive(Debug)]
pub struct Masks(Box<[Arc<Mask>]>);

/// A rule that holds a call back until somebody approves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRule {
    /// Its id.
    pub id: Box<str>,
    /// What it says of why.
    pub told: Box<str>,
}

impl Masks {
    /// Those of these rules. `None`: there are none.
    pub(super) fn new(masks: &[&Arc<Mask>]) -> Option<Arc<Self>> {
        let masks: Box<[_]> = masks.iter().map(|mask| Arc::clone(mask)).collect();
        (!masks.is_empty()).then(|| Arc::new(Self(masks)))
    }

    /// One that takes these away.
    #[cfg(test)]
    pub(crate) fn of_fields(fields: &[&str]) -> Arc<Self> {
        let fields = fields.iter().map(|field| access::rule::FieldPath::parse(field).unwrap());
        let mask = Mask { rule: "servers/dev/rules/people".into(), fields: fields.collect() };
        Arc::new(Self(Box::new([Arc::new(mask)])))
    }

    /// The first of them that is not among others.
    pub(super) fn added<'a>(these: Option<&'a Arc<Self>>, others: Option<&Arc<Self>>) -> Option<&'a Mask> {
        let is_known = |mask: &Mask| others.is_some_and(|others| others.iter().any(|other| other == mask));
        these?.iter().find(|mask| !is_known(mask))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mask> {
        self.0.iter().map(AsRef::as_ref)
    }
}

impl ApprovalRule {
    pub(super) fn of(rule: &Rule) -> Self {
        let Rule { id, reason, .. } = rule;
        Self { id: id.as_str().into(), told: reason.as_str().into() }
    }
}
