//! The answer to a call: told by status and media type, then translated.

use std::rc::Rc;

use bytes::Bytes;
use http::StatusCode;
use mcp::error as codes;
use mcp::json;
use mcp::message::Envelope;
use mcp::revision::Era;

use super::events::Stream;
use super::reply::Media;
use super::source::{Answered, Source};
use super::told::Events;
use super::translate::{Translation, Turn};
use crate::account::Account;
use crate::error::Fault;
use crate::usage::Outcome;
use crate::worker::Worker;

/// The answer to a call.
pub enum Answer {
    /// One message.
    Json {
        /// The status to answer with.
        status: StatusCode,
        /// The message.
        body: Bytes,
    },
    /// A stream of messages, the first of which has come.
    Events(Box<Events>),
}

/// An answer of the upstream as one for the client. The account is settled with it, or handed
/// to the stream.
pub(super) async fn receive(
    worker: &Rc<Worker>,
    answered: Answered,
    mut translation: Translation,
    account: &mut Option<Account>,
    guard: Option<super::follow::Guard>,
) -> Result<Answer, Fault> {
    let reply = match answered {
        Answered::Reply(reply) => reply,
        Answered::Messages(messages) => {
            let source = Source::Channel(messages);
            let mut stream = Stream::begin(worker, source, translation, account, guard).await?;
            return Ok(match stream.only() {
                Some(body) => Answer::Json { status: StatusCode::OK, body },
                None => Answer::Events(Box::new(Events::Upstream(stream))),
            });
        }
    };
    let (status, media) = (reply.status, reply.media());
    if status == StatusCode::OK && media == Media::Events {
        let source = Source::stream(reply, worker.shared.limits.max_event_bytes);
        let stream = Stream::begin(worker, source, translation, account, guard).await?;
        return Ok(Answer::Events(Box::new(Events::Upstream(stream))));
    }
    if media != Media::Json {
        return Err(not_an_answer(status));
    }
    let body = reply.collect(worker.shared.limits.max_answer_bytes).await?;
    if !status.is_success() && !is_error(&body) {
        return Err(Fault::Status(status.as_u16()));
    }
    let modern = translation.client() == Era::Modern;
    match translation.turn(body)? {
        Turn::Last(body, outcome) => {
            if let Some(account) = account {
                account.ended(outcome, body.len());
            }
            let clients_own = modern && outcome == Outcome::ClientError;
            let status = if clients_own { modern_status(&body) } else { StatusCode::OK };
            Ok(Answer::Json { status, body })
        }
        _ => Err(Fault::Malformed("an answer that is no response".to_owned())),
    }
}

pub(super) fn not_an_answer(status: StatusCode) -> Fault {
    match status {
        StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
            Fault::Malformed("it accepted a request without answering it".to_owned())
        }
        status if status.is_success() => {
            Fault::Malformed("the content type is neither JSON nor a stream".to_owned())
        }
        status => Fault::Status(status.as_u16()),
    }
}

pub(super) fn is_error(body: &[u8]) -> bool {
    Envelope::parse(body).is_ok_and(|envelope| envelope.error.is_some())
}

/// A missing capability is the client's own matter and keeps its status; everything else is an answer.
fn modern_status(body: &[u8]) -> StatusCode {
    let envelope = Envelope::parse(body).ok();
    let code =
        envelope.and_then(|envelope| envelope.error).and_then(|error| json::members(error, ["code"]).ok());
    let code = code.and_then(|[code]| code).and_then(|code| code.parse::<i64>().ok());
    if code == Some(codes::MISSING_CAPABILITY) { StatusCode::BAD_REQUEST } else { StatusCode::OK }
}
