//! Refusals of policy, and what is told of them: to people in the log, to callers no more than they may know.

use std::fmt;

use access::rule::{Mask, Refusal, Rule, Unevaluable};
use mcp::uri::NotCanonical;
use tracing::field::display;

use super::{ApprovalRule, Facts};
use crate::error::{Failure, Unmet};
use crate::identity::Principal;
use crate::route::NamedTarget;

/// The bytes of a client's text that are logged.
const MAX_LOGGED: usize = 128;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No such server or target.
    #[error("it does not exist")]
    NotFound,
    /// The caller's scope does not allow it. Callers cannot tell this from `NotFound`.
    #[error("the scope does not allow it")]
    OutOfScope,
    /// It takes a while to find out what the scope allows at the server.
    #[error("what the scope allows is not worked out yet")]
    Pending,
    /// A template produces such URIs, but not in this form. Callers cannot tell this from `NotFound` either.
    #[error("the URI {0}")]
    NotCanonical(NotCanonical),
    /// The caller may not use the method. Callers cannot tell this from a method that does not exist.
    #[error("the method is not allowed")]
    Method,
    /// A condition of the caller's rights does not hold.
    #[error("{0}")]
    Condition(#[from] Reason),
    /// A rule of the server refuses it. To a caller one that refuses whatever the request is like is `OutOfScope`.
    #[error("{0}")]
    Rule(RuleDenial),
}

/// What a rule refuses a request for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleDenial {
    /// Which rule; empty: one whose decision cannot be made again.
    id: Box<str>,
    /// What callers are told of it.
    told: Box<str>,
    /// Why it could not decide, if that is why.
    error: Option<Unevaluable>,
}

impl RuleDenial {
    /// What a rule refuses.
    pub(super) fn of(refusal: &Refusal<'_>) -> Self {
        let Rule { id, reason, .. } = refusal.rule;
        Self { id: id.as_str().into(), told: reason.as_str().into(), error: refusal.error }
    }

    /// What was allowed for its arguments, which are gone.
    pub(super) fn gone() -> Self {
        const GONE: Unevaluable =
            Unevaluable("the arguments of the call are gone, and what they were judged by has changed");
        Self { id: Box::default(), told: Box::default(), error: Some(GONE) }
    }

    /// What began before its result was masked.
    pub(super) fn masked(mask: &Mask) -> Self {
        let told = "a rule masks its result since it began; call again";
        Self { id: mask.rule.clone(), told: told.into(), error: None }
    }

    /// What nobody can approve, for this reason.
    pub fn undecided(rule: &ApprovalRule, why: Unevaluable) -> Self {
        let ApprovalRule { id, told } = rule;
        Self { id: id.clone(), told: told.clone(), error: Some(why) }
    }

    /// Whether it could not be decided.
    pub fn is_error(&self) -> bool {
        self.error.is_some()
    }
}

impl fmt::Display for RuleDenial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error {
            None => write!(f, "the rule {} refuses it", self.id),
            Some(error) => write!(f, "the rule {:?} cannot decide: {error}", self.id),
        }
    }
}

/// The condition that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The token was deleted.
    #[error("the token does not exist")]
    NoToken,
    /// No token, or several, name the client certificate.
    #[error("no token alone names the client certificate")]
    NotNamed,
    /// The token was revoked.
    #[error("the token is revoked")]
    Revoked,
    /// The owner of the token is disabled.
    #[error("the owner of the token is disabled")]
    Suspended,
    /// The bearer was signed before its principal lost the right to use it.
    #[error("the bearer is withdrawn")]
    Withdrawn,
    /// The token has expired.
    #[error("the token has expired")]
    TokenExpired,
    /// The credential has expired.
    #[error("the credential has expired")]
    CredentialExpired,
    /// A condition of the token does not hold.
    #[error("{0}")]
    Unmet(#[from] Unmet),
}

impl Denied {
    /// The failure that the caller gets; `unknown` is that of a server or target that does not exist.
    pub fn failure(self, unknown: impl FnOnce() -> Failure) -> Failure {
        match self {
            Self::NotFound | Self::OutOfScope | Self::NotCanonical(_) => unknown(),
            Self::Pending => Failure::Pending,
            Self::Method => Failure::Method,
            Self::Condition(reason) => reason.failure(),
            Self::Rule(RuleDenial { told, error, .. }) => Failure::Rule { told, undecided: error.is_some() },
        }
    }

    /// The failure that the caller gets of a server.
    pub fn of_server(self) -> Failure {
        self.failure(|| Failure::Server)
    }

    /// The failure that the caller gets of a target.
    pub fn of_target(self, named: &NamedTarget<'_>) -> Failure {
        self.failure(|| named.unknown())
    }

    /// The id of the rule that refuses it. Empty: none, or it is not known any more.
    pub fn rule(&self) -> &str {
        if let Self::Rule(denial) = self { &denial.id } else { "" }
    }

    /// The word by which it is recorded. `None`: nothing was refused, there is no such thing.
    pub fn recorded_as(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound | Self::Pending => return None,
            Self::OutOfScope => "out_of_scope",
            Self::NotCanonical(_) => "uri_not_canonical",
            Self::Method => "method_not_allowed",
            Self::Rule(denial) if denial.is_error() => "policy_error",
            Self::Rule(_) => "denied_by_rule",
            Self::Condition(Reason::NoToken) => "token_unknown",
            Self::Condition(Reason::NotNamed) => "certificate_unknown",
            Self::Condition(Reason::Revoked) => "token_revoked",
            Self::Condition(Reason::Suspended) => "owner_disabled",
            Self::Condition(Reason::Withdrawn) => "bearer_withdrawn",
            Self::Condition(Reason::TokenExpired) => "token_expired",
            Self::Condition(Reason::CredentialExpired) => "credential_expired",
            Self::Condition(Reason::Unmet(unmet)) => unmet.reason(),
        })
    }

    /// Logs the refusal of a server, or of a target at it, for whoever asks why a call was refused.
    pub(super) fn log(&self, principal: &Principal, facts: &Facts, server: &str, target: Option<&str>) {
        let [server, target] = [server, target.unwrap_or_default()].map(shorten);
        let address = facts.address.map(display);
        tracing::debug!(
            principal = %principal.name,
            address,
            server,
            target,
            reason = %self,
            "access denied"
        );
    }
}

impl Reason {
    fn failure(self) -> Failure {
        match self {
            Self::NoToken
            | Self::Revoked
            | Self::Suspended
            | Self::Withdrawn
            | Self::TokenExpired
            | Self::CredentialExpired => Failure::Bearer { presented: true },
            Self::NotNamed => Failure::Certificate,
            Self::Unmet(unmet) => Failure::Unmet(unmet),
        }
    }
}

fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_LOGGED)]
}
