//! HTTP requests and their answers, bounded in size and time, with secrets kept out of errors.
//!
//! It must not know what the messages say.

use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use reqwest::Response;
use tokio::time::timeout;
use url::Url;

use super::MAX_MESSAGE_BYTES;
use super::body::{Body, Events};
use super::connections::{Connections, reason};
use super::dial::{self, Dial, DialError};
use super::endpoint::{ClientInfo, Endpoint, Reach};
use super::error::ClientError;
use super::quirk_log::QuirkLog;
use super::resolve;
use crate::border::body::{Media, sniff};
use crate::border::events::{Take, events_of, take};
use crate::border::{self, Peer, Unreadable, without_mark};
use crate::fault::Fault;
use crate::json;
use crate::message::{Envelope, split_batch};
use crate::quirk::Quirk;
use crate::redirect::{self, MAX_REDIRECTS, NotFollowed};
use crate::secrets::Secrets;
use crate::sse::Event;

/// Largest body of an error that is read, and largest text of a server about itself.
const MAX_REFUSAL_BYTES: usize = 64 << 10;
/// The code of a gateway that does not let a call be made, or not yet: what is to be done stands at the end of its text.
const GATEWAY_REFUSAL: i64 = -31012;
/// Characters of such a text: more than the longest reason of a rule and what is said around it.
const MAX_REFUSAL_CHARS: usize = 4_000;

/// A server that can be sent requests.
pub(super) struct HttpClient {
    connections: Arc<Connections>,
    agent: HeaderValue,
    pub(super) endpoint: Endpoint,
    pub(super) secrets: Arc<Secrets>,
    /// Those that were met so far.
    pub(super) quirks: Arc<QuirkLog>,
}

/// A request. Its headers are added to those of the endpoint.
pub(super) struct Outbound {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether it may reach the server twice.
    pub(super) may_repeat: bool,
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
        let quirks = Arc::new(QuirkLog::default());
        let connections = Arc::new(Connections::new(endpoint, agent.clone(), Arc::clone(&quirks))?);
        let secrets = Arc::new(endpoint.secrets());
        Ok(Self { connections, agent, secrets, quirks, endpoint: endpoint.over_http() })
    }

    /// Returns a client of the same server at another URL.
    pub(super) fn at(&self, url: Url) -> Self {
        let endpoint = Endpoint { url, ..self.endpoint.clone() };
        let mut secrets = Secrets::clone(&self.secrets);
        secrets.add_url(&endpoint.url);
        let (connections, quirks) = (Arc::clone(&self.connections), Arc::clone(&self.quirks));
        Self { connections, agent: self.agent.clone(), endpoint, secrets: Arc::new(secrets), quirks }
    }

    /// Sends a request; its answer is looked at no further than its headers.
    pub(super) async fn send(&self, request: Outbound) -> Result<Response, ClientError> {
        Ok(self.send_to(request).await?.0)
    }

    /// Sends a request, which a redirect within the origin takes along, method and body; returns the response and the URL
    /// that it came from.
    pub(super) async fn send_to(&self, mut request: Outbound) -> Result<(Response, Url), ClientError> {
        request.headers = merged(self.endpoint.headers.clone(), request.headers);
        // Whoever does not say takes everything (RFC 9110 §12.5.3).
        request.headers.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
        let limit = self.endpoint.timeout;
        timeout(limit, self.follow(&request)).await.unwrap_or(Err(ClientError::Timeout(limit)))
    }

    async fn follow(&self, request: &Outbound) -> Result<(Response, Url), ClientError> {
        let mut url = self.endpoint.url.clone();
        let mut followed = 0;
        loop {
            let response = match &self.endpoint.reach {
                Reach::Dial(dial) => self.send_dialled(dial, &url, request).await?,
                Reach::System | Reach::Trusting(_) | Reach::Resolved(_) => {
                    self.send_direct(&url, request).await?
                }
            };
            let status = response.status().as_u16();
            if !(300..400).contains(&status) {
                return Ok((response, url));
            }
            let location = response.headers().get(header::LOCATION).map(HeaderValue::as_bytes);
            let next = match redirect::follow(&url, status, location) {
                Ok(_) if followed == MAX_REDIRECTS => Err(NotFollowed::Loop),
                Ok(next) if !request.may_repeat => next.unless_it_ran(&url, status),
                next => next,
            };
            let next =
                next.map_err(|why| ClientError::Http { status, excerpt: why.quoted(&self.secrets) })?;
            self.quirks.note(next.quirk, || self.sanitize(&format!("HTTP {status} to {}", next.url.path())));
            url = next.url;
            followed += 1;
        }
    }

    async fn send_direct(&self, url: &Url, request: &Outbound) -> Result<Response, ClientError> {
        if let Reach::Resolved(resolver) = &self.endpoint.reach {
            let checked = resolve::check_address(&**resolver, url).await;
            checked.map_err(|error| ClientError::Unreachable(error.to_string()))?;
        }
        let mut sent = reqwest::Request::new(request.method.clone(), url.clone());
        *sent.headers_mut() = request.headers.clone();
        *sent.body_mut() = Some(request.body.clone().into());
        let response = self.connections.send(&self.endpoint, sent, request.may_repeat).await;
        response.map_err(|error| match error {
            e if let Some(text) = resolve::refusal(&e) => ClientError::Unreachable(text),
            e if e.is_timeout() => ClientError::Timeout(self.endpoint.timeout),
            e if e.is_connect() || Fault::of(&e).is_some() => {
                ClientError::Unreachable(self.sanitize(&reason(e)))
            }
            e => ClientError::Broken(self.sanitize(&reason(e))),
        })
    }

    async fn send_dialled(
        &self,
        dial: &Dial,
        url: &Url,
        request: &Outbound,
    ) -> Result<Response, ClientError> {
        let mut headers = request.headers.clone();
        headers.insert(header::USER_AGENT, self.agent.clone());
        let request = dial::request(request.method.clone(), url, headers, request.body.clone())
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
        let mut body = Body::new(self, response)?;
        Ok(match body.media(self.endpoint.timeout).await? {
            Media::Json => ResponseBody::Json(body.whole(MAX_MESSAGE_BYTES, self.endpoint.timeout).await?),
            Media::Events => ResponseBody::Events(Box::new(Events::new(body))),
        })
    }

    /// The error for a response without success.
    async fn error_of(&self, response: Response) -> ClientError {
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return self.unauthorized(response).await;
        }
        let body = self.refusal_body(response).await;
        let status = status.as_u16();
        self.rpc_error_in(&body, status).unwrap_or_else(|| ClientError::Http {
            status,
            excerpt: self.sanitize(&String::from_utf8_lossy(&body)),
        })
    }

    /// The error where other credentials are wanted. Who is known and may not do this is told why in the body.
    async fn unauthorized(&self, response: Response) -> ClientError {
        let status = response.status().as_u16();
        let asked = response.headers().get(header::WWW_AUTHENTICATE);
        let asked = asked.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let told = match response.status() {
            StatusCode::FORBIDDEN => self.rpc_error_in(&self.refusal_body(response).await, status),
            _ => None,
        };
        ClientError::Unauthorized {
            status,
            // As it came: in what is shown, a bearer of the same letters is redacted.
            wants_bearer: asked.as_deref().is_some_and(wants_bearer),
            www_authenticate: asked.map(|text| self.sanitize(&text)),
            told: told.map(Box::new),
        }
    }

    /// The body of a refusal. Whatever goes wrong with it, the status is what matters.
    async fn refusal_body(&self, response: Response) -> Bytes {
        match Body::new(self, response) {
            Ok(mut body) => body.whole(MAX_REFUSAL_BYTES, self.endpoint.timeout).await.unwrap_or_default(),
            Err(_) => Bytes::new(),
        }
    }

    /// The error of JSON-RPC that the body of a refusal is, or that an event in it carries.
    fn rpc_error_in(&self, body: &Bytes, status: u16) -> Option<ClientError> {
        let error_in = |source: &Bytes| {
            let message = self.readable(source, None).ok()?;
            Some(self.rpc(Envelope::parse(&message).ok()?.error?, status))
        };
        if sniff(body) == Some(Media::Events) {
            return events_of(body).find_map(|event| match take(&event) {
                Take::Message(data) => error_in(data),
                Take::Nothing | Take::Odd(_) => None,
            });
        }
        error_in(body)
    }

    /// The messages in a text: those of a batch, or the whole.
    pub(super) fn parts(&self, source: &Bytes) -> Vec<Bytes> {
        let is_batch = without_mark(source).trim_ascii_start().starts_with(b"[");
        let parts = if is_batch { split_batch(without_mark(source)).ok() } else { None };
        let whole = source.slice_ref(without_mark(source));
        parts.map_or(vec![source.clone()], |parts| parts.into_iter().map(|part| whole.slice(part)).collect())
    }

    /// Notes an event that is passed over.
    pub(super) fn note_event(&self, quirk: Quirk, event: &Event) {
        self.quirks.note(quirk, || self.quoted(event.event.as_ref().unwrap_or(&event.data), 0));
    }

    /// A message of the server that parses: as it came, or as it was plainly meant. `open` is the raw id of the only
    /// request that is open on its exchange.
    pub(super) fn readable(&self, source: &Bytes, open: Option<&str>) -> Result<Bytes, Unreadable> {
        let Err(error) = Envelope::parse(source) else { return Ok(source.clone()) };
        let mended = border::mend(source, error, Peer::Server { open })?;
        for quirk in mended.quirks.iter() {
            self.quirks.note(quirk, || self.quoted(source, 0));
        }
        Ok(mended.message)
    }

    /// The error for a message that cannot be read.
    pub(super) fn unreadable(&self, source: &[u8], unreadable: &Unreadable) -> ClientError {
        ClientError::Protocol(match source {
            [] => format!("a message: {unreadable}"),
            source => format!("a message: {}", unreadable.quoted(source, &self.secrets)),
        })
    }

    /// A quotation of what a server sent around a place, safe to print and without secrets.
    pub(super) fn quoted(&self, source: &[u8], at: usize) -> String {
        format!("\"{}\"", self.secrets.quote(source, at))
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
                message: match code {
                    GATEWAY_REFUSAL => self.secrets.excerpt_of(&message, MAX_REFUSAL_CHARS),
                    _ => self.sanitize(&message),
                },
                data: data.filter(|raw| raw.len() <= MAX_REFUSAL_BYTES).map(|raw| self.redact(raw)),
                status,
            },
            Err(_) => ClientError::Protocol("an error whose code is not an integer".to_owned()),
        }
    }

    /// Text of a server for people: one line, short, without secrets.
    pub(super) fn sanitize(&self, text: &str) -> String {
        self.secrets.excerpt(text)
    }

    /// Text of a server, however long, without secrets.
    pub(super) fn redact(&self, text: &str) -> String {
        self.secrets.redact(text).into_owned()
    }
}

/// The endpoint's headers and those of a request, which replace them but for cookies, which go along.
fn merged(mut headers: HeaderMap, mut own: HeaderMap) -> HeaderMap {
    if let Some(given) = headers.get(header::COOKIE)
        && let Some(cookies) = own.get(header::COOKIE)
        && let Ok(both) = HeaderValue::from_bytes(&[given.as_bytes(), b"; ", cookies.as_bytes()].concat())
    {
        own.insert(header::COOKIE, both);
    }
    headers.extend(own);
    headers
}

/// Whether a challenge is for a bearer, and says no more than that the one it came with is not valid.
fn wants_bearer(challenge: &str) -> bool {
    let (scheme, said) = challenge.trim().split_once(' ').unwrap_or((challenge.trim(), ""));
    scheme.eq_ignore_ascii_case("Bearer") && matches!(said.trim(), "" | r#"error="invalid_token""#)
}

#[cfg(test)]
mod tests {
    use super::wants_bearer;

    #[test]
    fn a_login_of_its_own_is_no_wish_for_a_bearer() {
        for (challenge, is) in [
            ("Bearer", true),
            (r#"bearer  error="invalid_token""#, true),
            (r#"Bearer error="invalid_token", resource_metadata="https://sso.example/""#, false),
            (r#"Bearer realm="sso""#, false),
            (r#"Basic realm="sso""#, false),
            ("", false),
        ] {
            assert_eq!(wants_bearer(challenge), is, "{challenge}");
        }
    }
}
