//! What the rules of a server come to for one use of one of its entries, and what is kept of that for as long as the use goes on.
//!
//! It must not know how rules are read, nor messages: arguments are bytes.

use std::sync::Arc;

use access::rule::{Fact, Obligations, Refusal, Verdict};
use mcp::method::Method;
use mcp::uri::CanonicalUri;

use super::{ApprovalRule, Caller, Denied, Masks, RuleDenial, former};
use crate::identity::Principal;
use crate::route::Destination;
use crate::snapshot::{List, RuledFacts, RuledUse, Scope, ServerRules, View, later_arguments, used_by};

/// Longest arguments that a call keeps to be judged again while it runs. Of longer ones it keeps by what they were judged, except
/// where time may change what they come to, or they decide what is taken away from the result.
const MAX_KEPT: usize = 64 << 10;

/// The arguments of a call, as rules look at them.
#[derive(Debug, Clone, Copy)]
pub enum Arguments<'a> {
    /// What the message has, raw; `None`: it has none.
    Of(Option<&'a str>),
    /// They are gone. They were judged when the call began, by the rules and facts of this hash; `None`: by none.
    Judged(Option<u128>),
}

/// What is kept of a decision that depends on arguments.
#[derive(Debug)]
pub(super) enum KeptArguments {
    /// The arguments themselves, and what they were judged by.
    Raw {
        /// `None`: it had none.
        raw: Option<Box<str>>,
        judged_by: u128,
    },
    /// What they were judged by.
    Judged(u128),
}

/// What a use that is not refused goes on with.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// What rules decided on, where that depended on arguments.
    pub(super) arguments: Option<Arc<KeptArguments>>,
    /// What is taken away from the result.
    pub(super) masks: Option<Arc<Masks>>,
    /// What holds a new call back.
    pub(super) approval: Option<Arc<ApprovalRule>>,
}

impl KeptArguments {
    /// The arguments, to be judged again.
    pub(super) fn arguments(&self) -> Arguments<'_> {
        match self {
            Self::Raw { raw, .. } => Arguments::Of(raw.as_deref()),
            Self::Judged(by) => Arguments::Judged(Some(*by)),
        }
    }

    /// What they were judged by.
    pub(super) fn judged_by(&self) -> u128 {
        match self {
            Self::Raw { judged_by, .. } => *judged_by,
            Self::Judged(by) => *by,
        }
    }
}

/// Who calls, as rules know them.
pub(super) fn who_calls(principal: &Principal, scope: &Scope) -> access::rule::Caller {
    access::rule::Caller::of(&principal.name, scope.teams())
}

/// Returns whether rules refuse `destination` whatever the request by `method` is like, so that it is not shown.
pub(super) fn hide(rules: &ServerRules, view: &View, destination: &Destination) -> bool {
    let Destination { list, position, produced, .. } = destination;
    let is_shown = produced.is_none() && view.visible.of(*list).contains(*position);
    !is_shown && hiding(rules, view, destination).is_some()
}

/// What hides `destination` whatever a request is like.
pub(super) fn hiding<'a>(
    rules: &'a ServerRules,
    view: &View,
    destination: &Destination,
) -> Option<Refusal<'a>> {
    let (method, produced) = (used_by(destination.list), &destination.produced);
    let facts = RuledFacts { arguments: later_arguments(method), ..RuledFacts::default() };
    let former = former(destination);
    let used = RuledUse {
        produced: produced.as_ref().map_or(Fact::Later, Fact::Is),
        ..used(view, method, destination, former.as_ref())
    };
    match rules.decide(&view.server, used, facts) {
        Verdict::Denied(refusal) => Some(refusal),
        Verdict::Allowed(_) | Verdict::Depends(_) => None,
    }
}

/// Judges a use of `destination`, which is shown to `caller`, by the rules of the server. Returns what it goes on with.
pub(super) fn judge(
    rules: &ServerRules,
    caller: &Caller<'_>,
    method: Method,
    destination: &Destination,
    arguments: Arguments<'_>,
) -> Result<Judgement, Denied> {
    let shown_by = used_by(destination.list);
    let judged = Judging { rules, caller, destination, former: former(destination) };
    if method == shown_by {
        let is_open = destination.produced.is_none()
            && !caller.view.is_conditional(destination.list, destination.position);
        return if is_open { Ok(Judgement::default()) } else { judged.call(method, arguments) };
    }
    let call = match destination.list {
        // About a task, which goes on as long as its call might.
        List::Tools => Judgement { approval: None, ..judged.call(shown_by, arguments)? },
        List::Resources | List::ResourceTemplates | List::Prompts => Judgement::default(),
    };
    judged.call(method, Arguments::Of(None))?;
    Ok(call)
}

/// A use that is judged.
struct Judging<'a> {
    rules: &'a ServerRules,
    caller: &'a Caller<'a>,
    destination: &'a Destination,
    former: Option<CanonicalUri>,
}

impl Judging<'_> {
    fn call(&self, method: Method, arguments: Arguments<'_>) -> Result<Judgement, Denied> {
        let view = self.caller.view;
        let used = used(view, method, self.destination, self.former.as_ref());
        let given = match (later_arguments(method), arguments) {
            (Fact::Later, Arguments::Of(raw)) => raw.map_or(Fact::Absent, |raw| Fact::Is(raw.as_bytes())),
            (later, _) => later,
        };
        let source = self.caller.facts.address.map_or(Fact::Absent, Fact::Is);
        let facts = RuledFacts { arguments: given, source, now: Some(self.caller.facts.now) };
        match self.rules.decide(&view.server, used, facts) {
            Verdict::Denied(refusal) => Err(Denied::Rule(RuleDenial::of(&refusal))),
            Verdict::Allowed(with) => Ok(judgement(self.kept(used, arguments), arguments, with)),
            Verdict::Depends(with) => {
                let kept = self.judged_before(used, arguments)?;
                Ok(judgement(Some(kept), arguments, with))
            }
        }
    }

    /// Of a decision that depends on arguments that are gone.
    fn judged_before(
        &self,
        used: RuledUse<'_>,
        arguments: Arguments<'_>,
    ) -> Result<Arc<KeptArguments>, Denied> {
        match arguments {
            Arguments::Judged(Some(by)) if !self.rules.mix_facts() && by == self.rules.judged_by(used) => {
                Ok(Arc::new(KeptArguments::Judged(by)))
            }
            Arguments::Judged(_) | Arguments::Of(_) => Err(Denied::Rule(RuleDenial::gone())),
        }
    }

    fn kept(&self, used: RuledUse<'_>, arguments: Arguments<'_>) -> Option<Arc<KeptArguments>> {
        if !self.rules.need_arguments() || later_arguments(used.method) != Fact::Later {
            return None;
        }
        let kept = match arguments {
            Arguments::Judged(by) => KeptArguments::Judged(by?),
            Arguments::Of(raw) => {
                let judged_by = self.rules.judged_by(used);
                let is_long = raw.is_some_and(|raw| raw.len() > MAX_KEPT);
                if is_long && !self.rules.mix_facts() && !self.rules.mask_by_arguments() {
                    KeptArguments::Judged(judged_by)
                } else {
                    KeptArguments::Raw { raw: raw.map(Box::from), judged_by }
                }
            }
        };
        Some(Arc::new(kept))
    }
}

/// What goes with a use. Where arguments are gone, all is taken away from its result that may have to be. Nothing is held back that began
/// already.
fn judgement(kept: Option<Arc<KeptArguments>>, arguments: Arguments<'_>, with: Obligations<'_>) -> Judgement {
    let begins = matches!(arguments, Arguments::Of(_));
    let approval = with.approval.filter(|_| begins).map(|rule| Arc::new(ApprovalRule::of(rule)));
    Judgement { arguments: kept, masks: Masks::new(&with.masks), approval }
}

fn used<'a>(
    view: &'a View,
    method: Method,
    destination: &'a Destination,
    former: Option<&'a CanonicalUri>,
) -> RuledUse<'a> {
    let Destination { list, entry, produced, .. } = destination;
    let produced = produced.as_ref().map_or(Fact::Absent, Fact::Is);
    let original = destination.original();
    RuledUse { caller: view.caller(), method, list: *list, entry, produced, original, former }
}
