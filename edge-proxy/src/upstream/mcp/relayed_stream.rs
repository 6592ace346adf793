//! The messages of a call that another task, or another edge, makes.
//!
//! It must not know how they come about.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use mcp::message::{Envelope, Kind};
use mcp::sse;
use tokio::sync::mpsc;

use super::outcome::outcome_of_response;
use crate::error::{ErrorContext, Failure, Fault};
use crate::snapshot::Upstream;
use crate::upstream::Context;
use crate::usage::{Account, Outcome};

/// One message of a relayed call.
pub(super) struct RelayedMessage {
    /// The message, in the client's words.
    pub message: Bytes,
    /// Whether it is the response.
    pub is_final: bool,
}

/// The source of relayed messages.
pub(super) enum RelaySource {
    /// A task of this worker, which settles the account.
    Task(mpsc::Receiver<RelayedMessage>),
    /// The waiter that holds the call, maybe at another edge.
    Waiter(mpsc::Receiver<Bytes>),
}

/// The stream of a relayed call.
pub(in crate::upstream) struct RelayedStream {
    context: Rc<Context>,
    upstream: Arc<Upstream>,
    id: Bytes,
    source: RelaySource,
    first: Option<RelayedMessage>,
    account: Option<Account>,
    done: bool,
}

impl RelayedStream {
    /// Relays the messages of `source` for the request of this raw id, `first` before any other.
    pub(super) fn new(
        context: &Rc<Context>,
        upstream: &Arc<Upstream>,
        id: Bytes,
        source: RelaySource,
        first: Option<RelayedMessage>,
        account: Option<Account>,
    ) -> Self {
        let (context, upstream) = (Rc::clone(context), Arc::clone(upstream));
        Self { context, upstream, id, source, first, account, done: false }
    }

    /// Stops reading, which the task that makes the call takes for a client that hung up.
    pub(in crate::upstream) fn withdraw(&mut self) {
        self.done = true;
        self.source = RelaySource::Task(mpsc::channel(1).1);
        if let Some(account) = &mut self.account {
            account.outcome = Outcome::ClientError;
        }
    }

    /// Whether its last message was read.
    pub(in crate::upstream) fn is_finished(&self) -> bool {
        self.done
    }

    /// Returns the next event as it is written to the client.
    pub(in crate::upstream) async fn next(&mut self) -> Option<Bytes> {
        Some(sse::encode_data(&self.message().await?))
    }

    pub(in crate::upstream) async fn message(&mut self) -> Option<Bytes> {
        let RelayedMessage { message, .. } = self.receive().await?;
        if let Some(account) = &mut self.account {
            account.response_bytes += message.len() as u64;
        }
        Some(message)
    }

    pub(in crate::upstream) async fn final_message(&mut self) -> Option<Bytes> {
        while let Some(message) = self.receive().await {
            if message.is_final {
                return Some(message.message);
            }
        }
        None
    }

    async fn receive(&mut self) -> Option<RelayedMessage> {
        if self.done {
            return None;
        }
        let message = match self.first.take() {
            Some(first) => Some(first),
            None => self.source.next().await,
        };
        let message = match (message, &self.source) {
            (None, RelaySource::Waiter(_)) => Some(self.lost()),
            (message, _) => message,
        };
        self.done = message.as_ref().is_none_or(|message| message.is_final);
        if let (Some(message), Some(account)) = (&message, &mut self.account)
            && message.is_final
        {
            account.outcome = outcome_of_response(&message.message);
        }
        message
    }

    /// Returns the error for a call whose waiter is gone.
    fn lost(&self) -> RelayedMessage {
        let fault = Fault::Lost { retryable: false };
        if let Some(counted) = fault.counts_as() {
            self.context.environment.metrics.upstream_fault(counted).inc();
        }
        let error_context = ErrorContext { id: Some(self.id.clone()), ..ErrorContext::default() };
        RelayedMessage {
            message: Failure::upstream(&self.upstream.id, fault).message(&error_context),
            is_final: true,
        }
    }
}

impl RelaySource {
    /// Returns the next message.
    pub(in crate::upstream) async fn next(&mut self) -> Option<RelayedMessage> {
        match self {
            Self::Task(source) => source.recv().await,
            Self::Waiter(waiter) => {
                let message = waiter.recv().await?;
                let kind = Envelope::parse(&message).ok().map(|envelope| envelope.kind());
                Some(RelayedMessage { message, is_final: kind == Some(Kind::Response) })
            }
        }
    }
}
