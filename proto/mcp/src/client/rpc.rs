//! A JSON-RPC client over one endpoint and one session: the part that eras and transports share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, StatusCode, header};
use bytes::Bytes;
use tokio::time::timeout;

use super::answer::parsed;
use super::body::Events;
use super::channel::{self, Channel};
use super::endpoint::ClientInfo;
use super::error::ClientError;
use super::handshake::is_about_revision;
use super::hearer::Hearer;
use super::http::{HttpClient, Outbound, ResponseBody};
use super::probe::Transport;
use crate::border::cookies::cookies;
use crate::error::METHOD_NOT_FOUND;
use crate::header::{self as names, MirroredParam, encode_value, mirror};
use crate::json::{self, JsonError, quote, set_members};
use crate::message::Envelope;
use crate::meta;
use crate::method::Method;
use crate::quirk::Quirk;
use crate::revision::{Era, Revision};
use crate::session_loss::{self, Ping, Verdict};

/// Longest wait for the end of a session.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// An endpoint, the revision spoken to it and the session held with it.
pub(super) struct RpcClient {
    pub(super) http: Arc<HttpClient>,
    /// The channel, where the connection is the session.
    pub(super) channel: Option<Channel>,
    pub(super) info: ClientInfo,
    /// What the client can be asked, a raw JSON object.
    pub(super) capabilities: String,
    pub(super) revision: Revision,
    /// Whether the revision was negotiated: before, legacy requests have no version header.
    pub(super) negotiated: bool,
    pub(super) session: SessionHeaders,
    next_id: AtomicU64,
}

/// What a server gave out to tell the session by.
#[derive(Debug, Default, Clone)]
pub(super) struct SessionHeaders {
    /// Its id.
    pub(super) id: Option<HeaderValue>,
    /// Cookies, by which balancers find the instance that has it.
    pub(super) cookies: Option<HeaderValue>,
}

impl RpcClient {
    pub(super) fn new(http: Arc<HttpClient>, info: ClientInfo, revision: Revision) -> Self {
        Self {
            http,
            channel: None,
            info,
            capabilities: "{}".to_owned(),
            revision,
            negotiated: false,
            session: SessionHeaders::default(),
            next_id: AtomicU64::new(1),
        }
    }

    /// Opens what `transport` needs before the first message.
    pub(super) async fn open_over(
        transport: Transport,
        http: Arc<HttpClient>,
        info: ClientInfo,
        revision: Revision,
    ) -> Result<Self, ClientError> {
        let channel = match transport {
            Transport::StreamableHttp => None,
            Transport::HttpSse => Some(Channel::over_sse(&http).await?),
            Transport::WebSocket => Some(Channel::over_websocket(&http).await?),
        };
        Ok(Self { channel, ..Self::new(http, info, revision) })
    }

    /// Sends a request; returns its raw result, all within the endpoint's timeout.
    pub(super) async fn call(&self, method: &str, params: &str) -> Result<String, ClientError> {
        match self.call_once(method, params).await {
            Err(error) if self.is_lost(&error).await => {
                Err(ClientError::SessionLost { refused_with: Some(Box::new(error)) })
            }
            result => result,
        }
    }

    pub(super) async fn call_once(&self, method: &str, params: &str) -> Result<String, ClientError> {
        let id = self.next_request_id();
        let limit = self.http.endpoint.timeout;
        let mut ignore = |_: &str, _: Option<&str>| {};
        let exchange = self.exchange(&id, method, params, &[], None, &mut ignore);
        let result = timeout(limit, exchange).await.unwrap_or(Err(ClientError::Timeout(limit)));
        self.cancel_on_timeout(&id, method, &result).await;
        result
    }

    /// Whether a call may have failed because the server has forgotten the session: then it refuses a ping, too.
    async fn is_lost(&self, error: &ClientError) -> bool {
        if !self.negotiated || self.revision.era() == Era::Modern || self.channel.is_some() {
            return false;
        }
        // What refuses the revision refuses pings alike, in every session.
        if is_about_revision(error) {
            return false;
        }
        let Some(refusal) = error.refusal().filter(session_loss::suspicious) else { return false };
        let ping = match self.call_once(Method::Ping.as_str(), "{}").await {
            Ok(_) | Err(ClientError::Rpc { code: METHOD_NOT_FOUND, .. }) => Ping::Answered,
            Err(error) => error.refusal().map_or(Ping::Failed, Ping::Refused),
        };
        // Whoever opens another session decides what is repeated in it.
        let verdict = session_loss::verdict(&refusal, &ping);
        let lost = matches!(verdict, Verdict::Lost { .. } | Verdict::PerhapsLost);
        if lost && refusal.status != StatusCode::NOT_FOUND.as_u16() {
            self.http.quirks.note(Quirk::ForgetsSessions, || error.to_string());
        }
        lost
    }

    /// Sends a request; returns its raw result, however long it takes, as long as the stream is not silent for too
    /// long.
    pub(super) async fn call_streaming(
        &self,
        method: &str,
        params: &str,
        mirrored: &[MirroredParam],
        hearer: &mut dyn Hearer,
    ) -> Result<String, ClientError> {
        let id = self.next_request_id();
        let silence = Some(self.http.endpoint.timeout);
        let result = self.exchange(&id, method, params, mirrored, silence, hearer).await;
        self.cancel_on_timeout(&id, method, &result).await;
        match result {
            Err(error)
                if self.session.id.is_some()
                    && error.refusal().is_some_and(|refusal| refusal.is_of_protocol()) =>
            {
                Err(ClientError::SESSION_LOST)
            }
            result => result,
        }
    }

    /// Sends the first request of a session; returns its raw result, and what the session is told by.
    pub(super) async fn call_initialize(
        &self,
        method: &str,
        params: &str,
    ) -> Result<(String, SessionHeaders), ClientError> {
        if self.channel.is_some() {
            return Ok((self.call_once(method, params).await?, SessionHeaders::default()));
        }
        let id = self.next_request_id();
        let limit = self.http.endpoint.timeout;
        let exchange = async {
            let headers = self.headers(method, params, &[])?;
            let response =
                self.http.send(outbound(Verb::POST, headers, self.body(&id, method, params)?)).await?;
            let session = SessionHeaders::of(response.headers());
            let answer = self.http.read(response).await?;
            let result = self.result(answer, &id, None, &mut |_: &str, _: Option<&str>| {}).await?;
            Ok((result, session?))
        };
        timeout(limit, exchange).await.unwrap_or(Err(ClientError::Timeout(limit)))
    }

    /// Sends a message that is not answered.
    pub(super) async fn notify(&self, message: Bytes) -> Result<(), ClientError> {
        if let Some(channel) = &self.channel {
            return channel.send(message).await;
        }
        let request = outbound(Verb::POST, self.headers("", "{}", &[])?, message);
        let response = self.http.send(request).await?;
        self.http.expect_success(self.check_session(response)?).await
    }

    /// Sends a request; returns its response unread.
    pub(super) async fn open(
        &self,
        method: &str,
        params: &str,
    ) -> Result<(String, ResponseBody), ClientError> {
        let id = self.next_request_id();
        let request =
            outbound(Verb::POST, self.headers(method, params, &[])?, self.body(&id, method, params)?);
        let response = self.http.send(request).await?;
        Ok((id, self.http.read(self.check_session(response)?).await?))
    }

    /// Opens the stream of a session, or resumes one after `last_event`.
    pub(super) async fn get(&self, last_event: Option<&Bytes>) -> Result<Box<Events>, ClientError> {
        let mut headers = self.session_headers();
        headers.insert(header::ACCEPT, HeaderValue::from_static(names::EVENT_STREAM));
        if let Some(id) = last_event.and_then(|id| HeaderValue::from_bytes(id).ok()) {
            headers.insert(HeaderName::from_static(names::LAST_EVENT_ID), id);
        }
        let response = self.http.send(outbound(Verb::GET, headers, Bytes::new())).await?;
        match response.status() {
            StatusCode::METHOD_NOT_ALLOWED => return Err(ClientError::Unsupported),
            StatusCode::CONFLICT => return Err(ClientError::Busy),
            _ => {}
        }
        match self.http.read(self.check_session(response)?).await? {
            ResponseBody::Events(events) => Ok(events),
            _ => Err(ClientError::Protocol("GET did not return a stream".to_owned())),
        }
    }

    /// Ends the session. Returns whether the server allowed it.
    pub(super) async fn delete(&self) -> bool {
        if let Some(channel) = &self.channel {
            channel.close().await;
        }
        if self.session.id.is_none() {
            return true;
        }
        let request = outbound(Verb::DELETE, self.session_headers(), Bytes::new());
        match timeout(CLOSE_TIMEOUT, self.http.send(request)).await {
            Ok(Ok(response)) => response.status().is_success(),
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot end a session");
                false
            }
            Err(_) => false,
        }
    }

    /// Replies to a server's request: a ping is answered, as is what `hearer` answers, and everything else refused.
    pub(super) async fn reply(&self, request: &Envelope<'_>, hearer: &mut dyn Hearer) {
        let (id, method) = (request.id.unwrap_or("null"), request.method.as_deref().unwrap_or_default());
        let message = match hearer.answer(method, request.params).await {
            Some(result) => Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into()),
            None => channel::reply(request),
        };
        let Some(message) = message else { return };
        if let Err(error) = self.notify(message).await {
            tracing::debug!(%error, "cannot respond to a server request");
        }
    }

    pub(super) fn next_request_id(&self) -> String {
        self.next_id.fetch_add(1, Ordering::Relaxed).to_string()
    }

    async fn exchange(
        &self,
        id: &str,
        method: &str,
        params: &str,
        mirrored: &[MirroredParam],
        silence: Option<Duration>,
        hearer: &mut dyn Hearer,
    ) -> Result<String, ClientError> {
        if let Some(channel) = &self.channel {
            let message = self.body(id, method, params)?;
            return self.exchange_on_channel(channel, id, message, silence, hearer).await;
        }
        let headers = self.headers(method, params, mirrored)?;
        let request = outbound(Verb::POST, headers, self.body(id, method, params)?);
        // A tool that runs twice is worse than one that did not run.
        let may_repeat = method != Method::ToolsCall.as_str();
        let response = self.http.send(Outbound { may_repeat, ..request }).await?;
        let answer = self.http.read(response).await?;
        self.result(answer, id, silence, hearer).await
    }

    async fn exchange_on_channel(
        &self,
        channel: &Channel,
        id: &str,
        message: Bytes,
        silence: Option<Duration>,
        hearer: &mut dyn Hearer,
    ) -> Result<String, ClientError> {
        let mut responses = channel.register(id, silence.is_some())?;
        channel.send(message).await?;
        loop {
            let next = match silence {
                None => responses.next().await,
                Some(limit) => {
                    timeout(limit, responses.next()).await.map_err(|_| ClientError::Timeout(limit))?
                }
            };
            let message = next.ok_or_else(|| channel.close_reason())??;
            if let Some(result) = self.message(&parsed(&message)?, id, hearer).await? {
                return Ok(result);
            }
        }
    }

    /// Checks for a 404 in a session, which means that it is gone.
    fn check_session(&self, response: reqwest::Response) -> Result<reqwest::Response, ClientError> {
        if response.status() == StatusCode::NOT_FOUND && self.session.id.is_some() {
            return Err(ClientError::SESSION_LOST);
        }
        Ok(response)
    }

    /// Cancels a request that timed out, as the legacy era requires.
    async fn cancel_on_timeout(&self, id: &str, method: &str, result: &Result<String, ClientError>) {
        let late = matches!(result, Err(ClientError::Timeout(_)));
        if late && method != Method::Initialize.as_str() {
            self.cancel(id, "timeout").await;
        }
    }

    /// Cancels the request that was sent last.
    pub(super) async fn cancel_last(&self, reason: &str) {
        let last = self.next_id.load(Ordering::Relaxed).saturating_sub(1);
        self.cancel(&last.to_string(), reason).await;
    }

    /// Cancels a request in the legacy era. `reason` is text without quotes.
    async fn cancel(&self, id: &str, reason: &str) {
        if self.revision.era() == Era::Modern {
            return;
        }
        let message = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"{reason}"}}}}"#
        );
        if let Err(error) = self.notify(message.into()).await {
            tracing::debug!(%error, "cannot cancel a request");
        }
    }

    pub(super) fn body(&self, id: &str, method: &str, params: &str) -> Result<Bytes, ClientError> {
        let params = match self.revision.era() {
            Era::Legacy => params.to_owned(),
            Era::Modern => self.with_meta(params).map_err(bad_params)?,
        };
        let method = quote(method);
        Ok(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#).into())
    }

    /// Adds the metadata of every modern request to params.
    fn with_meta(&self, params: &str) -> Result<String, JsonError> {
        let [given] = json::members(params, [meta::META])?;
        let edits = [
            (meta::PROTOCOL_VERSION, Some(&*quote(self.revision.as_str()))),
            (meta::CLIENT_CAPABILITIES, Some(&*self.capabilities)),
            (meta::CLIENT_INFO, Some(&*self.info.json())),
        ]
        .map(|(key, value)| (key, value.map(str::to_owned)));
        let edits = edits.each_ref().map(|(key, value)| (*key, value.as_deref()));
        let meta = set_members(given.unwrap_or("{}"), &edits)?;
        set_members(params, &[(meta::META, Some(&meta))])
    }

    /// Builds the headers of a POST. `method` is empty for a message that is not a request.
    fn headers(
        &self,
        method: &str,
        params: &str,
        mirrored: &[MirroredParam],
    ) -> Result<HeaderMap, ClientError> {
        let mut headers = self.session_headers();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(names::JSON));
        headers.insert(header::ACCEPT, HeaderValue::from_static(names::ACCEPT_BOTH));
        if self.revision.era() == Era::Modern && !method.is_empty() {
            headers.insert(HeaderName::from_static(names::METHOD), encode_value(method));
            let (name, arguments) = mirrored_parts(method, params).map_err(bad_params)?;
            if let Some(name) = name {
                headers.insert(HeaderName::from_static(names::NAME), encode_value(&name));
            }
            let arguments = mirror(arguments, mirrored);
            headers.extend(arguments.map_err(|e| ClientError::Protocol(e.to_string()))?);
        }
        Ok(headers)
    }

    fn session_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.negotiated || self.revision.era() == Era::Modern {
            let version = HeaderValue::from_static(self.revision.as_str());
            headers.insert(HeaderName::from_static(names::PROTOCOL_VERSION), version);
        }
        if let Some(id) = &self.session.id {
            headers.insert(HeaderName::from_static(names::SESSION_ID), id.clone());
        }
        if let Some(cookies) = &self.session.cookies {
            headers.insert(header::COOKIE, cookies.clone());
        }
        headers
    }
}

impl SessionHeaders {
    /// Those that a response to `initialize` sets.
    fn of(headers: &HeaderMap) -> Result<Self, ClientError> {
        let id = names::session_id(headers).map_err(|error| ClientError::Protocol(error.to_string()))?;
        Ok(Self { id, cookies: cookies(headers, None) })
    }
}

/// A request that may be repeated.
pub(super) fn outbound(method: Verb, headers: HeaderMap, body: Bytes) -> Outbound {
    Outbound { method, headers, body, may_repeat: true }
}

/// Returns the parts that a modern request mirrors in headers: the name of its target, and its arguments.
fn mirrored_parts<'p>(
    method: &str,
    params: &'p str,
) -> Result<(Option<std::borrow::Cow<'p, str>>, &'p str), JsonError> {
    let target = Method::parse(method).and_then(|method| method.mirrored_target().member());
    let [name, arguments] = json::members(params, [target.unwrap_or_default(), "arguments"])?;
    let name = name.filter(|_| target.is_some()).map(json::string).transpose()?;
    Ok((name, arguments.unwrap_or("{}")))
}

fn bad_params(error: JsonError) -> ClientError {
    ClientError::Protocol(format!("params: {error}"))
}
