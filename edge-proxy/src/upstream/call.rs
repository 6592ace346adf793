//! The stage that calls: chooses the era in which the upstream is spoken to. It must not know the messages of either
//! era.

use std::rc::Rc;
use std::sync::Arc;

use ::mcp::method::Method;
use ::mcp::revision::Era;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::answer_stream::AnswerStream;
use super::connect::Retry;
use super::mcp::{self, Task};
use crate::error::{Failure, Fault};
use crate::identity::Principal;
use crate::policy::Permit;
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
    Events(Box<AnswerStream>),
}

/// Makes a call, in the era of the upstream that suits the client's best.
pub async fn call(mut call: Call<'_>) -> Result<CallResponse, Failure> {
    let upstream = Arc::clone(&call.permit.entry().upstream);
    let context = call.context;
    let era = match &call.task {
        None => upstream.side_for(call.session.era()),
        Some((task, _)) => Some(task.era()).filter(|era| upstream.speaks(*era)),
    };
    let answer = match (call.session, era) {
        (Session::Legacy(conversation), Some(Era::Legacy)) => {
            mcp::same_legacy::call(call, conversation).await
        }
        (Session::Modern(_), Some(Era::Modern)) => mcp::same_modern::call(call).await,
        (Session::Legacy(conversation), Some(Era::Modern)) if call.task.is_none() => {
            mcp::legacy_on_modern::call(call, conversation).await
        }
        (Session::Modern(_), Some(Era::Legacy)) if call.task.is_some() => {
            mcp::modern_on_legacy::call_about_task(call).await
        }
        (Session::Modern(_), Some(Era::Legacy)) => mcp::modern_on_legacy::call(call).await,
        (session, _) => record_outcome(Err(Fault::Era(session.era()).into()), &mut call.account),
    };
    answer.map_err(|error| match error {
        CallError::Upstream(fault) => {
            if let Some(counted) = fault.counts_as() {
                context.environment.metrics.upstream_fault(counted).inc();
            }
            Failure::upstream(&upstream.id, fault)
        }
        CallError::Client(failure) => failure,
    })
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
