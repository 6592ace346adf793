//! Batches, which only revision 2025-03-26 has: taken apart, answered one by one, and gathered again.

use bytes::{BufMut as _, Bytes, BytesMut};
use mcp::message::{Envelope, Kind, split_batch};
use mcp::method::Method;
use mcp::revision::Revision;

use crate::error::{Asked, Failure};
use crate::respond::{Reply, joined};
use crate::scene::Scene;
use crate::session::Conversation;
use crate::transport::{Message, unreadable};

/// Messages that one batch may hold.
const MAX: usize = 64;

/// The answers to all requests of a batch, as an array; `Accepted` where it has none.
pub(super) async fn messages(
    scene: &Scene<'_>,
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
    let mut gathered = BytesMut::new();
    for span in spans {
        if let Some(answer) = one(scene, &body.slice(span)).await {
            gathered.put_u8(if gathered.is_empty() { b'[' } else { b',' });
            gathered.put(answer);
        }
    }
    if gathered.is_empty() {
        return Ok(Reply::Accepted);
    }
    gathered.put_u8(b']');
    Ok(Reply::json([gathered.freeze()]))
}

/// The answer to one message; none to what asks for none.
async fn one(scene: &Scene<'_>, body: &Bytes) -> Option<Bytes> {
    let mut asked = Asked::default();
    let answered = Box::pin(answer(scene, body, &mut asked)).await;
    match answered {
        Ok(message) => message,
        Err(failure) => Some(failure.message(&asked)),
    }
}

async fn answer(scene: &Scene<'_>, body: &Bytes, asked: &mut Asked) -> Result<Option<Bytes>, Failure> {
    let message = Message::new(body, Envelope::parse(body).map_err(unreadable)?)?;
    asked.id = message.envelope.id.map(|id| message.slice(id));
    if message.method == Some(Method::Initialize) {
        return Err(Failure::Invalid("initialize must not be part of a batch".to_owned()));
    }
    let wants_answer = message.kind() == Kind::Request;
    let answer = match super::message(scene, message, asked).await? {
        Reply::Json { parts, .. } => Some(joined(parts)),
        Reply::Events(events) => events.last().await,
        _ => None,
    };
    Ok(answer.filter(|_| wants_answer))
}
