//! A Streamable HTTP client for one host: sends raw messages and returns raw messages.
//!
//! It keeps the session alive: it waits for an edge that is unreachable for a while, and reopens a session that the edge no
//! longer knows with the host's own `initialize`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, Method, StatusCode, header};
use mcp::header::{ACCEPT_BOTH, EVENT_STREAM, JSON, PROTOCOL_VERSION, SESSION_ID};
use mcp::message::{Envelope, Kind};
use mcp::{json, sse};
use reqwest::{RequestBuilder, Response};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bridge::child::MAX_MESSAGE_BYTES;
use crate::bridge::connect::bearers::{Bearers, OwnedBearer};
use crate::bridge::connect::headers::{MirroredParams, is_modern};
use crate::bridge::errors::BridgeError;
use crate::error::{Error, Result};
use crate::output::eprint;

/// Time to keep trying an unreachable edge before reporting an error.
const UNREACHABLE_TIMEOUT: Duration = Duration::from_secs(60);
const FIRST_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// The server to connect to, and the credentials for it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The URL of a server on an edge.
    pub url: url::Url,
    /// The bearers that may be presented, best first. There is at least one.
    pub bearers: Vec<OwnedBearer>,
    /// Authorities (PEM) to trust besides those that the system trusts.
    pub trusted: Option<Vec<u8>>,
}

/// The connection to the edge on behalf of one host.
pub struct Connection {
    http: reqwest::Client,
    url: url::Url,
    bearers: Bearers,
    to_host: mpsc::Sender<Bytes>,
    session: Mutex<Session>,
    /// Held while a session is being reopened, so that concurrent requests reopen it only once.
    opening: tokio::sync::Mutex<()>,
    tools: MirroredParams,
    closing: CancellationToken,
}

#[derive(Debug, Clone, Default)]
struct Session {
    /// The host's `initialize`. `None` until it is sent, and in the modern era.
    initialize: Option<Bytes>,
    id: Option<HeaderValue>,
    version: Option<HeaderValue>,
    /// Number of sessions opened so far. A request that lost its session compares it to see whether another request has
    /// reopened it.
    generation: u64,
}

enum Failure {
    /// The request did not reach the edge, so sending it again is safe.
    Unreachable(String),
    /// The connection broke, so the request may have reached the edge.
    Interrupted(String),
    /// The edge does not know the session.
    SessionLost,
    /// The bearer is not valid, and there is another one.
    OtherBearer,
    /// Anything else.
    Final(String),
}

impl Connection {
    /// Prepares a connection without sending anything.
    pub fn new(target: Target, to_host: mpsc::Sender<Bytes>) -> Result<Arc<Self>> {
        let mut http = reqwest::Client::builder();
        if mcp::endpoint::is_loopback(&target.url) {
            http = http.no_proxy();
        }
        let unusable = |error| Error::failure(format!("cannot create an HTTP client: {error}"));
        if let Some(authorities) = target.trusted.as_deref().filter(|_| target.url.scheme() == "https") {
            let authorities = reqwest::Certificate::from_pem_bundle(authorities).map_err(unusable)?;
            http = http.tls_certs_merge(authorities);
        }
        let http = http
            .connect_timeout(Duration::from_secs(5))
            .tcp_keepalive(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(unusable)?;
        let (session, opening, tools, closing) = Default::default();
        let (url, bearers) = (target.url, Bearers::new(target.bearers));
        Ok(Arc::new(Self { http, url, bearers, to_host, session, opening, tools, closing }))
    }

    /// Sends a message to the host.
    pub async fn send_to_host(&self, message: Bytes) {
        // A host that is gone has closed its stdin too, and is noticed there.
        let _ = self.to_host.send(message).await;
    }

    /// Sends the host's `initialize` and keeps it for reopening the session.
    pub async fn initialize(self: &Arc<Self>, line: Bytes) {
        *self.session() = Session { initialize: Some(line.clone()), ..Session::default() };
        self.send(line).await;
    }

    /// Sends a message from the host and relays everything that comes back, until the response is complete.
    pub async fn send(self: &Arc<Self>, line: Bytes) {
        let Ok(message) = Envelope::parse(&line) else { return };
        let method = message.method.as_deref().unwrap_or_default();
        let (started, mut delay) = (Instant::now(), FIRST_DELAY);
        loop {
            let generation = self.session().generation;
            let error = match self.exchange(&line, &message).await {
                Ok(()) => {
                    if method == "notifications/initialized" {
                        tokio::spawn(self.clone().listen());
                    }
                    return;
                }
                Err(Failure::SessionLost) => match self.reopen(generation).await {
                    Ok(()) => continue,
                    Err(failure) => failure,
                },
                Err(Failure::OtherBearer) => continue,
                Err(failure) => failure,
            };
            let error = match error {
                Failure::Interrupted(why) if is_idempotent(method) => Failure::Unreachable(why),
                error => error,
            };
            let (kind, why) = match error {
                Failure::Unreachable(_)
                    if started.elapsed() < UNREACHABLE_TIMEOUT && !self.closing.is_cancelled() =>
                {
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(MAX_DELAY);
                    continue;
                }
                Failure::Unreachable(why) => (
                    BridgeError::EdgeUnreachable,
                    format!("the edge at {} is unreachable: {why}", self.origin()),
                ),
                Failure::SessionLost | Failure::OtherBearer => {
                    (BridgeError::EdgeRefused, "the session is lost; initialize again".into())
                }
                // A subscription never ends by itself: it continues on whichever edge answers next.
                Failure::Interrupted(_) | Failure::Final(_)
                    if method == "subscriptions/listen" && started.elapsed() > delay =>
                {
                    continue;
                }
                Failure::Interrupted(why) | Failure::Final(why) => (BridgeError::EdgeRefused, why),
            };
            return match message.kind() {
                Kind::Request => self.send_to_host(kind.render(message.id, &why)).await,
                _ => eprint(format!("cannot deliver a message: {why}")),
            };
        }
    }

    /// Closes the streams that would otherwise stay open for ever.
    pub fn close_streams(&self) {
        self.closing.cancel();
    }

    /// Deletes the session, on a best-effort basis.
    pub async fn delete_session(&self) {
        if self.session().id.is_some() {
            let request = self.request(Method::DELETE).timeout(Duration::from_secs(2));
            let _ = request.send().await;
        }
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Builds a request with the credential.
    fn authorized(&self, method: Method) -> RequestBuilder {
        self.http.request(method, self.url.clone()).bearer_auth(self.bearers.present().secret.expose())
    }

    /// Builds a request with the credential, and with the session if there is one.
    fn request(&self, method: Method) -> RequestBuilder {
        let request = self.authorized(method);
        let Session { id, version, .. } = self.session().clone();
        let request = match id {
            Some(id) => request.header(SESSION_ID, id),
            None => request,
        };
        match version {
            Some(version) => request.header(PROTOCOL_VERSION, version),
            None => request,
        }
    }

    async fn exchange(&self, line: &Bytes, message: &Envelope<'_>) -> std::result::Result<(), Failure> {
        let turn = self.bearers.turn();
        let response = self.post(line, message).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.bearers.pass_on(turn) {
            return Err(Failure::OtherBearer);
        }
        if response.status().is_success() {
            self.bearers.settle();
        }
        self.relay(response, message).await
    }

    async fn post(&self, line: &Bytes, message: &Envelope<'_>) -> std::result::Result<Response, Failure> {
        let request = if is_modern(message) {
            self.authorized(Method::POST).headers(self.tools.headers(message))
        } else {
            self.request(Method::POST)
        };
        let request =
            request.header(header::CONTENT_TYPE, JSON).header(header::ACCEPT, ACCEPT_BOTH).body(line.clone());
        request.send().await.map_err(failure)
    }

    /// Relays the response to a message.
    async fn relay(&self, response: Response, message: &Envelope<'_>) -> std::result::Result<(), Failure> {
        if response.status() == StatusCode::NOT_FOUND && !is_modern(message) && self.session().id.is_some() {
            return Err(Failure::SessionLost);
        }
        let is_events = content_type(&response).starts_with(EVENT_STREAM);
        if response.status() == StatusCode::ACCEPTED || message.kind() != Kind::Request {
            return if response.status().is_success() { Ok(()) } else { Err(self.refusal(response).await) };
        }
        if message.method.as_deref() == Some("initialize") {
            self.record_session(&response);
        }
        if is_events {
            return self.relay_events(response, message).await;
        }
        self.relay_json(response, message).await
    }

    async fn relay_json(
        &self,
        response: Response,
        message: &Envelope<'_>,
    ) -> std::result::Result<(), Failure> {
        let is_json = content_type(&response).starts_with(JSON);
        if !is_json {
            return Err(self.refusal(response).await);
        }
        let body = response.bytes().await.map_err(failure)?;
        match Envelope::parse(&body) {
            Ok(answer) if answer.id == message.id => {
                self.record_answer(&answer, message);
                self.send_to_host(body.clone()).await;
                Ok(())
            }
            Ok(answer) => Err(Failure::Final(
                error_message(&answer)
                    .unwrap_or_else(|| "the edge sent a response to another request".into()),
            )),
            Err(error) => Err(Failure::Final(format!("cannot parse the edge's response: {error}"))),
        }
    }

    async fn relay_events(
        &self,
        response: Response,
        message: &Envelope<'_>,
    ) -> std::result::Result<(), Failure> {
        let mut decoder = sse::Decoder::new(MAX_MESSAGE_BYTES);
        let mut chunks = response.bytes_stream();
        let broken = || Failure::Final("the connection broke before the response arrived".into());
        loop {
            let chunk = tokio::select! {
                chunk = chunks.next() => chunk.ok_or_else(broken)?.map_err(|_| broken())?,
                () = self.closing.cancelled(), if message.method.as_deref() == Some("subscriptions/listen") => return Ok(()),
            };
            decoder.push(chunk);
            while let Some(event) = decoder.next().map_err(|error| Failure::Final(error.to_string()))? {
                if self.relay_event(event.data, message).await {
                    return Ok(());
                }
            }
        }
    }

    /// Relays one message of a stream to the host. Returns whether it was the response.
    async fn relay_event(&self, data: Bytes, message: &Envelope<'_>) -> bool {
        let Ok(event) = Envelope::parse(&data) else { return false };
        let is_answer = event.kind() == Kind::Response && event.id == message.id;
        if is_answer {
            self.record_answer(&event, message);
        }
        self.send_to_host(data.clone()).await;
        is_answer
    }

    /// Reopens the session, unless another request has just done so.
    async fn reopen(self: &Arc<Self>, lost: u64) -> std::result::Result<(), Failure> {
        let _opening = self.opening.lock().await;
        let Session { initialize, generation, .. } = self.session().clone();
        if generation != lost {
            return Ok(());
        }
        let line = initialize.ok_or(Failure::SessionLost)?;
        (self.session().id, self.session().version) = (None, None);
        let request =
            self.request(Method::POST).header(header::CONTENT_TYPE, JSON).header(header::ACCEPT, ACCEPT_BOTH);
        let response = request.body(line).send().await.map_err(failure)?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        self.record_session(&response);
        let result = first_message(response).await?;
        let answer = Envelope::parse(&result).map_err(|error| Failure::Final(error.to_string()))?;
        self.record_version(answer.result);
        let done = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let request =
            self.request(Method::POST).header(header::CONTENT_TYPE, JSON).header(header::ACCEPT, ACCEPT_BOTH);
        request.body(done).send().await.map_err(failure)?;
        self.session().generation += 1;
        eprint("the edge no longer knew the session; the session was reopened");
        for notice in list_changed(answer.result) {
            self.send_to_host(notice).await;
        }
        Ok(())
    }

    fn record_session(&self, response: &Response) {
        self.session().id = response.headers().get(SESSION_ID).cloned();
    }

    fn record_version(&self, result: Option<&str>) {
        let version =
            result.and_then(|result| json::members(result, ["protocolVersion"]).ok().and_then(|[raw]| raw));
        let version =
            version.and_then(|raw| json::string(raw).ok()).and_then(|text| HeaderValue::from_str(&text).ok());
        self.session().version = version;
    }

    /// Records what later requests need from a response.
    fn record_answer(&self, answer: &Envelope<'_>, message: &Envelope<'_>) {
        match message.method.as_deref() {
            Some("initialize") => {
                self.record_version(answer.result);
                self.session().generation += 1;
            }
            Some("tools/list") if is_modern(message) => self.tools.learn(answer.result),
            _ => {}
        }
    }

    /// Relays the server's own stream (GET) for as long as the session lasts.
    async fn listen(self: Arc<Self>) {
        let mut delay = FIRST_DELAY;
        while !self.closing.is_cancelled() {
            let generation = self.session().generation;
            let request = self.request(Method::GET).header(header::ACCEPT, EVENT_STREAM);
            match request.send().await {
                Ok(response) if response.status().is_success() => {
                    delay = FIRST_DELAY;
                    self.relay_stream(response).await;
                }
                Ok(response) if response.status() == StatusCode::NOT_FOUND => {
                    let _ = self.reopen(generation).await;
                }
                // The edge has no such stream, or another client holds it.
                Ok(response) if response.status().is_client_error() => return,
                _ => {}
            }
            tokio::select! {
                () = tokio::time::sleep(delay) => delay = (delay * 2).min(MAX_DELAY),
                () = self.closing.cancelled() => return,
            }
        }
    }

    async fn relay_stream(&self, response: Response) {
        let mut decoder = sse::Decoder::new(MAX_MESSAGE_BYTES);
        let mut chunks = response.bytes_stream();
        loop {
            let chunk = tokio::select! {
                Some(Ok(chunk)) = chunks.next() => chunk,
                () = self.closing.cancelled() => return,
                else => return,
            };
            decoder.push(chunk);
            while let Ok(Some(event)) = decoder.next() {
                if Envelope::parse(&event.data).is_ok() {
                    self.send_to_host(event.data).await;
                }
            }
        }
    }

    /// Describes an error response of the edge without any secret of ours.
    async fn refusal(&self, response: Response) -> Failure {
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        let why = Envelope::parse(&body).ok().as_ref().and_then(error_message);
        let whose = self.bearers.present().whose;
        let hint = match status {
            StatusCode::UNAUTHORIZED => {
                format!("; {whose} is not valid (any more): create another with `mcpctl create token`")
            }
            StatusCode::NOT_FOUND => format!("; check that the server exists and that {whose} may call it"),
            _ => String::new(),
        };
        Failure::Final(format!(
            "the edge responded with {status}{}{hint}",
            why.map_or(String::new(), |why| format!(": {why}"))
        ))
    }
}

fn error_message(answer: &Envelope<'_>) -> Option<String> {
    let [message] = json::members(answer.error?, ["message"]).ok()?;
    Some(json::string(message?).ok()?.into_owned())
}

fn content_type(response: &Response) -> &str {
    response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Returns whether repeating a request that may have arrived is harmless.
fn is_idempotent(method: &str) -> bool {
    const IDEMPOTENT: [&str; 9] = [
        "ping",
        "server/discover",
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "prompts/list",
        "prompts/get",
        "completion/complete",
    ];
    IDEMPOTENT.contains(&method)
}

/// Classifies a transport error: a request that cannot have arrived may always be sent again.
fn failure(error: reqwest::Error) -> Failure {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_connect() {
        Failure::Unreachable(cause.to_string())
    } else {
        Failure::Interrupted(cause.to_string())
    }
}

/// Reads the response from a JSON body or an event stream.
async fn first_message(response: Response) -> std::result::Result<Bytes, Failure> {
    if !content_type(&response).starts_with(EVENT_STREAM) {
        return response.bytes().await.map_err(failure);
    }
    let mut decoder = sse::Decoder::new(MAX_MESSAGE_BYTES);
    let mut chunks = response.bytes_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        decoder.push(chunk);
        while let Ok(Some(event)) = decoder.next() {
            if Envelope::parse(&event.data).is_ok_and(|message| message.kind() == Kind::Response) {
                return Ok(event.data);
            }
        }
    }
    Err(Failure::Final("the connection broke before the response arrived".into()))
}

/// Builds `list_changed` notifications for the kinds of lists whose changes the edge announces.
fn list_changed(result: Option<&str>) -> Vec<Bytes> {
    let capabilities =
        result.and_then(|result| json::members(result, ["capabilities"]).ok().and_then(|[raw]| raw));
    let kinds = ["tools", "resources", "prompts"];
    let offered = capabilities.and_then(|raw| json::members(raw, kinds).ok()).unwrap_or_default();
    let announces = |offer: Option<&str>| {
        let told = offer.and_then(|offer| json::members(offer, ["listChanged"]).ok().and_then(|[raw]| raw));
        told == Some("true")
    };
    let notice =
        |kind| Bytes::from(format!(r#"{{"jsonrpc":"2.0","method":"notifications/{kind}/list_changed"}}"#));
    kinds
        .into_iter()
        .zip(offered)
        .filter(|(_, offer)| announces(*offer))
        .map(|(kind, _)| notice(kind))
        .collect()
}
