//! A Streamable HTTP client for one host: sends raw messages, and waits for an edge that is unreachable for a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use mcp::client::TlsMaterial;
use mcp::header::{ACCEPT_BOTH, JSON, PROTOCOL_VERSION, SESSION_ID};
use mcp::message::{Envelope, Kind};
use reqwest::{RequestBuilder, Response};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bridge::connect::attempts::{Attempts, Failure, Next, failure};
use crate::bridge::connect::bearers::{Bearers, OwnedBearer};
use crate::bridge::connect::headers::{MirroredParams, is_modern};
use crate::bridge::connect::session::Session;
use crate::bridge::errors::BridgeError;
use crate::client::unmet;
use crate::error::{Error, Result};
use crate::output::eprint;

/// The server to connect to, and the credentials for it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The URL of a server on an edge.
    pub url: url::Url,
    /// The bearers that may be presented, best first. There is at least one.
    pub bearers: Vec<OwnedBearer>,
    /// What it brings to TLS.
    pub tls: TlsMaterial,
}

/// The connection to the edge on behalf of one host.
pub struct Connection {
    http: reqwest::Client,
    url: url::Url,
    pub(super) bearers: Bearers,
    to_host: mpsc::Sender<Bytes>,
    session: Mutex<Session>,
    /// Held while a session is being reopened, so that concurrent requests reopen it only once.
    pub(super) opening: tokio::sync::Mutex<()>,
    pub(super) tools: MirroredParams,
    pub(super) closing: CancellationToken,
}

impl Connection {
    /// Prepares a connection without sending anything.
    pub fn new(target: Target, to_host: mpsc::Sender<Bytes>) -> Result<Arc<Self>> {
        let mut http = reqwest::Client::builder();
        if mcp::endpoint::is_loopback(&target.url) {
            http = http.no_proxy();
        }
        let unusable = |error| Error::failure(format!("cannot create an HTTP client: {error}"));
        if target.url.scheme() == "https" {
            http = target.tls.put_into(http).map_err(unusable)?;
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
        let mut attempts = Attempts::new(method);
        loop {
            let Err(failure) = self.attempt(&line, &message).await else { break };
            match attempts.next(failure, &self.origin(), self.closing.is_cancelled()) {
                Next::Again(pause) => tokio::time::sleep(pause).await,
                Next::Never(kind, why) => return self.give_up(&message, kind, &why).await,
            }
        }
        if method == "notifications/initialized" {
            tokio::spawn(self.clone().listen());
        }
    }

    /// Sends a message once. If the edge does not know the session, there is another one afterwards.
    async fn attempt(
        self: &Arc<Self>,
        line: &Bytes,
        message: &Envelope<'_>,
    ) -> std::result::Result<(), Failure> {
        let generation = self.session().generation;
        match self.exchange(line, message).await {
            Err(Failure::SessionLost) => {
                self.reopen(generation).await?;
                Err(Failure::Renewed)
            }
            done => done,
        }
    }

    /// Says that a message did not get through: to the host, if it waits for a response.
    async fn give_up(&self, message: &Envelope<'_>, kind: BridgeError, why: &str) {
        match message.kind() {
            Kind::Request => self.send_to_host(kind.render(message.id, why)).await,
            _ => eprint(format!("cannot deliver a message: {why}")),
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

    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Builds a request with the credential.
    fn authorized(&self, method: Method) -> RequestBuilder {
        let request = self.http.request(method, self.url.clone());
        match self.bearers.present().secret {
            // Whoever has none presents a certificate.
            none if none.expose().is_empty() => request,
            secret => request.bearer_auth(secret.expose()),
        }
    }

    /// Builds a request with the credential, and with the session if there is one.
    pub(super) fn request(&self, method: Method) -> RequestBuilder {
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
        let mut response = self.post(line, message).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && self.bearers.pass_on(turn, "is not valid any more")
        {
            return Err(Failure::Renewed);
        }
        if response.status() == StatusCode::FORBIDDEN {
            let (refused, is_by_condition) = looked_at(response).await?;
            if is_by_condition && self.bearers.pass_on(turn, "may not be used here and now") {
                return Err(Failure::Renewed);
            }
            response = refused;
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
}

/// Looks whether a condition of the token refuses. Returns the response as it came.
async fn looked_at(response: Response) -> std::result::Result<(Response, bool), Failure> {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.bytes().await.map_err(failure)?;
    let is_by_condition = unmet::is_by_condition(&body);
    let mut same = http::Response::new(body);
    (*same.status_mut(), *same.headers_mut()) = (status, headers);
    Ok((same.into(), is_by_condition))
}
