//! HTTP requests and their answers, bounded in size and time, with secrets kept out of errors.
//!
//! It must not know what the messages say.

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::{Bytes, BytesMut};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response};
use tokio::time::timeout;

use super::MAX_MESSAGE_BYTES;
use super::dial::{self, Dial, DialError};
use super::endpoint::{ClientInfo, Endpoint, Reach};
use super::error::ClientError;
use super::resolve::{self, Names};
use crate::header::{EVENT_STREAM, JSON};
use crate::json;
use crate::message::Envelope;
use crate::secrets::Secrets;
use crate::sse::{Decoder, Event};

/// Largest body of an error that is read, and largest text of a server about itself.
const MAX_REFUSAL_BYTES: usize = 64 << 10;
const MAX_REDIRECTS: usize = 5;

/// A server that can be sent requests.
pub(super) struct HttpClient {
    client: Client,
    agent: HeaderValue,
    pub(super) endpoint: Endpoint,
    pub(super) secrets: Arc<Secrets>,
}

/// An answer with a status of success.
pub(super) enum ResponseBody {
    /// Nothing to read.
    Empty,
    /// One body.
    Json(Bytes),
    /// A stream.
    Events(Box<Events>),
}

impl HttpClient {
    pub(super) fn new(endpoint: &Endpoint, info: &ClientInfo) -> Result<Self, ClientError> {
        // Some firewalls turn away who does not name itself.
        let name = HeaderValue::try_from(format!("{}/{}", info.name, info.version));
        let agent = name.unwrap_or(HeaderValue::from_static("mcp"));
        let mut builder = Client::builder();
        if endpoint.is_websocket() {
            // HTTP/2 has no upgrades.
            builder = builder.http1_only();
        }
        if let Reach::Resolved(resolver) = &endpoint.reach {
            builder = builder.dns_resolver(Names(Arc::clone(resolver))).no_proxy();
        }
        let client = builder
            .user_agent(agent.clone())
            .redirect(Policy::custom(same_origin))
            .connect_timeout(endpoint.timeout)
            .tcp_keepalive(Duration::from_secs(30))
            .build()
            .map_err(|e| ClientError::Unreachable(reason(e)))?;
        let secrets = Arc::new(endpoint.secrets());
        Ok(Self { client, agent, secrets, endpoint: endpoint.over_http() })
    }

    /// Returns a client of the same server at another URL.
    pub(super) fn at(&self, url: url::Url) -> Self {
        let endpoint = Endpoint { url, ..self.endpoint.clone() };
        let mut secrets = Secrets::clone(&self.secrets);
        secrets.add_url(&endpoint.url);
        let secrets = Arc::new(secrets);
        Self { client: self.client.clone(), agent: self.agent.clone(), endpoint, secrets }
    }

    /// Sends a request; its answer is looked at no further than its headers.
    pub(super) async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, ClientError> {
        let mut all = self.endpoint.headers.clone();
        all.extend(headers);
        let sent = async {
            match &self.endpoint.reach {
                Reach::Dial(dial) => self.send_dialled(dial, method, all, body).await,
                Reach::System | Reach::Resolved(_) => self.send_direct(method, all, body).await,
            }
        };
        timeout(self.endpoint.timeout, sent).await.unwrap_or(Err(ClientError::Timeout(self.endpoint.timeout)))
    }

    async fn send_direct(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, ClientError> {
        let url = &self.endpoint.url;
        if let Reach::Resolved(resolver) = &self.endpoint.reach {
            let checked = resolve::check_address(&**resolver, url).await;
            checked.map_err(|error| ClientError::Unreachable(error.to_string()))?;
        }
        let request = self.client.request(method, url.clone()).headers(headers).body(body);
        request.send().await.map_err(|error| match error {
            e if let Some(text) = resolve::refusal(&e) => ClientError::Unreachable(text),
            e if e.is_timeout() => ClientError::Timeout(self.endpoint.timeout),
            e if e.is_connect() => ClientError::Unreachable(self.sanitize(&reason(e))),
            e => ClientError::Broken(self.sanitize(&reason(e))),
        })
    }

    async fn send_dialled(
        &self,
        dial: &Dial,
        method: Method,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, ClientError> {
        headers.insert(header::USER_AGENT, self.agent.clone());
        let request = dial::request(method, &self.endpoint.url, headers, body)
            .map_err(|error| ClientError::Unreachable(self.sanitize(&error.to_string())))?;
        match dial.send(request).await {
            Ok(response) => Ok(dial::into_reqwest(response)),
            Err(DialError::Unreachable(error)) => {
                Err(ClientError::Unreachable(self.sanitize(&error.to_string())))
            }
            Err(DialError::Broken(error)) => Err(ClientError::Broken(self.sanitize(&error.to_string()))),
        }
    }

    /// Checks the response to a message that is not answered.
    pub(super) async fn expect_success(&self, response: Response) -> Result<(), ClientError> {
        if response.status().is_success() { Ok(()) } else { Err(self.error_of(response).await) }
    }

    /// Reads the body of a response, or its error.
    pub(super) async fn read(&self, response: Response) -> Result<ResponseBody, ClientError> {
        let status = response.status();
        if !status.is_success() {
            return Err(self.error_of(response).await);
        }
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(ResponseBody::Empty);
        }
        match media_type(&response).as_str() {
            JSON => {
                let body = self.body(response, MAX_MESSAGE_BYTES).await?;
                Ok(ResponseBody::Json(body))
            }
            EVENT_STREAM => Ok(ResponseBody::Events(Box::new(Events::new(response)))),
            other => {
                let malformed = format!("content type {other:?} instead of {JSON} or {EVENT_STREAM}");
                Err(ClientError::Http { status: status.as_u16(), excerpt: self.sanitize(&malformed) })
            }
        }
    }

    /// The error for a response without success.
    async fn error_of(&self, response: Response) -> ClientError {
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let asked = response.headers().get(header::WWW_AUTHENTICATE);
            let asked = asked.map(|value| self.sanitize(&String::from_utf8_lossy(value.as_bytes())));
            return ClientError::Unauthorized { status: status.as_u16(), www_authenticate: asked };
        }
        if status.is_redirection() {
            let excerpt = "redirects to another origin, which is not followed".to_owned();
            return ClientError::Http { status: status.as_u16(), excerpt };
        }
        // Whatever goes wrong here, the status is what matters.
        let body = self.body(response, MAX_REFUSAL_BYTES).await.unwrap_or_default();
        let error = Envelope::parse(&body).ok().and_then(|e| Some(self.rpc(e.error?, status.as_u16())));
        error.unwrap_or_else(|| ClientError::Http {
            status: status.as_u16(),
            excerpt: self.sanitize(&String::from_utf8_lossy(&body)),
        })
    }

    /// The raw `error` member of a message as an error of ours.
    pub(super) fn rpc(&self, error: &str, status: u16) -> ClientError {
        let members = json::members(error, ["code", "message", "data"]);
        let Ok([Some(code), message, data]) = members else {
            return ClientError::Protocol("an error without a code".to_owned());
        };
        let message = message.and_then(|raw| json::string(raw).ok()).unwrap_or_default();
        match code.parse() {
            Ok(code) => ClientError::Rpc {
                code,
                message: self.sanitize(&message),
                data: data.filter(|raw| raw.len() <= MAX_REFUSAL_BYTES).map(|raw| self.redact(raw)),
                status,
            },
            Err(_) => ClientError::Protocol("an error whose code is not an integer".to_owned()),
        }
    }

    /// A whole body, refused as soon as it passes the limit.
    async fn body(&self, mut response: Response, limit: usize) -> Result<Bytes, ClientError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = next_chunk(&mut response, Some(self.endpoint.timeout)).await? {
            if body.len() + chunk.len() > limit {
                return Err(ClientError::TooLarge { limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// Text of a server for people: one line, short, without secrets.
    pub(super) fn sanitize(&self, text: &str) -> String {
        self.secrets.excerpt(text)
    }

    /// Text of a server, at most [`MAX_REFUSAL_BYTES`] of it, without secrets.
    pub(super) fn redact(&self, text: &str) -> String {
        self.secrets.redact(&text[..text.floor_char_boundary(MAX_REFUSAL_BYTES)]).into_owned()
    }
}

/// The events of a response.
pub(super) struct Events {
    response: Response,
    decoder: Decoder,
}

impl Events {
    pub(super) fn new(response: Response) -> Self {
        Self { response, decoder: Decoder::new(MAX_MESSAGE_BYTES) }
    }

    /// The next event, `None` at the end of the stream. Without `silence`, waits as long as it takes.
    pub(super) async fn next(&mut self, silence: Option<Duration>) -> Result<Option<Event>, ClientError> {
        loop {
            let event =
                self.decoder.next().map_err(|_| ClientError::TooLarge { limit: MAX_MESSAGE_BYTES })?;
            if event.is_some() {
                return Ok(event);
            }
            match next_chunk(&mut self.response, silence).await? {
                Some(chunk) => self.decoder.push(chunk),
                None => return Ok(None),
            }
        }
    }
}

async fn next_chunk(
    response: &mut Response,
    silence: Option<Duration>,
) -> Result<Option<Bytes>, ClientError> {
    let broken = |e| ClientError::Broken(reason(e));
    let Some(silence) = silence else {
        return response.chunk().await.map_err(broken);
    };
    match timeout(silence, response.chunk()).await {
        Err(_) => Err(ClientError::Timeout(silence)),
        Ok(chunk) => chunk.map_err(broken),
    }
}

/// Follows a redirect only where the credentials were meant for.
fn same_origin(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let from = attempt.previous().last().map(|url| url.origin());
    if from == Some(attempt.url().origin()) && attempt.previous().len() <= MAX_REDIRECTS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

/// The media type, without parameters, in lower case.
fn media_type(response: &Response) -> String {
    let value = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let bare = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    bare.trim().to_ascii_lowercase()
}

/// The innermost cause, which is the one that says something, without the URL.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
