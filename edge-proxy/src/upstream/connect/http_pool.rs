//! The warm HTTP/1.1 connections of one worker to one upstream, each with one request at a time.
//!
//! It must not know what is sent on them. Where requests go that the upstream redirects is in `redirects`.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use egress::ResolveError;
use http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use inbound::Reservation;
use mcp::quirk::Quirk;
use mcp::redirect;
use mcp::secrets::Secrets;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::http_response::HttpResponse;
use super::keeps::{Closed, Idle, Keeps};
use super::redirects::{Redirect, Redirected};
use super::upstream_connection::{IdleConnection, UpstreamConnection, closed_before_response, fault_of};
use crate::error::Fault;
use crate::fleet::Waiters;
use crate::observe::Metrics;
use crate::snapshot::Upstream;
use crate::tunnels::TunnelStream;
use crate::upstream::quirk_sink::QuirkSink;
use crate::upstream::{Environment, SessionLosses};

const MAX_IDLE: usize = 256;
const AGENT: &str = concat!("trunkline/", env!("CARGO_PKG_VERSION"));

/// The connections of one worker to one upstream.
pub(in crate::upstream) struct HttpPool {
    environment: Arc<Environment>,
    pub(super) upstream: Box<str>,
    host: String,
    port: u16,
    tls: Option<ServerName<'static>>,
    dials_in: Option<Box<str>>,
    /// The scheme and authority of its URL.
    pub(super) origin: Box<str>,
    pub(super) target: Uri,
    pub(super) redirected: Redirected,
    /// The headers of every request, those of the upstream's kind and its credential included.
    pub headers: HeaderMap,
    /// Where its quirks are noted.
    pub quirks: Rc<QuirkSink>,
    keeps: Cell<Keeps>,
    /// Those without a request, the latest at the end.
    idle: RefCell<Vec<IdleConnection>>,
    used: Cell<Instant>,
    refused_before: Cell<bool>,
    watches_reports: Cell<bool>,
}

/// A connection that returns to the pool when its response is read.
pub(in crate::upstream) struct PooledConnection {
    http_pool: Rc<HttpPool>,
    connection: UpstreamConnection,
    /// Whether it carried another request before.
    reused: bool,
    /// The kind of the request that it has.
    carries: Retry,
    /// False if the upstream said that it closes it.
    stays: bool,
}

/// Whether a request may be sent again when it is unknown whether it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum Retry {
    /// Sending it twice has the effect of sending it once.
    Safe,
    /// Only if it was never sent.
    IfUnsent,
}

impl HttpPool {
    /// Creates the pool of an upstream, of whose kind all requests carry `kind_headers`, without connecting.
    pub(in crate::upstream) fn new(
        environment: Arc<Environment>,
        upstream: &Upstream,
        kind_headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
    ) -> Result<Self, Fault> {
        let bad = |what: &str| Fault::Connect(format!("its URL has {what}"));
        let url =
            upstream.credential.url(upstream.reach.url()).map_err(|_| bad("a path that is not valid"))?;
        let authority = url.authority().ok_or_else(|| bad("no host"))?;
        let secure = matches!(url.scheme_str(), Some("https" | "wss"));
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = secure
            .then(|| ServerName::try_from(host.clone()))
            .transpose()
            .map_err(|_| bad("a host that is not valid"))?;
        let secrets = secrets_of(&url, &upstream.credential.headers);
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = HeaderMap::new();
        // The user info of a URL is no part of Host.
        let name = authority.as_str().rsplit('@').next().unwrap_or_default();
        headers.insert(HOST, HeaderValue::from_str(name).map_err(|_| bad("a host that is not valid"))?);
        let origin = format!("{}://{name}", url.scheme_str().unwrap_or("http"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.extend(kind_headers);
        headers.extend(upstream.credential.headers.clone());
        let metrics = Arc::clone(&environment.metrics);
        Ok(Self {
            quirks: Rc::new(QuirkSink::new(&upstream.id, secrets, metrics)),
            environment,
            upstream: upstream.id.clone(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            host,
            tls,
            dials_in: upstream.reach.is_tunnel().then(|| upstream.uid.clone()),
            origin: origin.into(),
            target: path.parse().map_err(|_| bad("a path that is not valid"))?,
            redirected: Redirected::default(),
            headers,
            keeps: Cell::default(),
            idle: RefCell::default(),
            used: Cell::new(Instant::now()),
            refused_before: Cell::new(false),
            watches_reports: Cell::new(false),
        })
    }

    /// Sends one request and waits for the head of its response. `timeout` applies until its first byte, and then
    /// between two bytes. Redirects within the origin of the upstream are followed.
    pub(in crate::upstream) async fn send(
        self: &Rc<Self>,
        method: &Method,
        headers: HeaderMap,
        body: Bytes,
        retry: Retry,
        timeout: Duration,
    ) -> Result<HttpResponse, Fault> {
        let first = if self.redirected.is_settled() {
            let sent = self.send_to(&self.target, method, &headers, body.clone(), retry, timeout);
            let response = sent.await?;
            if !response.status.is_redirection() {
                return Ok(response);
            }
            // It has begun to redirect.
            self.redirected.unsettle();
            Some(response)
        } else {
            None
        };
        Box::pin(self.send_redirected(first, method, &headers, &body, retry, timeout)).await
    }

    /// Sends one request to a path of the upstream, and follows no redirects.
    pub(in crate::upstream) async fn send_to(
        self: &Rc<Self>,
        target: &Uri,
        method: &Method,
        headers: &HeaderMap,
        body: Bytes,
        retry: Retry,
        timeout: Duration,
    ) -> Result<HttpResponse, Fault> {
        let answered = self.exchange(target, method, headers, body, retry);
        let (response, connection) =
            tokio::time::timeout(timeout, answered).await.map_err(|_| Fault::Timeout)??;
        Ok(HttpResponse::new(response, connection, timeout))
    }

    /// Begins the reservation of memory for a response, from the share of this upstream.
    pub(super) fn reservation(&self) -> Reservation {
        self.environment.bodies.reservation((&self.host, self.port))
    }

    /// Upgrades a connection to a WebSocket of this subprotocol, with a request that carries `headers`. Redirects within the
    /// origin of the upstream are followed.
    pub(in crate::upstream) async fn upgrade(
        self: &Rc<Self>,
        mut headers: HeaderMap,
        subprotocol: &'static str,
    ) -> Result<TokioIo<Upgraded>, Fault> {
        let refused = |what: &str| Fault::Session(format!("its WebSocket handshake has {what}"));
        let key = generate_key();
        let accept = derive_accept_key(key.as_bytes());
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(key).map_err(|_| refused("no key"))?);
        let response = self.request_upgrade(headers).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Fault::Status(response.status().as_u16()));
        }
        if response.headers().get(SEC_WEBSOCKET_ACCEPT).is_none_or(|found| *found != *accept) {
            return Err(refused("a Sec-WebSocket-Accept that does not match"));
        }
        // Servers that know no subprotocols are accepted as well.
        match response.headers().get(SEC_WEBSOCKET_PROTOCOL) {
            None => self.quirks.note(Quirk::NoSubprotocol, ""),
            Some(chosen) if chosen == subprotocol => {}
            Some(_) => return Err(refused("a subprotocol that was not offered")),
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| fault_of(&error))?;
        Ok(TokioIo::new(upgraded))
    }

    /// Requests an upgrade, where the upstream redirects it to; returns the response.
    async fn request_upgrade(self: &Rc<Self>, headers: HeaderMap) -> Result<Response<Incoming>, Fault> {
        let mut target = Cow::Borrowed(&self.target);
        for hops in 1.. {
            let mut connection = Box::pin(self.connect_in_time()).await?;
            let request = request(&target, &Method::GET, headers.clone(), Bytes::new());
            let response = connection.sender.send_request(request).await.map_err(|error| fault_of(&error))?;
            if !redirect::is_redirect(response.status().as_u16()) {
                return Ok(response);
            }
            let (status, headers) = (response.status(), response.headers());
            let redirect = Redirect { target: &target, status, headers, hops, retry: Retry::Safe };
            match redirect.next_target(self) {
                Some(next) => target = Cow::Owned(next),
                None => return Ok(response),
            }
        }
        Err(Fault::Interrupted)
    }

    /// The size of the largest message that is read.
    pub(in crate::upstream) fn max_message(&self) -> usize {
        self.environment.limits.max_event_bytes
    }

    /// The size of the largest response that is one message.
    pub(in crate::upstream) fn max_answer(&self) -> usize {
        self.environment.limits.max_answer_bytes
    }

    /// The size of the largest message of a client.
    pub(in crate::upstream) fn max_request(&self) -> usize {
        self.environment.limits.max_body_bytes
    }

    /// The counters and gauges of the edge.
    pub(in crate::upstream) fn metrics(&self) -> &Arc<Metrics> {
        &self.environment.metrics
    }

    /// The sessions that upstreams have lost.
    pub(in crate::upstream) fn session_losses(&self) -> &SessionLosses {
        &self.environment.session_losses
    }

    /// The calls that wait at this edge.
    pub(in crate::upstream) fn waiters(&self) -> &Arc<Waiters> {
        self.environment.fleet.waiters()
    }

    async fn exchange(
        self: &Rc<Self>,
        target: &Uri,
        method: &Method,
        headers: &HeaderMap,
        body: Bytes,
        retry: Retry,
    ) -> Result<(Response<Incoming>, PooledConnection), Fault> {
        let mut request = request(target, method, headers.clone(), body.clone());
        loop {
            let (mut connection, idle) = self.checkout(retry).await?;
            let mut failed = match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    let stays = self.keeps.get() == Keeps::Proven || self.learn(&response, idle);
                    let http_pool = Rc::clone(self);
                    let reused = idle.is_some();
                    let connection =
                        PooledConnection { http_pool, connection, carries: retry, reused, stays };
                    return Ok((response, connection));
                }
                Err(failed) => failed,
            };
            let (reused, unsent) = (idle.is_some(), failed.take_message());
            let closed = closed_before_response(failed.error());
            if reused && closed {
                self.note_closed(Closed::InUse, connection.opened);
            }
            // A connection that the upstream closed while it was idle says nothing about the upstream.
            request = match unsent {
                Some(unsent) if reused => unsent,
                None if reused && closed && retry == Retry::Safe => {
                    self::request(target, method, headers.clone(), body.clone())
                }
                _ => return Err(fault_of(&failed.into_error())),
            };
        }
    }

    /// Takes an idle connection or opens one; returns it, and how it was idle.
    async fn checkout(self: &Rc<Self>, retry: Retry) -> Result<(UpstreamConnection, Option<Idle>), Fault> {
        self.used.set(Instant::now());
        while let Some(mut idle) = self.take_idle(retry) {
            let lasted = idle.lasted();
            if lasted >= self.environment.limits.upstream_idle || idle.connection.is_retired() {
                continue;
            }
            let sender = &mut idle.connection.sender;
            if !sender.is_closed() && (sender.is_ready() || sender.ready().await.is_ok()) {
                return Ok((idle.connection, Some(Idle { lasted, after: idle.after })));
            }
            self.note_closed(Closed::Idle(idle.lasted()), idle.connection.opened);
        }
        // Boxed, as all that most calls do not need: each call would carry its state otherwise.
        Ok((Box::pin(self.connect_in_time()).await?, None))
    }

    /// Takes the connection that was used last; until the upstream is known to keep them, the one that has lasted longest.
    fn take_idle(&self, retry: Retry) -> Option<IdleConnection> {
        let mut idle = self.idle.borrow_mut();
        if self.quirks.has_met(Quirk::IdsMissing) {
            // A late response to the request before could not be told from the one to this request.
            idle.clear();
            return None;
        }
        if self.keeps.get() == Keeps::Proven {
            return idle.pop();
        }
        let keeps = self.keeps.get().at(Instant::now());
        self.keeps.set(keeps);
        let may_reuse = idle.first().is_some_and(|oldest| keeps.may_reuse(oldest.since.elapsed(), retry));
        may_reuse.then(|| idle.remove(0))
    }

    /// Learns from a response on a connection, and how that was idle before. Returns whether the connection stays open, as far as
    /// the upstream says.
    #[cold]
    fn learn(&self, response: &Response<Incoming>, idle: Option<Idle>) -> bool {
        let keeps = idle.map_or(self.keeps.get(), |idle| self.keeps.get().answered(idle));
        self.keeps.set(keeps);
        let said = response.headers().get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        let said = said.flat_map(|value| value.split(',')).map(str::trim);
        let old = response.version() < Version::HTTP_11;
        match said
            .into_iter()
            .find(|word| ["close", "keep-alive"].iter().any(|known| word.eq_ignore_ascii_case(known)))
        {
            Some(word) => !word.eq_ignore_ascii_case("close"),
            None => !old,
        }
    }

    /// Notes that a connection, open since `opened`, was closed, of which nothing was said.
    #[cold]
    fn note_closed(&self, closed: Closed, opened: Instant) {
        let (before, now) = (self.keeps.get(), Instant::now());
        let keeps = before.closed(closed, opened, now);
        self.keeps.set(keeps);
        if keeps != before && matches!(keeps, Keeps::Never { .. }) {
            self.quirks.note(Quirk::ClosesConnections, "");
            self.idle.borrow_mut().clear();
        }
    }

    async fn connect_in_time(self: &Rc<Self>) -> Result<UpstreamConnection, Fault> {
        let connect_in_time =
            tokio::time::timeout(self.environment.limits.connect_timeout, self.connect()).await;
        let late = if self.dials_in.is_some() {
            "no connection through a tunnel in time; check that a tunnel is open"
        } else {
            "no connection in time"
        };
        connect_in_time.unwrap_or_else(|_| Err(Fault::Connect(late.to_owned())))
    }

    async fn connect(self: &Rc<Self>) -> Result<UpstreamConnection, Fault> {
        if let Some(uid) = &self.dials_in {
            return match self.environment.tunnels.connect(&self.environment.fleet, uid).await? {
                TunnelStream::Local(stream) => UpstreamConnection::begin(stream).await,
                TunnelStream::Remote(stream, retired) => {
                    self.watch_reports();
                    let mut connection = UpstreamConnection::begin(stream).await?;
                    connection.retired = Some(retired);
                    Ok(connection)
                }
            };
        }
        let failed = |error: std::io::Error| Fault::Connect(error.to_string());
        let found = self.environment.resolver.resolve(&self.host, self.port).await;
        let addresses = found.map_err(|error| self.unresolved(&error))?;
        let stream = TcpStream::connect(&addresses[..]).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        match &self.tls {
            None => UpstreamConnection::begin(stream).await,
            Some(name) => {
                let connector = TlsConnector::from(Arc::clone(&self.environment.tls));
                UpstreamConnection::begin(connector.connect(name.clone(), stream).await.map_err(failed)?)
                    .await
            }
        }
    }

    /// Closes idle connections through other edges as soon as those say that their tunnels end: they wait for it.
    #[cold]
    fn watch_reports(self: &Rc<Self>) {
        if self.watches_reports.replace(true) {
            return;
        }
        let (pool, mut reports) = (Rc::downgrade(self), self.environment.tunnels.reports());
        tokio::task::spawn_local(async move {
            while reports.changed().await.is_ok() {
                let Some(pool) = pool.upgrade() else { return };
                pool.idle.borrow_mut().retain(|idle| !idle.connection.is_retired());
            }
        });
    }

    fn unresolved(&self, error: &ResolveError) -> Fault {
        let ResolveError::Refused { refusal, .. } = error else { return Fault::Connect(error.to_string()) };
        self.environment.metrics.egress_refused(refusal.class).inc();
        // Callers must not be able to fill the log.
        if !self.refused_before.replace(true) {
            tracing::warn!(upstream = &*self.upstream, %error, "refused to connect to an upstream");
        }
        Fault::NotAllowed(self.environment.fleet.waiters().edge().into())
    }

    /// Closes connections that were idle too long. Returns whether none is left and none was used for `unused`.
    pub(in crate::upstream) fn sweep(&self, unused: Duration) -> bool {
        let limit = self.environment.limits.upstream_idle;
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| !idle.connection.sender.is_closed() && idle.since.elapsed() < limit);
        idle.is_empty() && self.used.get().elapsed() > unused
    }
}

fn request(target: &Uri, method: &Method, headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method.clone();
    *request.uri_mut() = target.clone();
    *request.headers_mut() = headers;
    request
}

/// The secrets of requests to an upstream.
fn secrets_of(url: &Uri, headers: &HeaderMap) -> Secrets {
    let url = Url::parse(&url.to_string());
    url.map_or_else(|_| Secrets::default(), |url| Secrets::of_request(&url, headers))
}

impl PooledConnection {
    /// The pool that the connection belongs to.
    pub(super) fn pool(&self) -> Rc<HttpPool> {
        Rc::clone(&self.http_pool)
    }

    /// Whether it carried another request before.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// What is set when the way to the upstream is about to end.
    pub(super) fn retirement(&self) -> Option<CancellationToken> {
        self.connection.retired.clone()
    }

    /// Returns the connection to the pool: its response was read to the end.
    pub(in crate::upstream) fn release(self) {
        let Self { http_pool, connection, carries, reused: _, stays } = self;
        if connection.is_retired() {
            return;
        }
        if connection.sender.is_closed() {
            if stays {
                http_pool.note_closed(Closed::Idle(Duration::ZERO), connection.opened);
            }
            return;
        }
        let mut idle = http_pool.idle.borrow_mut();
        if stays && idle.len() < MAX_IDLE {
            idle.push(IdleConnection { connection, since: Instant::now(), after: carries });
        }
    }
}
