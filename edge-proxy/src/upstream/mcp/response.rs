//! Reads the response to a call: its status and media type, and its translated messages. It must not know how it is
//! sent to the client.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use mcp::error as codes;
use mcp::json;
use mcp::message::{Envelope, Kind};
use mcp::revision::Era;
use mcp::sse::Decoder;

use super::in_flight::InFlightGuard;
use super::message_source::{MessageSource, RawResponse};
use super::translator::{Translated, Translator};
use super::upstream_stream::UpstreamStream;
use crate::error::Fault;
use crate::upstream::Context;
use crate::upstream::answer_stream::AnswerStream;
use crate::upstream::call::CallResponse;
use crate::upstream::connect::{HttpResponse, MediaType};
use crate::usage::{Account, Outcome};

/// Largest response to a request that is not a client's call.
const MAX_SMALL_RESPONSE: usize = 256 << 10;

/// The response to a call, translated for its client.
pub(super) enum TranslatedResponse<T: Translator> {
    /// One message.
    Json {
        /// The status for the client.
        status: StatusCode,
        body: Bytes,
    },
    /// A stream of messages, the first of which was read.
    Events(Box<UpstreamStream<T>>),
}

impl<T: Translator> From<TranslatedResponse<T>> for CallResponse
where
    AnswerStream: From<Box<UpstreamStream<T>>>,
{
    fn from(response: TranslatedResponse<T>) -> Self {
        match response {
            TranslatedResponse::Json { status, body } => Self::Json { status, body },
            TranslatedResponse::Events(stream) => Self::Events(stream.into()),
        }
    }
}

/// Reads an upstream's response into one for the client. The account is settled with it, or handed to the stream.
pub(super) async fn read_response<T: Translator>(
    context: &Rc<Context>,
    answered: RawResponse,
    mut translator: T,
    account: &mut Option<Account>,
    guard: Option<InFlightGuard>,
) -> Result<TranslatedResponse<T>, Fault> {
    let response = match answered {
        RawResponse::Http(response) => response,
        RawResponse::Channel(messages) => {
            let source = MessageSource::Channel(messages);
            let mut stream = UpstreamStream::open(context, source, translator, account, guard).await?;
            return Ok(match stream.take_sole_response() {
                Some(body) => TranslatedResponse::Json { status: StatusCode::OK, body },
                None => TranslatedResponse::Events(Box::new(stream)),
            });
        }
    };
    let (status, media) = (response.status, response.media_type());
    if status == StatusCode::OK && media == MediaType::Events {
        let source = MessageSource::event_stream(response, context.environment.limits.max_event_bytes);
        let stream = UpstreamStream::open(context, source, translator, account, guard).await?;
        return Ok(TranslatedResponse::Events(Box::new(stream)));
    }
    if media != MediaType::Json {
        return Err(unexpected_response(status));
    }
    let body = response.collect(context.environment.limits.max_answer_bytes).await?;
    if !status.is_success() && !is_error_response(&body) {
        return Err(Fault::Status(status.as_u16()));
    }
    let Translated::Response(body, outcome) = translator.translate(body)? else {
        return Err(Fault::Malformed("a message that is not a response".to_owned()));
    };
    if let Some(account) = account {
        account.ended(outcome, body.len());
    }
    let clients_own = T::CLIENT_ERA == Era::Modern && outcome == Outcome::ClientError;
    let status = if clients_own { modern_status(&body) } else { StatusCode::OK };
    Ok(TranslatedResponse::Json { status, body })
}

pub(super) fn unexpected_response(status: StatusCode) -> Fault {
    match status {
        StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
            Fault::Malformed("it accepted a request without responding to it".to_owned())
        }
        status if status.is_success() => {
            Fault::Malformed("the content type is neither JSON nor a stream".to_owned())
        }
        status => Fault::Status(status.as_u16()),
    }
}

pub(super) fn is_error_response(body: &[u8]) -> bool {
    Envelope::parse(body).is_ok_and(|envelope| envelope.error.is_some())
}

/// Reads the JSON-RPC response in an HTTP response, be it JSON or a stream, within the timeout.
pub(super) async fn read_rpc_response(mut response: HttpResponse) -> Result<Bytes, Fault> {
    if !response.status.is_success() {
        return Err(Fault::Status(response.status.as_u16()));
    }
    if response.media_type() != MediaType::Events {
        return response.collect(MAX_SMALL_RESPONSE).await;
    }
    let mut decoder = Decoder::new(MAX_SMALL_RESPONSE);
    let begun = Instant::now();
    while let Some(chunk) = response.chunk_since(begun).await? {
        decoder.push(chunk);
        while let Some(event) = decoder.next().map_err(|_| Fault::TooLarge)? {
            let answers =
                Envelope::parse(&event.data).is_ok_and(|envelope| envelope.kind() == Kind::Response);
            if answers {
                return Ok(event.data);
            }
        }
    }
    Err(Fault::Interrupted)
}

/// Returns the status of an error: a missing capability is the client's fault and keeps its status, others are
/// responses.
fn modern_status(body: &[u8]) -> StatusCode {
    let envelope = Envelope::parse(body).ok();
    let code =
        envelope.and_then(|envelope| envelope.error).and_then(|error| json::members(error, ["code"]).ok());
    let code = code.and_then(|[code]| code).and_then(|code| code.parse::<i64>().ok());
    if code == Some(codes::MISSING_CAPABILITY) { StatusCode::BAD_REQUEST } else { StatusCode::OK }
}
