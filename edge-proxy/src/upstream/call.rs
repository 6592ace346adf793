//! A call of a client at an upstream, and its response. It must not know kinds of upstreams.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mcp::method::Method;

use super::answer_stream::AnswerStream;
use super::connect::Retry;
use super::mcp::Task;
use crate::error::{Failure, Fault};
use crate::identity::Principal;
use crate::policy::{Permit, SharedPermit};
use crate::session::Session;
use crate::snapshot::{Server, Trust};
use crate::transport::Message;
use crate::upstream::Context;
use crate::usage::{Account, Outcome};

/// A call that may be made.
pub struct Call<'a> {
    /// The context of the worker that makes it.
    pub context: &'a Rc<Context>,
    /// The keys that handles are sealed with.
    pub trust: &'a Arc<Trust>,
    pub server: &'a Arc<Server>,
    pub principal: &'a Arc<Principal>,
    pub session: &'a Session,
    /// Its HTTP headers, where its transport has any.
    pub headers: Option<&'a HeaderMap>,
    pub message: &'a Message<'a>,
    /// A method that calls an upstream.
    pub method: Method,
    /// The name or URI that the client wrote.
    pub named: &'a crate::route::NamedTarget<'a>,
    /// The task that it concerns, and the raw id that the client named it by.
    pub task: Option<(Task, &'a str)>,
    pub permit: Permit,
    /// The same, for what goes on after the request.
    pub active: SharedPermit,
    /// The usage account that it is counted in.
    pub account: Option<Account>,
}

/// The response to a call.
pub enum CallResponse {
    /// One message.
    Json {
        /// The status for the client.
        status: StatusCode,
        body: Bytes,
    },
    /// A stream of messages, the first of which was read.
    Events(AnswerStream),
}

/// A call without a response.
#[derive(Debug)]
pub(super) enum CallError {
    /// The upstream failed.
    Upstream(Fault),
    /// The client's request cannot be sent on.
    Client(Failure),
}

/// Records the outcome of an error in an account that no response has taken.
pub(super) fn record_outcome<T, E: HasOutcome>(
    answered: Result<T, E>,
    account: &mut Option<Account>,
) -> Result<T, E> {
    if let (Err(error), Some(account)) = (&answered, account) {
        account.outcome = error.outcome();
    }
    answered
}

/// An error that counts as an outcome.
pub(super) trait HasOutcome {
    fn outcome(&self) -> Outcome;
}

impl HasOutcome for Fault {
    fn outcome(&self) -> Outcome {
        Outcome::UpstreamError
    }
}

impl HasOutcome for CallError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Upstream(_) => Outcome::UpstreamError,
            Self::Client(_) => Outcome::ClientError,
        }
    }
}

impl From<Fault> for CallError {
    fn from(fault: Fault) -> Self {
        Self::Upstream(fault)
    }
}

impl Call<'_> {
    /// Whether sending it twice has the effect of sending it once.
    pub(super) fn is_safe(&self) -> bool {
        match self.method {
            Method::ToolsCall => self.permit.entry().tool.safe_to_repeat,
            Method::TasksUpdate => false,
            _ => true,
        }
    }

    /// Whether a connection may send it again.
    pub(super) fn retry(&self) -> Retry {
        if self.is_safe() { Retry::Safe } else { Retry::IfUnsent }
    }

    /// The raw id of the client's request.
    pub fn id(&self) -> Bytes {
        self.message.envelope.id.map_or_else(Bytes::new, |id| self.message.slice(id))
    }
}
