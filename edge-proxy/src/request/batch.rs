//! Batches, which only revision 2025-03-26 has: split, answered one by one, and joined again.

use bytes::{BufMut as _, Bytes, BytesMut};
use mcp::message::{Envelope, Kind, split_batch};
use mcp::method::Method;
use mcp::revision::Revision;

use crate::context::RequestContext;
use crate::error::{ErrorContext, Failure};
use crate::respond::{Reply, joined};
use crate::session::Conversation;
use crate::transport::{Message, mended, unreadable};

/// The messages that one batch may hold.
const MAX: usize = 64;

/// Answers all requests of a batch with one array, or with `Accepted` where it has none.
pub(super) async fn messages(
    context: &RequestContext<'_>,
    body: &Bytes,
    conversation: &Conversation,
) -> Result<Reply, Failure> {
    if conversation.revision > Revision::V2025_03_26 {
        return Err(Failure::Invalid("batches are not part of this revision".to_owned()));
    }
    let spans = split_batch(body).map_err(unreadable)?;
    if spans.len() > MAX {
        return Err(Failure::Invalid(format!("the batch is too large; the maximum is {MAX} messages")));
    }
    let mut answers = BytesMut::new();
    for span in spans {
        // Rights may have ended while the messages before it were answered.
        let again = context.authenticate_again()?;
        let context = context.admitted_again(&again)?;
        if let Some(answer) = one(&context, &body.slice(span)).await {
            answers.put_u8(if answers.is_empty() { b'[' } else { b',' });
            answers.put(answer);
        }
    }
    if answers.is_empty() {
        return Ok(Reply::Accepted);
    }
    answers.put_u8(b']');
    Ok(Reply::json([answers.freeze()]))
}

/// Answers one message, if it is a request.
async fn one(context: &RequestContext<'_>, body: &Bytes) -> Option<Bytes> {
    let mut error_context = ErrorContext::default();
    let answered = Box::pin(response_to(context, body, &mut error_context)).await;
    match answered {
        Ok(message) => message,
        Err(failure) => Some(failure.message(&error_context)),
    }
}

async fn response_to(
    context: &RequestContext<'_>,
    body: &Bytes,
    error_context: &mut ErrorContext,
) -> Result<Option<Bytes>, Failure> {
    let meant;
    let (body, envelope) = match Envelope::parse(body) {
        Ok(envelope) => (body, envelope),
        Err(error) => {
            meant = mended(body, error, error_context)?;
            (&meant, Envelope::parse(&meant).map_err(unreadable)?)
        }
    };
    let message = Message::new(body, envelope, error_context)?;
    if message.method == Some(Method::Initialize) {
        return Err(Failure::Invalid("initialize must not be part of a batch".to_owned()));
    }
    let wants_answer = message.kind() == Kind::Request;
    let answer = match super::message(context, message, error_context).await? {
        Reply::Json { parts, .. } => Some(joined(parts)),
        Reply::Events(events) => events.last().await,
        _ => None,
    };
    Ok(answer.filter(|_| wants_answer))
}
