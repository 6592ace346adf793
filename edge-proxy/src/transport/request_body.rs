//! The body of a request: read within its limits, or left to come. It must not know what is in it.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use inbound::{Reservation, linger};
use mcp::border::{self, Coding, head};
use mcp::secrets::Secrets;

use super::buffered_body::{BufferError, BufferedBody};
use crate::config::limits::Limits;
use crate::error::Failure;

/// Largest body that has come with its head, so that a response without reading it leaves a connection of HTTP/1.1 usable.
const COMES_WITH_HEAD: u64 = 8 << 10;

/// The body of one request.
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    /// Whether a part of it is still to come.
    is_pending: bool,
    is_http2: bool,
}

impl RequestBody {
    /// Takes the body out of a request.
    pub fn of(request: Request<Incoming>) -> (Request<()>, Self) {
        let (head, body) = request.into_parts();
        let is_http2 = head.version == Version::HTTP_2;
        let is_short = || body.size_hint().exact().is_some_and(|length| length <= COMES_WITH_HEAD);
        let is_pending = !body.is_end_stream() && (is_http2 || !is_short());
        (Request::from_parts(head, ()), Self { body, is_pending, is_http2 })
    }

    /// Reads the whole body, within the limits of size and time, and of memory where it is not small.
    pub async fn read(
        &mut self,
        headers: &HeaderMap,
        limits: &Limits,
        reserve: impl FnOnce() -> Reservation,
    ) -> Result<Bytes, Failure> {
        check_type(headers.get(CONTENT_TYPE))?;
        let too_large = || Failure::BodyTooLarge(limits.max_body_bytes);
        let announced =
            headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let limit = match announced {
            Some(length) if length > limits.max_body_bytes as u64 => 0,
            _ => limits.max_body_bytes,
        };
        self.is_pending = true;
        let collected = collect(&mut self.body, BufferedBody::within(limit, reserve));
        match tokio::time::timeout(limits.body_timeout, collected).await {
            Err(_) => Err(Failure::BodyTimeout),
            Ok(Err(BodyError::TooLarge)) => {
                self.hear_out().await;
                Err(too_large())
            }
            Ok(Err(BodyError::OverBudget)) => {
                self.hear_out().await;
                Err(Failure::BodyMemory)
            }
            Ok(Err(BodyError::Interrupted)) => Err(Failure::BodyBroken),
            Ok(Ok(body)) => {
                self.is_pending = false;
                Ok(body)
            }
        }
    }

    /// Whether the connection must end with the response, because clients that reuse connections would send their next request
    /// into the rest of this body.
    pub fn ends_connection(&self) -> bool {
        self.is_pending && !self.is_http2
    }

    /// Whether the client may throw the response away: over HTTP/2 some do where they are told to stop writing (curl before 8.2).
    pub fn may_hide_response(&self) -> bool {
        self.is_pending && self.is_http2
    }

    /// Reads what is left for a while, and keeps nothing of it.
    #[cold]
    pub async fn hear_out(&mut self) {
        self.is_pending = !Box::pin(linger(&mut self.body)).await;
    }
}

enum BodyError {
    TooLarge,
    OverBudget,
    Interrupted,
}

async fn collect(
    body: &mut Incoming,
    mut buffered: BufferedBody<impl FnOnce() -> Reservation>,
) -> Result<Bytes, BodyError> {
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Interrupted)?.into_data() else { continue };
        buffered.push(data).map_err(|error| match error {
            BufferError::TooLarge => BodyError::TooLarge,
            BufferError::OverBudget => BodyError::OverBudget,
        })?;
    }
    Ok(buffered.finish())
}

fn check_type(content_type: Option<&HeaderValue>) -> Result<(), Failure> {
    let content_type = content_type.map_or(&b""[..], HeaderValue::as_bytes);
    if head::is_json(content_type) {
        Ok(())
    } else {
        Err(Failure::ContentType(Secrets::default().quote(content_type, 0)))
    }
}

/// Refuses a body that could not be read because it is compressed.
#[cold]
pub fn check_coding(headers: Option<&HeaderMap>) -> Result<(), Failure> {
    let Some(sent) = headers.and_then(|headers| headers.get(CONTENT_ENCODING)) else { return Ok(()) };
    match border::body::coding(Some(sent.as_bytes())) {
        Coding::Identity | Coding::Mislabelled => Ok(()),
        Coding::Gzip | Coding::Deflate | Coding::Unknown => {
            Err(Failure::ContentCoding(Secrets::default().quote(sent.as_bytes(), 0)))
        }
    }
}
