//! Delivery of batches to a control plane: one after the other on a stream, each until it is acknowledged, and stored once.
//!
//! It must not know what is in a batch, nor what becomes of what is not delivered.

use std::fmt;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::snapshot::client::Link;

/// How long a control plane may take to acknowledge a batch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is delivered at once.
pub trait Batch: fmt::Debug + Clone + Send + 'static {
    /// What acknowledges it.
    type Answer: fmt::Debug + Send + 'static;

    /// The run of the edge that it is of: acknowledgements name none.
    fn run_id(&self) -> &str;

    /// Its number in its run.
    fn sequence(&self) -> i64;

    /// Up to which batch an answer acknowledges, and how many records were set aside.
    fn acknowledged(answer: &Self::Answer) -> (i64, i64);

    /// Opens a stream of batches.
    fn open(
        link: &Link,
        batches: ReceiverStream<Self>,
    ) -> impl Future<Output = Result<Streaming<Self::Answer>, Status>> + Send;
}

/// What has batches to deliver.
pub trait Outbox {
    /// What it delivers.
    type Batch: Batch;

    /// The batch that is to be sent, or sent again: it never changes once it was sent. `None`: there is none.
    fn next(&mut self) -> Option<Self::Batch>;

    /// A batch is stored but for so many records, which were set aside.
    fn stored(&mut self, batch: &Self::Batch, set_aside: u64);

    /// A control plane will never take a batch.
    fn refused(&mut self, batch: &Self::Batch, status: &Status);

    /// A batch was not delivered, and is to be sent again. `None`: it was not acknowledged in time.
    fn failed(&self, status: Option<&Status>);
}

/// The stream on which batches are delivered, if it is open.
#[derive(Debug)]
pub struct BatchDelivery<B: Batch>(Option<OpenDelivery<B>>);

#[derive(Debug)]
struct OpenDelivery<B: Batch> {
    run_id: String,
    out: mpsc::Sender<B>,
    answers: Streaming<B::Answer>,
}

impl<B: Batch> Default for BatchDelivery<B> {
    fn default() -> Self {
        Self(None)
    }
}

impl<B: Batch> BatchDelivery<B> {
    /// Sends batch after batch, each when the one before is stored, until none waits or one fails. Returns whether some were, and none
    /// waits.
    pub async fn deliver(&mut self, outbox: &mut impl Outbox<Batch = B>, link: &Link) -> bool {
        let mut delivered = false;
        while let Some(batch) = outbox.next() {
            let sent = timeout(TIMEOUT, self.send(link, batch.clone())).await;
            if !matches!(sent, Ok(Ok(_))) {
                self.0 = None;
            }
            match sent {
                Ok(Ok(set_aside)) => outbox.stored(&batch, set_aside),
                Ok(Err(status)) if is_final(&status) => outbox.refused(&batch, &status),
                Ok(Err(status)) => {
                    outbox.failed(Some(&status));
                    return false;
                }
                Err(_) => {
                    outbox.failed(None);
                    return false;
                }
            }
            delivered = true;
        }
        delivered
    }

    /// Sends a batch and waits until it is stored. Returns how many of its records were set aside.
    async fn send(&mut self, link: &Link, batch: B) -> Result<u64, Status> {
        let sequence = batch.sequence();
        let closed = || Status::unavailable("the control plane ended the stream");
        let stream = match &mut self.0 {
            Some(open) if open.run_id == batch.run_id() => {
                open.out.send(batch).await.map_err(|_| closed())?;
                open
            }
            other => other.insert(OpenDelivery::open(link, batch).await?),
        };
        loop {
            let answer = stream.answers.message().await?.ok_or_else(closed)?;
            let (acknowledged, set_aside) = B::acknowledged(&answer);
            if acknowledged >= sequence {
                return Ok(u64::try_from(set_aside).unwrap_or(0));
            }
        }
    }
}

impl<B: Batch> OpenDelivery<B> {
    /// Opens a stream with its first batch, because a server may answer only when it has seen one.
    async fn open(link: &Link, first: B) -> Result<Self, Status> {
        let run_id = first.run_id().to_owned();
        let (out, outgoing) = mpsc::channel(1);
        let closed = |_| Status::internal("the stream ended before it began");
        out.send(first).await.map_err(closed)?;
        let answers = B::open(link, ReceiverStream::new(outgoing)).await?;
        Ok(Self { run_id, out, answers })
    }
}

/// Returns whether a control plane will never take a batch: sent again, it would keep those behind it waiting for ever.
fn is_final(status: &Status) -> bool {
    let is_too_large = || status.get_details_error_info().is_some_and(|info| info.reason == "BODY_TOO_LARGE");
    matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) || is_too_large()
}
