//! The stream of a call as its client reads it: straight from the upstream, or told by whoever carries the call on.
//!
//! It must not know how calls are carried on.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use mcp::message::{Envelope, Kind};
use mcp::sse;
use tokio::sync::mpsc;

use super::events::Stream;
use super::translate::{is_tool_error, outcome_of};
use crate::account::Account;
use crate::error::{Asked, Failure, Fault};
use crate::snapshot::Upstream;
use crate::usage::Outcome;
use crate::worker::Worker;

/// A call's stream.
#[expect(clippy::large_enum_variant, reason = "it is boxed as a whole")]
pub enum Events {
    /// As it comes from the upstream.
    Upstream(Stream),
    /// As it is told by a task of this worker, or by another edge.
    Told(Told),
}

impl Events {
    /// The next event as it is written to the client, or `None` at the end. The future may be dropped and made anew.
    pub async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Upstream(stream) => stream.next().await,
            Self::Told(told) => told.next().await,
        }
    }

    /// The next message, or `None` at the end, for a client that is sent messages and no events.
    pub async fn message(&mut self) -> Option<Bytes> {
        match self {
            Self::Upstream(stream) => stream.message().await,
            Self::Told(told) => told.message().await,
        }
    }

    /// Whether everything was told.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Upstream(stream) => stream.is_told(),
            Self::Told(told) => told.done,
        }
    }

    /// Ends a call that its caller may not make any more: nothing of it is told from now on.
    pub fn withdraw(&mut self) {
        match self {
            Self::Upstream(stream) => stream.withdraw(),
            Self::Told(told) => told.withdraw(),
        }
    }

    /// The answer alone, for a client that cannot be sent events.
    pub async fn last(&mut self) -> Option<Bytes> {
        match self {
            Self::Upstream(stream) => stream.last().await,
            Self::Told(told) => told.last().await,
        }
    }
}

/// One message of a call that somebody carries on.
pub(super) struct Said {
    /// The message, as the client is to have it.
    pub message: Bytes,
    /// Whether it is the answer.
    pub last: bool,
}

/// Where messages come from.
pub(super) enum Teller {
    /// A task of this worker, which answers for the account.
    Here(mpsc::Receiver<Said>),
    /// The holder of the call, maybe at another edge.
    Holder(mpsc::Receiver<Bytes>),
}

/// What somebody tells of a call.
pub struct Told {
    worker: Rc<Worker>,
    upstream: Arc<Upstream>,
    id: Bytes,
    teller: Teller,
    first: Option<Said>,
    account: Option<Account>,
    done: bool,
}

impl Told {
    /// What `teller` tells of the request with this raw id, `first` before anything else.
    pub(super) fn new(
        worker: &Rc<Worker>,
        upstream: &Arc<Upstream>,
        id: Bytes,
        teller: Teller,
        first: Option<Said>,
        account: Option<Account>,
    ) -> Self {
        let (worker, upstream) = (Rc::clone(worker), Arc::clone(upstream));
        Self { worker, upstream, id, teller, first, account, done: false }
    }

    /// Hears no more of the call, which whoever carries it on takes for the client's going away.
    fn withdraw(&mut self) {
        self.done = true;
        self.teller = Teller::Here(mpsc::channel(1).1);
        if let Some(account) = &mut self.account {
            account.outcome = Outcome::ClientError;
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        Some(sse::encode_data(&self.message().await?))
    }

    async fn message(&mut self) -> Option<Bytes> {
        let said = self.hear().await?;
        if let Some(account) = &mut self.account {
            account.response_bytes += said.message.len() as u64;
        }
        Some(said.message)
    }

    async fn last(&mut self) -> Option<Bytes> {
        while let Some(said) = self.hear().await {
            if said.last {
                return Some(said.message);
            }
        }
        None
    }

    async fn hear(&mut self) -> Option<Said> {
        if self.done {
            return None;
        }
        let said = match self.first.take() {
            Some(first) => Some(first),
            None => self.teller.next().await,
        };
        let said = match (said, &self.teller) {
            (None, Teller::Holder(_)) => Some(self.lost()),
            (said, _) => said,
        };
        self.done = said.as_ref().is_none_or(|said| said.last);
        if let (Some(said), Some(account)) = (&said, &mut self.account)
            && said.last
        {
            account.outcome = outcome(&said.message);
        }
        said
    }

    /// The holder has gone, and the call with it.
    fn lost(&self) -> Said {
        let fault = Fault::Lost { retryable: false };
        if let Some(counted) = fault.counts_as() {
            self.worker.shared.metrics.upstream_fault(counted).inc();
        }
        let asked = Asked { id: Some(self.id.clone()), ..Asked::default() };
        Said { message: Failure::upstream(&self.upstream.id, fault).message(&asked), last: true }
    }
}

impl Teller {
    /// What is said next.
    pub(super) async fn next(&mut self) -> Option<Said> {
        match self {
            Self::Here(teller) => teller.recv().await,
            Self::Holder(holder) => {
                let message = holder.recv().await?;
                let kind = Envelope::parse(&message).ok().map(|envelope| envelope.kind());
                Some(Said { message, last: kind == Some(Kind::Response) })
            }
        }
    }
}

/// How an answer counts.
pub(super) fn outcome(message: &[u8]) -> Outcome {
    let Ok(envelope) = Envelope::parse(message) else { return Outcome::UpstreamError };
    let code = envelope.error.map(|error| mcp::json::members(error, ["code"]).unwrap_or_default());
    match (envelope.result, code) {
        (Some(result), _) if is_tool_error(result) => Outcome::ToolError,
        (Some(_), _) => Outcome::Ok,
        (None, Some([Some(code)])) => outcome_of(code.parse().unwrap_or_default()),
        _ => Outcome::UpstreamError,
    }
}
