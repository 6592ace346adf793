//! HTTP as clients speak it: the head of a request, and its body. Streamable HTTP is one URL per server: POST for
//! messages, GET for a stream, DELETE for the end of a session. The paths of the other transports are read here too.
//!
//! It must not know eras, sessions or callers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use inbound::{Reservation, linger};
use mcp::border::{self, Coding, head};
use mcp::secrets::Secrets;

use super::buffered_body::{BufferError, BufferedBody};
use super::origin_policy::OriginPolicy;
use super::path::{self, Endpoint};
use crate::config::limits::Limits;
use crate::error::Failure;

/// Largest body that has come with its head, so that a response without reading it leaves the connection usable.
const COMES_WITH_HEAD: u64 = 8 << 10;

/// A request whose head was accepted.
#[derive(Debug)]
pub struct HttpRequest {
    /// The headers.
    pub headers: HeaderMap,
    /// The verb.
    pub verb: Verb,
    /// The endpoint that it is addressed to.
    pub endpoint: Endpoint,
    server: String,
    body: Incoming,
    is_body_pending: bool,
    upgrade: Option<OnUpgrade>,
}

/// The verb of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Sends a message.
    Post,
    /// Opens a stream or a connection.
    Get,
    /// Ends a session.
    Delete,
    /// Preflights a request of a browser.
    Options,
}

impl HttpRequest {
    /// Checks the head of a request: names, path, verb.
    pub fn open(origin_policy: &OriginPolicy, mut request: Request<Incoming>) -> Result<Self, Failure> {
        origin_policy.check(&request)?;
        let (server, endpoint) = path::read(request.uri().path()).ok_or(Failure::Path)?;
        let server = server.to_owned();
        // Streamable HTTP ignores queries, so nothing in one is trusted there.
        if endpoint != Endpoint::Mcp && request.uri().query().is_some_and(path::holds_a_bearer) {
            return Err(Failure::BearerInUrl);
        }
        let verb = match *request.method() {
            Method::POST => Verb::Post,
            Method::GET => Verb::Get,
            Method::DELETE => Verb::Delete,
            Method::OPTIONS => Verb::Options,
            _ => return Err(Failure::Verb(endpoint.verbs())),
        };
        if !endpoint.takes(verb) {
            return Err(Failure::Verb(endpoint.verbs()));
        }
        let upgrade = (endpoint == Endpoint::WebSocket).then(|| hyper::upgrade::on(&mut request));
        let is_body_pending = is_body_pending(&request);
        let (head, body) = request.into_parts();
        Ok(Self { headers: head.headers, verb, endpoint, server, body, is_body_pending, upgrade })
    }

    /// Whether a part of the body is still to come, so that the connection ends with the response.
    pub fn is_body_pending(&self) -> bool {
        self.is_body_pending
    }

    /// The id of the server that the path names.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The connection itself, once it has changed its protocol.
    pub fn upgrade(&mut self) -> Option<OnUpgrade> {
        self.upgrade.take()
    }

    /// Takes the password of HTTP Basic for a bearer, where `is_private` says that nobody could read it on its way.
    pub fn take_basic(&mut self, is_private: impl FnOnce(&HeaderMap) -> bool) -> Result<(), Failure> {
        let value = self.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, encoded)) = value.and_then(|value| value.split_once(' ')) else { return Ok(()) };
        if !scheme.eq_ignore_ascii_case("basic") {
            return Ok(());
        }
        if !is_private(&self.headers) {
            return Err(Failure::BasicNotHere);
        }
        let bearer = password(encoded.trim()).unwrap_or_default();
        let bearer = HeaderValue::from_str(&format!("Bearer {bearer}"));
        let mut bearer = bearer.unwrap_or(HeaderValue::from_static("Bearer"));
        bearer.set_sensitive(true);
        self.headers.insert(AUTHORIZATION, bearer);
        Ok(())
    }

    /// The bearer of the `Authorization` header; empty if the header has another scheme.
    pub fn bearer(&self) -> Option<&str> {
        let value = self.headers.get(AUTHORIZATION)?.to_str().unwrap_or_default();
        let (scheme, bearer) = value.split_once(' ').unwrap_or((value, ""));
        Some(if scheme.eq_ignore_ascii_case("bearer") { bearer.trim() } else { "" })
    }

    /// A header that occurs once and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Reads the whole body, within the limits of size and time, and of memory where it is not small.
    pub async fn read(
        &mut self,
        limits: &Limits,
        reserve: impl FnOnce() -> Reservation,
    ) -> Result<Bytes, Failure> {
        check_type(self.headers.get(CONTENT_TYPE))?;
        let too_large = || Failure::BodyTooLarge(limits.max_body_bytes);
        let announced = self.header(CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<u64>().ok());
        let limit = match announced {
            Some(length) if length > limits.max_body_bytes as u64 => 0,
            _ => limits.max_body_bytes,
        };
        self.is_body_pending = true;
        let collected = collect(&mut self.body, BufferedBody::within(limit, reserve));
        match tokio::time::timeout(limits.body_timeout, collected).await {
            Err(_) => Err(Failure::BodyTimeout),
            Ok(Err(BodyError::TooLarge)) => {
                self.is_body_pending = !linger(&mut self.body).await;
                Err(too_large())
            }
            Ok(Err(BodyError::OverBudget)) => {
                self.is_body_pending = !linger(&mut self.body).await;
                Err(Failure::BodyMemory)
            }
            Ok(Err(BodyError::Interrupted)) => Err(Failure::BodyBroken),
            Ok(Ok(body)) => {
                self.is_body_pending = false;
                Ok(body)
            }
        }
    }
}

/// The password of HTTP Basic. Its user name says nothing.
fn password(encoded: &str) -> Option<String> {
    let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
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

/// Whether the body of a request that was not read is still to come when it is answered.
pub fn is_body_pending(request: &Request<Incoming>) -> bool {
    use hyper::body::Body as _;
    let body = request.body();
    !body.is_end_stream() && body.size_hint().exact().is_none_or(|length| length > COMES_WITH_HEAD)
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
