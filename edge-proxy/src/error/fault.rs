//! Faults of upstreams in calls: the code, the reason and the message of each.
//!
//! It must not know which failures of a request they lead to.

use mcp::revision::Era;

use super::words::too_many;
use crate::observe::{Bound, UpstreamFault};

/// A fault of an upstream in a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection, TLS included.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// No connection, because the egress rule of the edge of this id allows none of its addresses. Clients are not told which
    /// they are.
    #[error(
        "cannot connect: the egress rule of edge {0} does not allow its address; start that edge with --egress-allow"
    )]
    NotAllowed(Box<str>),
    /// No answer in time.
    #[error("no response in time")]
    Timeout,
    /// The response was interrupted.
    #[error("the response was interrupted")]
    Interrupted,
    /// A status that carries no answer.
    #[error("responded with HTTP {0}")]
    Status(u16),
    /// An answer that breaks the protocol.
    #[error("sent a response that is not valid MCP: {0}")]
    Malformed(String),
    /// An answer or an event past the limit.
    #[error("the response is larger than this edge allows")]
    TooLarge,
    /// An answer for which there is no memory now.
    #[error("the response does not fit into the memory that this edge has left for bodies")]
    OverBudget,
    /// It opens no session.
    #[error("cannot open a session: {0}")]
    Session(String),
    /// A call that waited for its client cannot be continued.
    #[error("the call that waited for this input is lost")]
    Lost {
        /// True if repeating the call does no harm.
        retryable: bool,
    },
    /// Too many calls wait for their clients.
    #[error("{}", too_many(Bound::ParkedCalls, *.of_token))]
    TooManyParkedCalls {
        /// True if the token has its share of them.
        of_token: bool,
    },
    /// It needs a request that this client does not take.
    #[error("needs input that this client cannot give: {0}")]
    InputUnavailable(String),
    /// It does not speak the client's era.
    #[error("does not speak the era of this client ({})", if *.0 == Era::Modern { "2026-07-28 or later" } else { "2025-11-25 or earlier" })]
    Era(Era),
}

impl Fault {
    /// The same without what the upstream sent, which it may quote.
    pub fn unquoted(self) -> Self {
        match self {
            Self::Malformed(_) => Self::Malformed("what it sent is masked".to_owned()),
            other => other,
        }
    }

    /// The `data.reason` of the error.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Connect(_) => "upstream_unreachable",
            Self::NotAllowed(_) => "upstream_not_allowed",
            Self::Timeout => "upstream_timeout",
            Self::Interrupted => "upstream_interrupted",
            Self::Status(_) => "upstream_status",
            Self::Malformed(_) => "upstream_malformed",
            Self::TooLarge => "upstream_answer_too_large",
            Self::OverBudget => "body_memory",
            Self::Session(_) => "upstream_session",
            Self::Era(_) => "upstream_era",
            Self::Lost { .. } => "upstream_call_lost",
            Self::TooManyParkedCalls { .. } => "too_many_parked_calls",
            Self::InputUnavailable(_) => "input_unavailable",
        }
    }

    /// The code of the JSON-RPC error.
    pub(super) fn code(&self) -> i64 {
        match self {
            Self::Connect(_) => -31101,
            Self::Timeout => -31102,
            Self::Interrupted => -31103,
            Self::Status(_) => -31104,
            Self::Malformed(_) => -31105,
            Self::TooLarge => -31106,
            Self::Session(_) => -31107,
            Self::Era(_) => -31108,
            Self::Lost { .. } => -31109,
            Self::TooManyParkedCalls { .. } => -31110,
            Self::InputUnavailable(_) => -31111,
            Self::OverBudget => -31112,
            Self::NotAllowed(_) => -31113,
        }
    }

    /// The label in metrics; `None` where the upstream did nothing wrong.
    pub fn counts_as(&self) -> Option<UpstreamFault> {
        Some(match self {
            Self::Connect(_) | Self::NotAllowed(_) => UpstreamFault::Connect,
            Self::Timeout => UpstreamFault::Timeout,
            Self::Interrupted => UpstreamFault::Interrupted,
            Self::Status(_) => UpstreamFault::Status,
            Self::Malformed(_) => UpstreamFault::Malformed,
            Self::TooLarge => UpstreamFault::TooLarge,
            Self::Session(_) => UpstreamFault::Session,
            Self::Lost { .. } => UpstreamFault::Lost,
            Self::Era(_) | Self::OverBudget | Self::TooManyParkedCalls { .. } | Self::InputUnavailable(_) => {
                return None;
            }
        })
    }
}
