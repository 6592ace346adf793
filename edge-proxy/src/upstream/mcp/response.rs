//! Reads the response to a call: its status and media type, and its translated messages. It must not know how it is
//! sent to the client.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use mcp::border::body::sniff;
use mcp::border::events::{Take, events_of, take};
use mcp::border::{Media, Peer, mend};
use mcp::error as codes;
use mcp::json;
use mcp::message::{Envelope, EnvelopeError, Kind};
use mcp::revision::Era;
use mcp::session_loss::{Ending, Refusal};
use mcp::sse::Event;

use super::event_stream::EventStream;
use super::in_flight::InFlightGuard;
use super::incoming::{self, ResponsePlace};
use super::message_source::{MessageSource, RawResponse};
use super::session::is_no_answer;
use super::translator::{Translated, Translator};
use super::upstream_stream::UpstreamStream;
use crate::error::Fault;
use crate::upstream::Context;
use crate::upstream::answer_stream::AnswerStream;
use crate::upstream::call::CallResponse;
use crate::upstream::connect::HttpResponse;
use crate::upstream::quirk_sink::QuirkSink;
use crate::usage::{Account, Outcome};

/// Largest response to a request that is not a client's call.
const MAX_SMALL_RESPONSE: usize = 256 << 10;
/// The raw id of the handshake. Other responses are read by their place, and not by their id.
const HANDSHAKE_ID: &str = "1";
const NO_RESPONSE: &str = "it accepted a request without responding to it";
/// Longest wait for a text that says why a call is refused.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

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

/// A call that the upstream refused, or did not answer.
pub(super) struct FailedCall<T> {
    /// How it ended.
    pub ending: Ending,
    /// The translator, for the case that the call is made again.
    pub translator: T,
}

/// Reads an upstream's response into one for the client. The account is settled with it, or handed to the stream.
pub(super) async fn read_response<T: Translator + Clone>(
    context: &Rc<Context>,
    answered: RawResponse,
    translator: T,
    account: &mut Option<Account>,
    guard: Option<InFlightGuard>,
) -> Result<TranslatedResponse<T>, Fault> {
    read_repeatable(context, answered, translator, account, guard).await.0
}

/// Reads a response as [`read_response`] does. If the upstream refused the call before the client was sent anything, be it by
/// a status or by an error, or did not answer it, returns how it ended: the session may be lost. The account is then left to the
/// caller, settled, so that the call can be made again.
pub(super) async fn read_repeatable<T: Translator + Clone>(
    context: &Rc<Context>,
    answered: RawResponse,
    translator: T,
    account: &mut Option<Account>,
    guard: Option<InFlightGuard>,
) -> (Result<TranslatedResponse<T>, Fault>, Option<FailedCall<T>>) {
    match answered {
        RawResponse::Channel(messages) => {
            let source = MessageSource::Channel(messages);
            (read_stream(context, source, translator, account, guard).await, None)
        }
        RawResponse::Http(response) => match open(context, response).await {
            Ok(OpenedResponse::Events(source)) => {
                read_events(context, source, translator, account, guard).await
            }
            Ok(OpenedResponse::Message(message)) => read_message(context, message, translator, account),
            Err(no_response) => {
                let failed = no_response.ending().map(|ending| FailedCall { ending, translator });
                (Err(no_response.fault), failed)
            }
        },
    }
}

/// Reads messages that come in order, the first of which may be awaited.
pub(super) async fn read_stream<T: Translator>(
    context: &Rc<Context>,
    source: MessageSource,
    translator: T,
    account: &mut Option<Account>,
    guard: Option<InFlightGuard>,
) -> Result<TranslatedResponse<T>, Fault> {
    let mut stream = Box::new(UpstreamStream::new(context, Some(source), translator, guard));
    stream.begin(account).await.0?;
    Ok(match stream.take_sole_response() {
        Some(body) => TranslatedResponse::Json { status: StatusCode::OK, body },
        None => TranslatedResponse::Events(stream),
    })
}

async fn read_events<T: Translator + Clone>(
    context: &Rc<Context>,
    source: MessageSource,
    translator: T,
    account: &mut Option<Account>,
    guard: Option<InFlightGuard>,
) -> (Result<TranslatedResponse<T>, Fault>, Option<FailedCall<T>>) {
    let mut stream = Box::new(UpstreamStream::new(context, Some(source), translator, guard));
    let (begun, refusal) = stream.begin(account).await;
    let ending = match (refusal, &begun) {
        (Some(refusal), _) => Some(Ending::Refused(refusal)),
        (None, Err(fault)) if is_no_answer(fault) => Some(Ending::Unanswered),
        (None, _) => None,
    };
    let failed = ending.map(|ending| FailedCall { ending, translator: stream.translator.clone() });
    if let Err(fault) = begun {
        return (Err(fault), failed);
    }
    if failed.is_some()
        && let Some(body) = stream.take_sole_response()
    {
        *account = stream.account.take();
        let status = StatusCode::OK;
        return (Ok(TranslatedResponse::Json { status, body }), failed);
    }
    (Ok(TranslatedResponse::Events(stream)), None)
}

fn read_message<T: Translator>(
    context: &Context,
    OpenedMessage { status, mut body, place }: OpenedMessage,
    mut translator: T,
    account: &mut Option<Account>,
) -> (Result<TranslatedResponse<T>, Fault>, Option<FailedCall<T>>) {
    let translated = incoming::translate_body(context, &mut translator, &mut body, place);
    let failed = ending_of(&translated, status, &body).map(|ending| FailedCall { ending, translator });
    let (body, outcome) = match translated {
        Ok(Translated::Response(body, outcome)) => (body, outcome),
        Ok(_) => return (Err(Fault::Malformed("a message that is not a response".to_owned())), failed),
        Err(fault) => return (Err(fault), failed),
    };
    if let Some(account) = account {
        account.ended(outcome, body.len());
    }
    let clients_own = T::CLIENT_ERA == Era::Modern && outcome == Outcome::ClientError;
    let status = if clients_own { modern_status(&body) } else { StatusCode::OK };
    (Ok(TranslatedResponse::Json { status, body }), failed)
}

/// How a call ended whose response is this message, if it failed.
#[inline]
fn ending_of(translated: &Result<Translated, Fault>, status: StatusCode, body: &[u8]) -> Option<Ending> {
    match translated {
        Ok(Translated::Response(..)) if !is_refusal(translated) => None,
        _ => ending_of_failed(translated, status, body),
    }
}

#[cold]
fn ending_of_failed(
    translated: &Result<Translated, Fault>,
    status: StatusCode,
    body: &[u8],
) -> Option<Ending> {
    if is_refusal(translated) && is_error_response(body) {
        return Some(Ending::Refused(Refusal::read(status.as_u16(), body)));
    }
    let is_unanswered = match translated {
        Ok(Translated::Response(..)) => false,
        Ok(_) => true,
        Err(fault) => is_no_answer(fault),
    };
    is_unanswered.then_some(Ending::Unanswered)
}

/// Whether a message may be an error with which the upstream refuses a call.
pub(super) fn is_refusal(translated: &Result<Translated, Fault>) -> bool {
    match translated {
        Ok(Translated::Response(_, outcome)) => {
            matches!(outcome, Outcome::ClientError | Outcome::UpstreamError)
        }
        Ok(_) => false,
        Err(fault) => matches!(fault, Fault::Malformed(_)),
    }
}

/// The response to a call, whose head was read.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum OpenedResponse {
    /// One message.
    Message(OpenedMessage),
    /// A stream of messages.
    Events(MessageSource),
}

/// A response that is one message.
pub(super) struct OpenedMessage {
    status: StatusCode,
    pub body: Bytes,
    /// Where it came.
    pub place: ResponsePlace,
}

impl OpenedMessage {
    fn new(response: &HttpResponse, body: Bytes) -> Self {
        let place = if response.is_reused() { ResponsePlace::Shared } else { ResponsePlace::Body };
        Self { status: response.status, body, place }
    }
}

/// A response that carries no message.
pub(super) struct NoResponse {
    pub fault: Fault,
    /// The status and the text with which the upstream refused the call.
    refused_with: Option<(StatusCode, Bytes)>,
}

impl NoResponse {
    /// How the call ended, where that may be for its session.
    #[cold]
    fn ending(&self) -> Option<Ending> {
        match &self.refused_with {
            Some((status, text)) => Some(Ending::read(status.as_u16(), text)),
            None => is_no_answer(&self.fault).then_some(Ending::Unanswered),
        }
    }
}

impl From<Fault> for NoResponse {
    fn from(fault: Fault) -> Self {
        Self { fault, refused_with: None }
    }
}

/// Reads what a response to a call carries.
pub(super) async fn open(
    context: &Context,
    mut response: HttpResponse,
) -> Result<OpenedResponse, NoResponse> {
    let limits = &context.environment.limits;
    let status = response.status;
    if !status.is_success() {
        return open_refusal(response, limits.max_answer_bytes).await;
    }
    match response.media().await? {
        Some(Media::Json) => {
            let body = response.read(limits.max_answer_bytes).await?;
            Ok(OpenedResponse::Message(OpenedMessage::new(&response, body)))
        }
        Some(Media::Events) => {
            Ok(OpenedResponse::Events(MessageSource::event_stream(response, limits.max_event_bytes)))
        }
        None => Err(unlabelled(&response).into()),
    }
}

/// The fault of a body that is neither JSON nor events.
#[cold]
fn unlabelled(response: &HttpResponse) -> Fault {
    let first = response.first_bytes();
    if first.trim_ascii().is_empty() {
        return Fault::Malformed(NO_RESPONSE.to_owned());
    }
    let quirks = response.quirks();
    let label = response.content_type().unwrap_or_default();
    let (label, says) = (quirks.quote(label), quirks.quote(first));
    Fault::Malformed(format!("the content type is \"{label}\"; it says \"{says}\""))
}

/// Reads a response whose status is no success: an error of JSON-RPC, or a text.
#[cold]
async fn open_refusal(mut response: HttpResponse, limit: usize) -> Result<OpenedResponse, NoResponse> {
    let status = response.status;
    let text = match response.label() {
        Some(Media::Json) if response.media().await? == Some(Media::Json) => response.read(limit).await?,
        _ => {
            // What it says is a help, and no more.
            response.set_timeout(response.timeout().min(REFUSAL_TIMEOUT));
            response.read_what_comes(MAX_SMALL_RESPONSE).await
        }
    };
    let message = refusal_of(&text, response.quirks());
    if is_error_response(&message) {
        return Ok(OpenedResponse::Message(OpenedMessage::new(&response, message)));
    }
    let fault = Fault::Status(status.as_u16());
    Err(NoResponse { fault, refused_with: Some((status, text)) })
}

/// Returns the error that the text of a refusal is, or that an event in it carries.
fn refusal_of(text: &Bytes, quirks: &QuirkSink) -> Bytes {
    if sniff(text) != Some(Media::Events) {
        return readable(text.clone(), quirks);
    }
    let in_event = |event: Event| match take(&event) {
        Take::Message(_) => Some(readable(event.data, quirks)).filter(|message| is_error_response(message)),
        Take::Nothing | Take::Odd(_) => None,
    };
    events_of(text).find_map(in_event).unwrap_or_default()
}

/// Returns the message that a body carries, mended where it has one meaning; a body that cannot be read is returned as it is.
fn readable(body: Bytes, quirks: &QuirkSink) -> Bytes {
    match Envelope::parse(&body) {
        Ok(_) => body,
        Err(error) => mended(&body, error, quirks).unwrap_or(body),
    }
}

#[cold]
fn mended(message: &Bytes, error: EnvelopeError, quirks: &QuirkSink) -> Option<Bytes> {
    let mended = mend(message, error, Peer::Server { open: Some(HANDSHAKE_ID) }).ok()?;
    quirks.note_all(mended.quirks, message);
    Some(mended.message)
}

pub(super) fn is_error_response(body: &[u8]) -> bool {
    Envelope::parse(body).is_ok_and(|envelope| envelope.error.is_some())
}

/// Reads the JSON-RPC response in an HTTP response, be it JSON or a stream, within the timeout.
pub(super) async fn read_rpc_response(response: HttpResponse) -> Result<Bytes, Fault> {
    if !response.status.is_success() {
        return Err(Fault::Status(response.status.as_u16()));
    }
    read_rpc_body(response, MAX_SMALL_RESPONSE).await
}

/// Reads the body of an HTTP response of any status or, of a stream, the first JSON-RPC response, within the timeout. What has
/// one meaning is mended; a response without an id gets 1, that of the handshake.
pub(super) async fn read_rpc_body(mut response: HttpResponse, limit: usize) -> Result<Bytes, Fault> {
    if response.media().await? == Some(Media::Events) {
        return read_response_event(response, limit).await;
    }
    let body = response.read(limit).await?;
    Ok(readable(body, response.quirks()))
}

/// Reads the first response of a stream, within the timeout. Where there is none, returns the last message that came in its
/// place.
async fn read_response_event(response: HttpResponse, limit: usize) -> Result<Bytes, Fault> {
    let (timeout, mut events) = (response.timeout(), EventStream::new(response, limit));
    let mut last = None;
    let read = async {
        while let Some(message) = events.next_unread().await? {
            let message = readable(message, events.quirks());
            let envelope = Envelope::parse(&message);
            if envelope.is_ok_and(|envelope| envelope.kind() == Kind::Response) {
                return Ok(message);
            }
            last = Some(message);
        }
        Err(Fault::Interrupted)
    };
    let read = tokio::time::timeout(timeout, read).await.unwrap_or(Err(Fault::Timeout));
    read.or_else(|fault| last.ok_or(fault))
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
